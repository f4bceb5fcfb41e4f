"""Length and offset of new rows, chosen by rehearsal."""

from dataclasses import replace

import pytest
import torch

from tests.helpers import related_classes
from timm_inject.calibration.pseudo_features import fit_feature_model
from timm_inject.calibration.rows import (
    _best_offset,
    _Rehearsal,
    calibrate_rows,
    largest_moved_share,
    rehearse,
    usual_num_new,
)
from timm_inject.errors import MapperError
from timm_inject.mappers.fitting import fit_and_crossfit


@pytest.fixture
def fitted():
    descriptors, rows = related_classes(num_classes=80)
    return fit_and_crossfit("kernel-ridge", descriptors[:70], rows[:70], feature_dim=23), descriptors[70:]


def _calibrate(fitted, calibration):
    new_rows = fitted[0].mapper.predict_rows(fitted[1])
    return new_rows, calibrate_rows(fitted[0], new_rows, calibration)


def test_none_is_the_raw_prediction(fitted):
    raw, calibrated = _calibrate(fitted, None)
    assert torch.equal(calibrated.rows, raw)


def _rescaled(raw, rows):
    """Weights of three quarters of the seen ones' mean length about their mean, and the mean seen bias."""
    mean_row = rows.mean(0)
    length = 0.75 * (rows - mean_row)[:, :23].norm(dim=1).mean()
    weights = torch.nn.functional.normalize((raw - mean_row)[:, :23], dim=1) * length + mean_row[:23]
    return torch.cat([weights, mean_row[23].expand(len(raw), 1)], dim=1)


@pytest.mark.parametrize("calibration", ["balanced", "harmonic", "keep-seen", 0.02])
def test_weights_get_one_length_and_all_rows_one_bias(fitted, calibration):
    raw, calibrated = _calibrate(fitted, calibration)
    rescaled = _rescaled(raw, fitted[0].rows)
    assert torch.allclose(calibrated.rows[:, :23], rescaled[:, :23], atol=1e-4)
    assert raw[:, 23].std() > 0.1
    assert (calibrated.rows[:, 23] == calibrated.rows[0, 23]).all()
    assert calibrated.rows[0, 23] > rescaled[0, 23]


def test_a_head_without_bias_gets_no_offset_and_the_whole_length(fitted):
    fitted = replace(fitted[0], feature_dim=24), fitted[1]
    _, harmonic = _calibrate(fitted, "harmonic")
    for calibration in ("balanced", "keep-seen", 0.1):
        _, other = _calibrate(fitted, calibration)
        assert torch.equal(other.rows, harmonic.rows)
        assert other.self_score == harmonic.self_score
    rows = fitted[0].rows
    lengths = (harmonic.rows - rows.mean(0)).norm(dim=1)
    assert lengths.allclose((rows - rows.mean(0)).norm(dim=1).mean().expand(len(lengths)))


def _offset(fitted, calibration):
    """What the calibration adds to the mean seen bias."""
    raw, calibrated = _calibrate(fitted, calibration)
    return (calibrated.rows - _rescaled(raw, fitted[0].rows))[0, 23].item()


def _moved_share(fitted, calibration):
    """Of the seen classes' pseudo-features, on which a new logit is the largest."""
    mean_row = fitted[0].rows.mean(0)
    weights = fitted[0].weights - mean_row[:23]
    features = fit_feature_model(weights, None, torch.Generator().manual_seed(0))[1].features
    new_logits = features @ (_calibrate(fitted, calibration)[1].rows[:, :23] - mean_row[:23]).T + _offset(fitted, calibration)
    return (new_logits.amax(1) > (features @ weights.T).amax(1)).float().mean().item()


@pytest.mark.parametrize(("calibration", "share"), [("keep-seen", 0.01), (0.01, 0.01), (0.05, 0.05), (0.3, 0.3)])
def test_as_many_pseudo_features_move_as_was_asked_for(fitted, calibration, share):
    assert _moved_share(fitted, calibration) == pytest.approx(share, abs=0.005)


def test_balanced_is_harmonic_within_its_bound(fitted, monkeypatch):
    """Ten new classes beside 70 may take a quarter of the images, which is more than the best harmonic mean does here."""
    unbound = _moved_share(fitted, "harmonic")
    assert 0.02 < unbound < 0.25
    assert _offset(fitted, "balanced") == _offset(fitted, "harmonic")
    assert _calibrate(fitted, "balanced")[1].self_score == _calibrate(fitted, "harmonic")[1].self_score
    bound = unbound / 2
    monkeypatch.setattr("timm_inject.calibration.rows._FAIR_SHARES", bound * 80 / 10)
    assert _moved_share(fitted, "balanced") == pytest.approx(bound, abs=0.005)
    harmonic, balanced = (_calibrate(fitted, name)[1].self_score for name in ("harmonic", "balanced"))
    assert balanced["seen_accuracy"] > harmonic["seen_accuracy"]
    assert balanced["unseen_accuracy"] < harmonic["unseen_accuracy"]
    assert balanced["harmonic_mean"] < harmonic["harmonic_mean"]


@pytest.mark.parametrize(
    ("calibration", "num_seen", "num_new", "share"),
    [
        ("balanced", 1000, 2, 0.01),  # twice their share would be less
        ("balanced", 950, 50, 0.1),
        ("balanced", 10, 10, 1.0),
        ("balanced", 10, 90, 1.0),  # no more than there is
        ("keep-seen", 10, 90, 0.01),
        (0.3, 1000, 2, 0.3),
        ("harmonic", 10, 90, None),
        (None, 10, 90, None),
    ],
)
def test_largest_moved_share(calibration, num_seen, num_new, share):
    assert largest_moved_share(calibration, num_seen=num_seen, num_new=num_new) == share


@pytest.mark.parametrize("calibration", ["balanced", "harmonic", "keep-seen", 0.05, None])
def test_more_new_classes_than_seen_ones_are_calibrated_too(calibration):
    descriptors, rows = related_classes()
    fitted = fit_and_crossfit("kernel-ridge", descriptors[:12], rows[:12], feature_dim=23)
    calibrated = calibrate_rows(fitted, fitted.mapper.predict_rows(descriptors[12:]), calibration)
    assert torch.isfinite(calibrated.rows).all()
    rehearsed = rehearse(fitted, calibration, num_new=48)
    assert 0 <= rehearsed.scores["harmonic_mean"] <= 1


@pytest.mark.parametrize("calibration", ["balanced", "harmonic"])
def test_a_rehearsal_alone_scores_as_one_for_real_names_does(fitted, calibration):
    assert rehearse(fitted[0], calibration, num_new=10).scores == _calibrate(fitted, calibration)[1].self_score


def test_usual_num_new():
    assert [usual_num_new(count) for count in (3, 10, 73, 1000, 21843)] == [1, 2, 14, 200, 200]


def test_harmonic_balances_better_than_keep_seen(fitted):
    _, harmonic = _calibrate(fitted, "harmonic")
    _, keep = _calibrate(fitted, "keep-seen")
    assert harmonic.self_score["harmonic_mean"] >= keep.self_score["harmonic_mean"]
    assert harmonic.self_score["unseen_accuracy"] >= keep.self_score["unseen_accuracy"]
    assert harmonic.self_score["seen_accuracy"] <= keep.self_score["seen_accuracy"]
    assert all(0 <= value <= 1 for value in harmonic.self_score.values())


def _rehearsal(margins, is_new, hits):
    margins, is_new, hits = torch.tensor(margins), torch.tensor(is_new), torch.tensor(hits)
    return _Rehearsal(margins, hits & ~is_new, hits & is_new, is_new)


def test_the_harmonic_offset_is_the_best_one_over_all_rehearsals():
    """Below 1 no new image is won, above 4 no seen one is left; in between the first rehearsal alone would stop at 2."""
    first = _rehearsal([1.0, 1.5, 3.0, 4.0, -2.0], [True, True, False, False, False], [True, True, True, True, False])
    second = _rehearsal([2.5, 2.6, 3.5, 4.0], [True, True, False, False], [True, True, True, True])
    assert 1.5 < _best_offset([first]) <= 3.0
    assert 2.6 < _best_offset([first, second]) <= 3.0
    spoilt = _rehearsal([2.5, 2.6, 3.5, 4.0], [True, True, False, False], [False, False, True, True])
    assert _best_offset([spoilt]) == 0.0  # no new image is ever right


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
def test_the_offset_keeps_its_place_among_the_margins_of_the_real_new_classes(fitted, activation):
    """New classes that lie nearer to the images of the seen ones need a smaller offset, by as much."""
    one, new = replace(fitted[0], activation=activation), fitted[1]
    raw = one.mapper.predict_rows(new)
    shifted = raw + torch.nn.functional.one_hot(torch.tensor(0), 24) * 0.7
    mean_row = one.rows.mean(0)
    pseudo = fit_feature_model(one.rows[:, :23] - mean_row[:23], None, torch.Generator().manual_seed(0), activation)[1].features
    medians, offsets = [], []
    for predicted in (raw, shifted):
        rescaled = _rescaled(predicted, one.rows)
        calibrated = calibrate_rows(one, predicted, "harmonic")
        offsets.append((calibrated.rows[:, 23] - rescaled[:, 23]).mean().item())
        seen = (pseudo @ (one.rows[:, :23] - mean_row[:23]).T).amax(1) if activation == "softmax" else 0.0
        medians.append((seen - (pseudo @ (rescaled[:, :23] - mean_row[:23]).T).amax(1)).median().item())
    assert abs(medians[1] - medians[0]) > 0.01
    assert offsets[1] - offsets[0] == pytest.approx(medians[1] - medians[0], abs=1e-4)


def test_rehearsals_know_nothing_of_rows_that_were_not_held_out(fitted):
    one = fitted[0]
    fold = torch.where(one.crossfit.fold == 0, 0, -1)
    partial = replace(one, crossfit=replace(one.crossfit, fold=fold))
    score = calibrate_rows(partial, one.mapper.predict_rows(fitted[1]), "harmonic").self_score
    assert score["zsl_accuracy"] > 0


@pytest.mark.parametrize("num_seen", [3, 8])
@pytest.mark.parametrize("calibration", ["balanced", "harmonic", "keep-seen", 0.05])
def test_few_seen_classes_give_finite_rows(num_seen, calibration):
    descriptors, rows = related_classes()
    fitted = fit_and_crossfit("kernel-ridge", descriptors[:num_seen], rows[:num_seen], feature_dim=23)
    new_rows = fitted.mapper.predict_rows(descriptors[50:])
    calibrated = calibrate_rows(fitted, new_rows, calibration)
    assert torch.isfinite(calibrated.rows).all()


def test_two_seen_classes_are_too_few_to_calibrate_and_enough_to_predict():
    descriptors, rows = related_classes()
    fitted = fit_and_crossfit("kernel-ridge", descriptors[:2], rows[:2], feature_dim=23)
    new_rows = fitted.mapper.predict_rows(descriptors[50:])
    assert torch.equal(calibrate_rows(fitted, new_rows, None).rows, new_rows)
    with pytest.raises(MapperError) as caught:
        calibrate_rows(fitted, new_rows, "harmonic")
    assert str(caught.value) == (
        "Calibration and the self-score rehearse with hidden seen classes and need at least 3 of them, the head has 2. Take a "
        "model with more classes, or pass `calibration=None` to `inject`."
    )


def test_the_length_of_a_prediction_that_is_left_to_chance_does_not_count(fitted, monkeypatch):
    """As the paper's cosine loss leaves it: ten times as long, most of the prediction would be a part of the mean row."""
    one, raw = fitted[0], fitted[0].mapper.predict_rows(fitted[1])
    monkeypatch.setattr(type(one.mapper), "knows_length", False)
    longer = replace(one, crossfit=replace(one.crossfit, rows=10 * one.crossfit.rows))
    usual, long = (calibrate_rows(each, rows, "harmonic").rows for each, rows in ((one, raw), (longer, 10 * raw)))
    assert torch.allclose(usual, long, atol=1e-3)
