import copy
import sys
import warnings

import pytest
import torch
from torch.nn.functional import normalize

from tests.helpers import NAMES, WordEncoder, needs_offline, related_classes
from timm_inject import WeakClassWarning, inject, injection_record
from timm_inject.calibration.estimates import NameEstimates, estimate_names
from timm_inject.mappers import fit_and_crossfit


def _known(descriptors, rows, seed=0):
    """Which mapper was fitted plays no part."""
    return fit_and_crossfit("mean-row", descriptors, rows, feature_dim=23, seed=seed)


def _estimate(seen, new, seed=0, new_rows=None):
    descriptors, rows = related_classes(num_classes=seen + new)
    new_rows = rows[seen:] if new_rows is None else new_rows
    return estimate_names(_known(descriptors[:seen], rows[:seen], seed), descriptors[seen:], new_rows)


def test_shapes_ranges_and_seeds():
    one, again, other = _estimate(60, 7), _estimate(60, 7), _estimate(60, 7, seed=1)
    for values in (one.accuracy, one.zsl_accuracy):
        assert values.shape == (7,)
        assert values.min() >= 0
        assert values.max() <= 1
    assert torch.equal(one.accuracy, again.accuracy)
    assert not torch.equal(one.accuracy, other.accuracy)
    assert (one.zsl_accuracy >= one.accuracy).all()


def test_good_rows_are_told_from_random_ones():
    torch.manual_seed(0)
    good, bad = _estimate(60, 10), _estimate(60, 10, new_rows=torch.randn(10, 24))
    assert good.zsl_accuracy.mean() > bad.zsl_accuracy.mean() + 0.2


def test_names_that_are_alike_are_less_likely_to_work():
    descriptors, rows = related_classes(num_classes=80)
    known = _known(descriptors[:70], rows[:70])
    varied = estimate_names(known, descriptors[70:], rows[70:])
    # Ten texts that hardly differ: whatever rows they get, the text cannot tell which is which.
    alike = normalize(descriptors[70] + 0.02 * torch.randn(10, descriptors.shape[1], generator=torch.Generator().manual_seed(0)))
    close = estimate_names(known, alike, rows[70:])
    assert close.zsl_accuracy.mean() < varied.zsl_accuracy.mean()


def test_the_head_may_lack_a_bias_and_know_more_classes_than_are_used(monkeypatch):
    monkeypatch.setattr("timm_inject.calibration.estimates._MAX_SEEN", 30)
    descriptors, rows = related_classes(num_classes=65)
    result = estimate_names(_known(descriptors[:60], rows[:60, :23]), descriptors[60:], rows[60:, :23])
    assert result.accuracy.shape == (5,)


@pytest.fixture
def warned(small_model):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", WeakClassWarning)
        inject(small_model, ["okapi", "electric scooter"], encoder=WordEncoder())
    return injection_record(small_model), [str(entry.message) for entry in caught]


def test_rows_without_a_calibration_are_not_called_weak(small_model):
    """They were not made to win anything yet; their figures are kept."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", WeakClassWarning)
        inject(small_model, ["okapi", "electric scooter"], encoder=WordEncoder(), calibration=None)
    assert not any("unlikely to work" in str(entry.message) for entry in caught)
    for entry in injection_record(small_model).classes:
        assert entry.warning is None
        assert entry.confidence is not None


def test_inject_warns_with_the_figure(warned):
    record, (few, weak, bare) = warned
    known = f"The head knows {len(NAMES)} classes, and a mapper learns little from fewer than 25. "
    assert few.startswith(f"{known}Hidden in turn, they reach a harmonic mean of ")
    assert f"a harmonic mean of {record.self_score['harmonic_mean']:.0%} (self-score)" in few
    assert weak.startswith("2 of 2 new classes are unlikely to work, estimated without images: ")
    assert "`evaluate`" in weak
    for entry in record.classes:
        assert f"{entry.name!r} ({entry.confidence:.0%} of its own images)" in weak
        assert (
            entry.warning
            == f"estimated to win {entry.confidence:.0%} of its own images over all classes, and "
            + (entry.warning.partition("over all classes, and ")[2])
        )
        assert {name for name, _ in entry.leans_on} <= set(NAMES)
    assert bare.startswith("No description was found for 1 of 2 new classes: 'electric scooter'. Names alone do much worse.")


def test_names_alone_that_are_asked_for_or_that_all_classes_have_are_no_cause_to_warn(small_model):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", WeakClassWarning)
        inject(copy.deepcopy(small_model), ["electric scooter"], encoder=WordEncoder(), descriptions=None)
        names = [f"unit {letter}" for letter in "abcdefghij"]
        inject(small_model, ["electric scooter"], encoder=WordEncoder(), seen_class_names=names)
    assert [entry for entry in caught if "No description" in str(entry.message)] == []


def test_a_class_injected_before_that_becomes_doubtful_is_named(small_model, monkeypatch):
    def foretell(*values):
        share = torch.tensor(values)
        monkeypatch.setattr(sys.modules["timm_inject.inject"], "estimate_names", lambda *_, **__: NameEstimates(share, share))

    def doubts(names):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", WeakClassWarning)
            inject(small_model, names, encoder=WordEncoder())
        return [str(entry.message) for entry in caught if "unlikely to work" in str(entry.message)]

    foretell(0.5, 0.2)
    (message,) = doubts(["okapi", "dahlia"])
    assert message.startswith("1 of 2 new classes are unlikely to work, estimated without images: 'dahlia' (20% of its own images)")
    foretell(0.15, 0.1, 0.9)
    (message,) = doubts(["galaxy"])  # dahlia was named before
    assert message.startswith("1 of the classes injected before are unlikely to work, estimated without images: 'okapi' (15% ")


def test_as_an_error_the_warning_leaves_the_model_as_it_was(small_model):
    before = copy.deepcopy(small_model.state_dict())
    with warnings.catch_warnings():
        warnings.simplefilter("error", WeakClassWarning)
        with pytest.raises(WeakClassWarning, match="The head knows 10 classes"):
            inject(small_model, ["okapi"], encoder=WordEncoder())
    assert all(torch.equal(before[key], value) for key, value in small_model.state_dict().items())


def test_two_injections_foretell_what_one_does(small_model):
    once = copy.deepcopy(small_model)
    inject(once, ["okapi", "electric scooter"], encoder=WordEncoder())
    inject(small_model, ["okapi"], encoder=WordEncoder())
    inject(small_model, ["electric scooter"], encoder=WordEncoder())
    assert injection_record(small_model).classes == injection_record(once).classes


@needs_offline
def test_real_names(packaged_model):
    """Varied names are expected to work on an ImageNet head, ten kinds of one flower are not."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", WeakClassWarning)
        tulips = [f"{color} tulip" for color in ("red", "white", "yellow", "pink", "orange", "purple", "black", "blue")]
        inject(packaged_model, ["dahlia", "okapi", *tulips])
    confidence = {entry.name: entry.confidence for entry in injection_record(packaged_model).classes}
    assert confidence["okapi"] > 0.25
    assert sum(confidence[name] for name in tulips) / len(tulips) < 0.25
    message, bare = {str(entry.message): None for entry in caught}
    assert "tulip" in message
    assert bare.startswith("No description was found for 8 of 10 new classes: ")
