from dataclasses import replace

import pytest
import torch

from tests.helpers import related_classes
from timm_inject.calibration.pseudo_features import fit_feature_model
from timm_inject.calibration.rows import _best_offset, _Contest, _Rehearsal, calibrate_rows, largest_moved_share, settle_calibration
from timm_inject.errors import MapperError, WeakClassWarning
from timm_inject.mappers import create_mapper
from timm_inject.mappers.fitting import fit_and_crossfit


@pytest.fixture
def fitted():
    descriptors, rows = related_classes(num_classes=80)
    return fit_and_crossfit("kernel-ridge", descriptors[:70], rows[:70], feature_dim=23), descriptors[70:]


def _calibrate(fitted, calibration, feature_dim=23):
    new_rows = fitted[0].mapper.predict_rows(fitted[1])
    return new_rows, calibrate_rows(replace(fitted[0], feature_dim=feature_dim), new_rows, calibration)


def _draw(one, seed=0, activation="softmax"):
    weights = one.weights - one.weights.mean(0)
    return weights, fit_feature_model(weights, one.descriptors, torch.Generator().manual_seed(seed), activation)[1]


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


@pytest.mark.parametrize(("calibration", "bound"), [("keep-seen", 0.01), (0.03, 0.03), ("balanced", 0.25)])
def test_no_more_than_the_share_moves_and_it_is_told(fitted, calibration, bound):
    """On other stand-ins of the same head than those that the offset was chosen on."""
    raw, calibrated = _calibrate(fitted, calibration)
    one, rows = fitted[0], calibrated.rows
    told = calibrated.self_score["moved_share"]
    assert 0.5 * min(bound, told + 0.001) <= told <= bound
    weights, pseudo = _draw(one, seed=1)
    offset = (rows - _rescaled(raw, one.rows))[0, 23]
    new_logits = pseudo.features @ (rows[:, :23] - one.weights.mean(0)).T + offset
    moved = (new_logits.amax(1) > (pseudo.features @ weights.T).amax(1)).float().mean().item()
    assert moved == pytest.approx(told, abs=0.015)
    score = calibrated.self_score
    assert score["seen_accuracy_before"] - told - 1e-6 <= score["seen_accuracy"] <= score["seen_accuracy_before"]


def test_balanced_is_the_harmonic_offset_unless_that_moves_too_much(fitted):
    offsets = {name: _calibrate(fitted, name)[1].rows[0, 23].item() for name in ("harmonic", "balanced", "keep-seen")}
    assert offsets["keep-seen"] < offsets["balanced"] <= offsets["harmonic"]
    assert largest_moved_share("balanced", num_seen=800, num_new=200) == pytest.approx(0.4)
    assert largest_moved_share("balanced", num_seen=999, num_new=1) == 0.01
    assert largest_moved_share("harmonic", num_seen=999, num_new=1) is None


def test_a_bound_is_the_same_whatever_is_drawn():
    """One new class and a share of 1%: eight seeds draw features of their own; the mapper is the same."""
    descriptors, rows = related_classes(num_classes=81)
    one = fit_and_crossfit("kernel-ridge", descriptors[:80], rows[:80], feature_dim=23)
    new = one.mapper.predict_rows(descriptors[80:])
    moved = []
    for seed in range(8):
        calibrated = calibrate_rows(replace(one, seed=seed), new, 0.01).rows
        logits = _draw(one, seed=99)[1].features @ torch.cat([one.weights, calibrated[:, :23]]).T
        bias = torch.cat([torch.zeros(80), calibrated[:, 23] - one.rows[:, 23].mean()])
        moved.append(((logits + bias).argmax(1) == 80).float().mean().item())
    spread = torch.tensor(moved)
    assert spread.std() < 0.1 * spread.mean() + 0.0005


def test_shares_of_a_contest_count_every_class_the_same():
    """Half of the images are one feature's, and a bound of .4 leaves it where it is."""
    contest = _Contest(
        margins=torch.tensor([0.0, 1.0, 2.0]),
        seen_hits=torch.tensor([False, True, True]),
        shares=torch.tensor([0.25, 0.5, 0.25], dtype=torch.float64),
        median=1.0,
    )
    assert contest.largest_offset(0.4) == 1.0
    assert contest.scores(1.0) == {"seen_accuracy_before": 0.75, "seen_accuracy": 0.75, "moved_share": 0.25}
    assert contest.scores(1.5) == {"seen_accuracy_before": 0.75, "seen_accuracy": 0.25, "moved_share": 0.75}


def test_rows_of_the_paper_stay_raw_unless_another_calibration_is_asked_for():
    paper, usual = create_mapper("icis-paper"), create_mapper("icis")
    assert settle_calibration("balanced", paper) is None
    assert settle_calibration("harmonic", paper) == "harmonic"
    assert settle_calibration(0.02, paper) == 0.02
    assert settle_calibration("balanced", usual) == "balanced"


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
    shifted = raw + torch.nn.functional.one_hot(torch.tensor(0), 24) * 4.0
    mean_row = one.rows.mean(0)
    one = replace(one, activation=activation)
    pseudo = _draw(one, activation=activation)[1].features
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
    partial = replace(one, crossfit=type(one.crossfit)(fold, one.crossfit.rows))
    score = calibrate_rows(partial, one.mapper.predict_rows(fitted[1]), "harmonic").self_score
    assert score["zsl_accuracy"] > 0


@pytest.mark.parametrize(("num_classes", "accuracy"), [(100, 0.885), (1500, 0.817)])
def test_pseudo_features_meet_their_accuracy_and_confidence(num_classes, accuracy):
    """2.5% of the images times the logarithm of the number of classes are wrong."""
    generator = torch.Generator().manual_seed(0)
    weights = torch.randn(num_classes, 64, generator=generator)
    weights = weights - weights.mean(0)
    model, pseudo = fit_feature_model(weights, None, generator)
    logits = pseudo.features @ weights.T
    assert (logits.argmax(1) == pseudo.labels).float().mean().item() == pytest.approx(accuracy, abs=0.02)
    assert logits.softmax(1).amax(1).mean().item() == pytest.approx(0.9 * accuracy, abs=0.02)
    assert model.shortfall is None


def test_images_of_a_softmax_head_differ_as_much_among_classes_and_its_rivals_do_not_rise_with_the_right_one():
    generator = torch.Generator().manual_seed(0)
    weights = _centred(torch.randn(100, 12, generator=generator) @ torch.randn(12, 64, generator=generator))
    model, pseudo = fit_feature_model(weights, None, generator)
    drawn = model.draw(weights, pseudo.labels, generator, places=model.places(weights)).features
    for features in (pseudo.features, drawn):
        logits = features @ weights.T
        spreads = logits.std(1)
        assert spreads.std() < 0.03 * spreads.mean()
        own = logits.gather(1, pseudo.labels[:, None])[:, 0]
        rivals = logits.scatter(1, pseudo.labels[:, None], -torch.inf).amax(1)
        assert torch.corrcoef(torch.stack([own, rivals]))[0, 1] < 0.2
    _, uneven = fit_feature_model(weights, None, generator, "sigmoid")
    spreads = (uneven.features @ weights.T).std(1)
    assert spreads.std() > 0.05 * spreads.mean()


@pytest.mark.parametrize("num_seen", [3, 8])
@pytest.mark.parametrize("calibration", ["harmonic", "keep-seen"])
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


def test_a_part_that_is_alike_in_all_directions_is_told_from_what_was_learned():
    """Twelve directions were learned; noise of one strength in all of them lies on top, as in a head that was stopped early."""
    generator = torch.Generator().manual_seed(0)
    learned = torch.randn(60, 12, generator=generator) @ torch.randn(12, 400, generator=generator)
    noisy = learned + 4.0 * torch.randn(60, 400, generator=generator)
    trained, _ = fit_feature_model(_centred(learned + 0.01 * torch.randn(60, 400, generator=generator)), None, generator)
    stopped, _ = fit_feature_model(_centred(noisy), None, generator)
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
    longer = replace(one, crossfit=held_out)
    usual, long = (calibrate_rows(each, rows, "harmonic").rows for each, rows in ((one, raw), (longer, 10 * raw)))
    assert torch.allclose(usual, long, atol=1e-3)


def test_a_class_that_is_in_the_head_twice_does_not_change_how_it_was_trained():
    generator = torch.Generator().manual_seed(0)
    noisy = torch.randn(60, 12, generator=generator) @ torch.randn(12, 400, generator=generator)
    noisy = noisy + 4.0 * torch.randn(60, 400, generator=generator)
    twice = torch.cat([noisy, noisy[:1] + 1e-4 * torch.randn(1, 400, generator=generator)])
    once, double = (fit_feature_model(_centred(rows), None, generator)[0].place_power for rows in (noisy, twice))
    assert once > 0.5
    assert double == pytest.approx(once, abs=0.05)


def test_long_and_short_rows_are_right_equally_often():
    generator = torch.Generator().manual_seed(0)
    weights = torch.randn(100, 64, generator=generator)
    weights = _centred(weights * torch.linspace(1, 4, 100)[:, None])
    _, pseudo = fit_feature_model(weights, None, generator)
    hits = ((pseudo.features @ weights.T).argmax(1) == pseudo.labels).float()
    short, long = hits[pseudo.labels < 50].mean().item(), hits[pseudo.labels >= 50].mean().item()
    assert short > 0.7
    assert abs(long - short) < 0.25


def test_stand_ins_follow_the_texts_where_the_rows_hide_what_is_alike():
    """Rows that know of no groups, as after long training on few images, and texts in four groups."""
    generator = torch.Generator().manual_seed(0)
    groups = torch.arange(40) % 4
    centres = torch.randn(4, 32, generator=generator)
    descriptors = torch.nn.functional.normalize(centres[groups] + torch.randn(40, 32, generator=generator), dim=1)
    weights = _centred(torch.randn(40, 64, generator=generator))
    following = []
    for texts in (None, descriptors):
        model, pseudo = fit_feature_model(weights, texts, torch.Generator().manual_seed(1))
        logits = pseudo.features @ weights.T
        alike = (groups[pseudo.labels][:, None] == groups) & (pseudo.labels[:, None] != torch.arange(40))
        other = groups[pseudo.labels][:, None] != groups
        following.append((logits[alike].mean() - logits[other].mean()).item())
    assert model.likeness > 0
    assert following[1] > following[0] + 0.2


def test_stand_ins_that_cannot_be_made_are_told(fitted):
    """All rows lie on one line, so that hardly any class ever has the largest logit."""
    one = fitted[0]
    line = torch.linspace(-1, 1, 70)[:, None] * torch.ones(1, 24) + 1e-3 * one.rows
    with pytest.warns(WeakClassWarning, match="stand-ins for images of this head miss their accuracy by"):
        calibrate_rows(replace(one, rows=line), line[:2], "harmonic")
