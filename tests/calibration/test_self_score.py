"""How well hidden seen classes do."""

import copy
import json

import pytest
import torch

from tests.helpers import NAMES, WordEncoder, related_classes
from timm_inject import ArgumentTypeError, ArgumentValueError, MapperError, fit_mapper, inject, self_score
from timm_inject.calibration.estimates import _compare_rows
from timm_inject.mappers.fitting import fit_and_crossfit


def test_scores_and_classes(small_model):
    before = copy.deepcopy(small_model.state_dict())
    score = self_score(small_model, encoder=WordEncoder(), mapper="ridge")
    assert all(torch.equal(before[key], value) for key, value in small_model.state_dict().items())
    for figure in (score.zsl_accuracy, score.seen_accuracy, score.unseen_accuracy, score.harmonic_mean):
        assert 0 <= figure <= 1
    assert [entry.name for entry in score.classes] == NAMES
    assert (score.num_seen, score.num_new, score.mapper, score.calibration) == (10, 2, "ridge", "balanced")
    assert all(1 <= entry.rank <= 10 for entry in score.classes)
    assert score.row_cosine == pytest.approx(sum(entry.cosine for entry in score.classes) / 10)
    assert score == self_score(small_model, encoder=WordEncoder(), mapper="ridge")
    assert json.loads(json.dumps(score.to_dict()))["num_seen"] == 10
    assert repr(score).startswith("SelfScore(zsl_accuracy=")
    assert "ClassSelfScore" not in repr(score)


@pytest.mark.parametrize("calibration", ["balanced", "harmonic", "keep-seen", 0.05, None])
def test_it_scores_the_calibration_that_was_asked_for(small_model, calibration):
    score = self_score(small_model, encoder=WordEncoder(), mapper="ridge", calibration=calibration)
    assert score.calibration == calibration
    raw = self_score(small_model, encoder=WordEncoder(), mapper="ridge", calibration=None)
    assert (score.seen_accuracy < raw.seen_accuracy) == (calibration is not None)  # a new class costs something only if it wins


def test_a_trained_mapper_gives_the_same_and_injected_classes_do_not_count(small_model):
    score = self_score(small_model, encoder=WordEncoder(), mapper="ridge")
    trained = fit_mapper(small_model, encoder=WordEncoder(), mapper="ridge")
    assert self_score(small_model, encoder=WordEncoder(), mapper=trained) == score
    inject(small_model, ["okapi"], encoder=WordEncoder())
    assert self_score(small_model, encoder=WordEncoder(), mapper="ridge") == score


def test_cosine_and_rank_against_a_loop():
    descriptors, rows = related_classes(num_classes=20)
    fitted = fit_and_crossfit("kernel-ridge", descriptors, rows, feature_dim=23)
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
            "`calibration` must be one of 'balanced', 'harmonic', ",
        ),
        ({"calibration": 1.5}, ArgumentValueError, "a number between 0 and 1, got 1.5."),
        ({"mapper": "rigde"}, MapperError, "There is no mapper 'rigde'. Did you mean 'ridge'?"),
        ({"mapper": 3}, ArgumentTypeError, "`mapper` must be a name from the registry, got int."),
    ],
)
def test_bad_settings_are_refused(small_model, options, error, message):
    with pytest.raises(error) as caught:
        self_score(small_model, encoder=WordEncoder(), **options)
    assert message in str(caught.value)
