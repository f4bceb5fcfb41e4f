import copy
import json
import sys
import warnings

import pytest
import torch
from torch.nn.functional import normalize

from tests.helpers import NAMES, WordEncoder, needs_offline, related_classes
from timm_inject import (
    ArgumentTypeError,
    ArgumentValueError,
    MapperError,
    WeakClassWarning,
    fit_mapper,
    inject,
    injection_record,
    save_for_hf,
    self_score,
)
from timm_inject.calibration.estimates import FAR, HARDLY, NO_TEXT, WELL, NameEstimates, _compare_rows, estimate_names
from timm_inject.calibration.rows import usual_num_new
from timm_inject.cli.main import main
from timm_inject.mappers.fitting import fit_and_crossfit


def _fit(descriptors, rows, feature_dim=23, seed=0):
    return fit_and_crossfit("kernel-ridge", descriptors, rows, feature_dim=feature_dim, seed=seed)


def _estimate(seen, new, seed=0, new_rows=None):
    descriptors, rows = related_classes(num_classes=seen + new)
    new_rows = rows[seen:] if new_rows is None else new_rows
    return estimate_names(_fit(descriptors[:seen], rows[:seen], seed=seed), descriptors[seen:], new_rows)


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
    varied = estimate_names(_fit(descriptors[:70], rows[:70]), descriptors[70:], rows[70:])
    # Ten texts that hardly differ: whatever rows they get, the text cannot tell which is which.
    alike = normalize(descriptors[70] + 0.02 * torch.randn(10, descriptors.shape[1], generator=torch.Generator().manual_seed(0)))
    close = estimate_names(_fit(descriptors[:70], rows[:70]), alike, rows[70:])
    assert close.zsl_accuracy.mean() < varied.zsl_accuracy.mean()


def test_the_head_may_lack_a_bias_and_know_more_classes_than_are_used(monkeypatch):
    monkeypatch.setattr("timm_inject.calibration.estimates._MAX_SEEN", 30)
    descriptors, rows = related_classes(num_classes=65)
    result = estimate_names(_fit(descriptors[:60], rows[:60, :23]), descriptors[60:], rows[60:, :23])
    assert result.accuracy.shape == (5,)


def test_of_many_names_a_sample_is_estimated(monkeypatch):
    monkeypatch.setattr("timm_inject.calibration.estimates.MAX_NAMES", 5)
    told = _estimate(60, 12)
    assert int(told.accuracy.isnan().sum()) == int(told.zsl_accuracy.isnan().sum()) == 7
    assert 0 <= told.group_accuracy <= told.group_zsl_accuracy <= 1
    assert len(told.verdicts) == 12


def test_the_rivals_of_a_sample_are_all_new_names(monkeypatch):
    """Every name has a twin with a longer row, which is in the sample or not."""
    descriptors, rows = related_classes(num_classes=66)
    mean = rows[:60].mean(0)
    twins = torch.cat([rows[60:], mean + 3 * (rows[60:] - mean)])
    texts = torch.cat([descriptors[60:], descriptors[60:]])
    monkeypatch.setattr("timm_inject.calibration.estimates.MAX_NAMES", 6)
    told = estimate_names(_fit(descriptors[:60], rows[:60]), texts, twins)
    short = told.zsl_accuracy[:6]
    assert short[~short.isnan()].mean() < 0.2


def test_few_names_have_no_figures_of_their_own():
    assert not _estimate(60, 3).ranks
    assert _estimate(60, 10).ranks


def test_words_say_what_the_text_and_the_row_say():
    descriptors, rows = related_classes(num_classes=61)
    fitted = _fit(descriptors[:60], rows[:60])
    stranger = -descriptors[:60].mean(0)
    texts = torch.stack([descriptors[60], stranger, descriptors[7], descriptors[60]])
    new_rows = torch.stack([rows[60], rows[60], rows[7], rows[60]])
    names = [f"kind {index}" for index in range(60)]
    told = estimate_names(fitted, texts, new_rows, seen_names=names, has_text=[True, True, True, False])
    assert told.verdicts[0] in (WELL, HARDLY)
    assert told.verdicts[1:] == (FAR, "nearly the same as 'kind 7'", NO_TEXT)
    assert estimate_names(fitted, texts, new_rows).verdicts[2] == "nearly the same as 'class 7'"


@pytest.mark.parametrize(
    ("ranks", "expected"),
    [
        (True, "hardly told apart: estimated to win 10% of its own images, 20% among the new classes alone"),
        (False, "hardly told apart"),
    ],
)
def test_doubts_have_figures_only_where_these_rank(ranks, expected):
    told = NameEstimates(
        torch.tensor([0.9, 0.1, 0.9, 0.9]), torch.tensor([0.9, 0.2, 0.9, 0.9]), (WELL, HARDLY, FAR, NO_TEXT), ranks
    )
    assert told.doubts() == [None, expected, FAR, None]


def test_inject_warns_in_words(small_model):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", WeakClassWarning)
        inject(small_model, ["okapi", "zorbulator"], encoder=WordEncoder())
    record, messages = injection_record(small_model), [str(entry.message) for entry in caught]
    known = f"The head knows {len(NAMES)} classes, and a mapper learns little from fewer than 25. "
    assert any(text.startswith(f"{known}Hidden in turn, they reach a harmonic mean of ") for text in messages)
    assert any(text.startswith("No description was found for 1 of 2 new classes: 'zorbulator'.") for text in messages)
    assert [entry.confidence for entry in record.classes] == [None, None]
    for entry in record.classes:
        assert entry.warning is None or any(f"{entry.name!r} ({entry.warning})" in text for text in messages)
        assert {name for name, _ in entry.leans_on} <= set(NAMES)


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
        told = NameEstimates(share, share, tuple(HARDLY if value < 0.25 else WELL for value in values))
        monkeypatch.setattr(sys.modules["timm_inject.inject"], "estimate_names", lambda *_, **__: told)

    def doubts(names):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", WeakClassWarning)
            inject(small_model, names, encoder=WordEncoder())
        return [str(entry.message) for entry in caught if "unlikely to work" in str(entry.message)]

    foretell(0.5, 0.2)
    (message,) = doubts(["okapi", "dahlia"])
    assert message.startswith("1 of 2 new classes are unlikely to work, estimated without images: 'dahlia' (hardly told apart")
    foretell(0.15, 0.1, 0.9)
    (message,) = doubts(["galaxy"])  # dahlia was named before
    assert message.startswith("1 of the classes injected before are unlikely to work, estimated without images: 'okapi' (hardly ")


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


def test_scores_and_classes(small_model):
    before = copy.deepcopy(small_model.state_dict())
    score = self_score(small_model, encoder=WordEncoder(), mapper="ridge")
    assert all(torch.equal(before[key], value) for key, value in small_model.state_dict().items())
    for figure in (score.zsl_accuracy, score.seen_accuracy, score.unseen_accuracy, score.harmonic_mean, score.moved_share):
        assert 0 <= figure <= 1
    assert [entry.name for entry in score.classes] == NAMES
    assert (score.num_seen, score.num_new, score.mapper, score.calibration) == (10, 2, "ridge", "balanced")
    assert all(1 <= entry.rank <= 10 for entry in score.classes)
    assert score.row_cosine == pytest.approx(sum(entry.cosine for entry in score.classes) / 10)
    assert score == self_score(small_model, encoder=WordEncoder(), mapper="ridge")
    assert json.loads(json.dumps(score.to_dict()))["num_seen"] == 10
    assert repr(score).startswith("SelfScore(zsl_accuracy=")
    assert "ClassSelfScore" not in repr(score)


def test_a_trained_mapper_gives_the_same_and_injected_classes_do_not_count(small_model):
    score = self_score(small_model, encoder=WordEncoder(), mapper="ridge")
    trained = fit_mapper(small_model, encoder=WordEncoder(), mapper="ridge")
    assert self_score(small_model, encoder=WordEncoder(), mapper=trained) == score
    inject(small_model, ["okapi"], encoder=WordEncoder())
    assert self_score(small_model, encoder=WordEncoder(), mapper="ridge") == score


def test_cosine_and_rank_against_a_loop():
    descriptors, rows = related_classes(num_classes=20)
    fitted = _fit(descriptors, rows)
    cosine, rank = _compare_rows(fitted)
    mean = rows[:, :23].mean(0)
    for index in range(20):
        predicted = fitted.crossfit.rows[index, :23] - mean
        all_cosines = torch.stack([torch.cosine_similarity(predicted, row[:23] - mean, dim=0) for row in rows])
        assert cosine[index].item() == pytest.approx(all_cosines[index].item(), abs=1e-5)
        assert rank[index].item() == 1 + int((all_cosines > all_cosines[index] + 1e-6).sum())


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"num_new": 6}, ArgumentValueError, "`num_new` must be between 1 and half of the 10 seen classes, got 6."),
        ({"num_new": 0}, ArgumentValueError, "`num_new` must be between 1 and half of the 10 seen classes, got 0."),
        ({"num_new": 2.0}, ArgumentTypeError, "`num_new` must be an int or None, got float."),
        (
            {"calibration": "best"},
            ArgumentValueError,
            "`calibration` must be one of 'balanced', 'harmonic', 'keep-seen', None, or the largest share",
        ),
        ({"mapper": "rigde"}, MapperError, "There is no mapper 'rigde'. Did you mean 'ridge'?"),
        ({"mapper": 3}, ArgumentTypeError, "`mapper` must be a name from the registry, got int."),
    ],
)
def test_bad_settings_are_refused(small_model, options, error, message):
    with pytest.raises(error) as caught:
        self_score(small_model, encoder=WordEncoder(), **options)
    assert message in str(caught.value)


def test_how_many_play_new():
    assert [usual_num_new(count) for count in (3, 10, 73, 1000, 21843)] == [1, 2, 14, 200, 200]


@needs_offline
def test_command(small_model, tmp_path, capsys):
    save_for_hf(small_model, tmp_path / "model")
    model = f"local-dir:{tmp_path / 'model'}"
    assert main(["self-score", model, "--mapper", "ridge"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("Estimated without images, 2 of 10 classes hidden at a time, mapper ridge:\n")
    assert "median rank of the true row" in out
    assert main(["self-score", model, "--mapper", "ridge", "--num-new", "3", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["num_new"] == 3
    assert main(["self-score", model, "--num-new", "9"]) == 2
    assert "between 1 and half of the 10 seen classes, got 9." in capsys.readouterr().err
