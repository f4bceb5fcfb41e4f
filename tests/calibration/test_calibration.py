import pytest
import torch

from tests.helpers import related_classes
from timm_inject.calibration.pseudo_features import draw_pseudo_features, fit_feature_model
from timm_inject.calibration.rows import _best_offset, _Rehearsal, calibrate_rows
from timm_inject.errors import MapperError
from timm_inject.mappers.fitting import fit_and_crossfit


@pytest.fixture
def fitted():
    descriptors, rows = related_classes(num_classes=80)
    return fit_and_crossfit("kernel-ridge", descriptors[:70], rows[:70]), descriptors[70:]


def _calibrate(fitted, calibration, feature_dim=23):
    new_rows = fitted[0].mapper.predict_rows(fitted[1])
    return new_rows, calibrate_rows(fitted[0], new_rows, calibration, feature_dim=feature_dim, seed=0)


def test_none_is_the_raw_prediction(fitted):
    raw, calibrated = _calibrate(fitted, None)
    assert torch.equal(calibrated.rows, raw)


def _rescaled(raw, rows):
    """Weights of three quarters of the seen ones' mean length about their mean, and the mean seen bias."""
    mean_row = rows.mean(0)
    length = 0.75 * (rows - mean_row)[:, :23].norm(dim=1).mean()
    weights = torch.nn.functional.normalize((raw - mean_row)[:, :23], dim=1) * length + mean_row[:23]
    return torch.cat([weights, mean_row[23].expand(len(raw), 1)], dim=1)


@pytest.mark.parametrize("calibration", ["harmonic", "keep-seen"])
def test_weights_get_one_length_and_all_rows_one_bias(fitted, calibration):
    raw, calibrated = _calibrate(fitted, calibration)
    rescaled = _rescaled(raw, fitted[0].rows)
    assert torch.allclose(calibrated.rows[:, :23], rescaled[:, :23], atol=1e-4)
    assert raw[:, 23].std() > 0.1
    assert (calibrated.rows[:, 23] == calibrated.rows[0, 23]).all()
    assert calibrated.rows[0, 23] > rescaled[0, 23]


def test_a_head_without_bias_gets_no_offset_and_the_whole_length(fitted):
    _, harmonic = _calibrate(fitted, "harmonic", feature_dim=24)
    _, keep = _calibrate(fitted, "keep-seen", feature_dim=24)
    assert torch.equal(harmonic.rows, keep.rows)
    rows = fitted[0].rows
    lengths = (harmonic.rows - rows.mean(0)).norm(dim=1)
    assert lengths.allclose((rows - rows.mean(0)).norm(dim=1).mean().expand(len(lengths)))


def test_keep_seen_moves_about_its_share_of_pseudo_features(fitted):
    _, calibrated = _calibrate(fitted, "keep-seen")
    weights = fitted[0].rows[:, :23] - fitted[0].rows[:, :23].mean(0)
    pseudo = draw_pseudo_features(weights, torch.Generator().manual_seed(0))
    rows = calibrated.rows
    raw = fitted[0].mapper.predict_rows(fitted[1])
    mean_row = fitted[0].rows.mean(0)
    offset = (rows - _rescaled(raw, fitted[0].rows))[0, 23]
    new_logits = pseudo.features @ (rows[:, :23] - mean_row[:23]).T + offset
    moved = (new_logits.amax(1) > (pseudo.features @ weights.T).amax(1)).float().mean()
    assert moved.item() == pytest.approx(0.01, abs=0.005)


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
    one, new = fitted[0], fitted[1]
    raw = one.mapper.predict_rows(new)
    shifted = raw + torch.nn.functional.one_hot(torch.tensor(0), 24) * 0.7
    mean_row = one.rows.mean(0)
    pseudo = draw_pseudo_features(one.rows[:, :23] - mean_row[:23], torch.Generator().manual_seed(0), activation).features
    medians, offsets = [], []
    for predicted in (raw, shifted):
        rescaled = _rescaled(predicted, one.rows)
        calibrated = calibrate_rows(one, predicted, "harmonic", feature_dim=23, seed=0, activation=activation)
        offsets.append((calibrated.rows[:, 23] - rescaled[:, 23]).mean().item())
        seen = (pseudo @ (one.rows[:, :23] - mean_row[:23]).T).amax(1) if activation == "softmax" else 0.0
        medians.append((seen - (pseudo @ (rescaled[:, :23] - mean_row[:23]).T).amax(1)).median().item())
    assert abs(medians[1] - medians[0]) > 0.01
    assert offsets[1] - offsets[0] == pytest.approx(medians[1] - medians[0], abs=1e-4)


def test_rehearsals_know_nothing_of_rows_that_were_not_held_out(fitted):
    one = fitted[0]
    fold = torch.where(one.crossfit.fold == 0, 0, -1)
    partial = type(one)(one.mapper, one.descriptors, one.rows, type(one.crossfit)(fold, one.crossfit.rows))
    score = calibrate_rows(partial, one.mapper.predict_rows(fitted[1]), "harmonic", feature_dim=23, seed=0).self_score
    assert score["zsl_accuracy"] > 0


@pytest.mark.parametrize(("num_classes", "accuracy"), [(100, 0.885), (1500, 0.817)])
def test_pseudo_features_meet_their_accuracy_and_confidence(num_classes, accuracy):
    """2.5% of the images times the logarithm of the number of classes are wrong."""
    generator = torch.Generator().manual_seed(0)
    weights = torch.randn(num_classes, 64, generator=generator)
    weights = weights - weights.mean(0)
    pseudo = draw_pseudo_features(weights, generator)
    logits = pseudo.features @ weights.T
    assert (logits.argmax(1) == pseudo.labels).float().mean().item() == pytest.approx(accuracy, abs=0.02)
    assert logits.softmax(1).amax(1).mean().item() == pytest.approx(0.82 * accuracy, abs=0.02)


def test_images_of_a_softmax_head_differ_as_much_among_classes_and_its_rivals_do_not_rise_with_the_right_one():
    generator = torch.Generator().manual_seed(0)
    weights = _centred(torch.randn(100, 12, generator=generator) @ torch.randn(12, 64, generator=generator))
    model, pseudo = fit_feature_model(weights, generator)
    drawn = model.draw(weights, pseudo.labels, generator).features
    for features in (pseudo.features, drawn):
        logits = features @ weights.T
        spreads = logits.std(1)
        assert spreads.std() < 0.02 * spreads.mean()
        own = logits.gather(1, pseudo.labels[:, None])[:, 0]
        rivals = logits.scatter(1, pseudo.labels[:, None], -torch.inf).amax(1)
        assert torch.corrcoef(torch.stack([own, rivals]))[0, 1] < 0.2
    _, uneven = fit_feature_model(weights, generator, "sigmoid")
    spreads = (uneven.features @ weights.T).std(1)
    assert spreads.std() > 0.05 * spreads.mean()


@pytest.mark.parametrize("num_seen", [3, 8])
@pytest.mark.parametrize("calibration", ["harmonic", "keep-seen"])
def test_few_seen_classes_give_finite_rows(num_seen, calibration):
    descriptors, rows = related_classes()
    fitted = fit_and_crossfit("kernel-ridge", descriptors[:num_seen], rows[:num_seen])
    new_rows = fitted.mapper.predict_rows(descriptors[50:])
    calibrated = calibrate_rows(fitted, new_rows, calibration, feature_dim=23, seed=0)
    assert torch.isfinite(calibrated.rows).all()


def test_two_seen_classes_are_too_few_to_calibrate_and_enough_to_predict():
    descriptors, rows = related_classes()
    fitted = fit_and_crossfit("kernel-ridge", descriptors[:2], rows[:2])
    new_rows = fitted.mapper.predict_rows(descriptors[50:])
    assert torch.equal(calibrate_rows(fitted, new_rows, None, feature_dim=23, seed=0).rows, new_rows)
    with pytest.raises(MapperError) as caught:
        calibrate_rows(fitted, new_rows, "harmonic", feature_dim=23, seed=0)
    assert str(caught.value) == (
        "Calibration and the self-score rehearse with hidden seen classes and need at least 3 of them, the head has 2. Take a "
        "model with more classes, or pass `calibration=None` to `inject`."
    )


def test_a_part_that_is_alike_in_all_directions_is_told_from_what_was_learned():
    """Twelve directions were learned; noise of one strength in all of them lies on top, as in a head that was stopped early."""
    generator = torch.Generator().manual_seed(0)
    learned = torch.randn(60, 12, generator=generator) @ torch.randn(12, 400, generator=generator)
    noisy = learned + 4.0 * torch.randn(60, 400, generator=generator)
    trained, _ = fit_feature_model(_centred(learned + 0.01 * torch.randn(60, 400, generator=generator)), generator)
    stopped, _ = fit_feature_model(_centred(noisy), generator)
    assert trained.place_power == pytest.approx(0.25, abs=0.01)
    assert stopped.place_power > 0.5
    assert stopped.noise_power < stopped.place_power
    flat = torch.linalg.svdvals(_centred(noisy))
    assert stopped.spread[20:-1].max() < (flat[20:-1] / flat[0]).max()
    assert torch.isfinite(stopped.spread).all()


def _centred(rows):
    return rows - rows.mean(0)


def test_the_length_of_a_prediction_that_is_left_to_chance_does_not_count(fitted, monkeypatch):
    """As the paper's cosine loss leaves it: ten times as long, most of the prediction would be a part of the mean row."""
    one, raw = fitted[0], fitted[0].mapper.predict_rows(fitted[1])
    monkeypatch.setattr(type(one.mapper), "knows_length", False)
    held_out = type(one.crossfit)(one.crossfit.fold, 10 * one.crossfit.rows)
    longer = type(one)(one.mapper, one.descriptors, one.rows, held_out)
    usual, long = (
        calibrate_rows(each, rows, "harmonic", feature_dim=23, seed=0).rows for each, rows in ((one, raw), (longer, 10 * raw))
    )
    assert torch.allclose(usual, long, atol=1e-3)
