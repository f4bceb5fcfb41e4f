"""Features that are drawn from a head's weights."""

import pytest
import torch

from timm_inject.calibration.pseudo_features import fit_feature_model


@pytest.mark.parametrize(("num_classes", "accuracy"), [(100, 0.885), (1500, 0.817)])
def test_pseudo_features_meet_their_accuracy_and_confidence(num_classes, accuracy):
    """2.5% of the images times the logarithm of the number of classes are wrong."""
    generator = torch.Generator().manual_seed(0)
    weights = torch.randn(num_classes, 64, generator=generator)
    weights = weights - weights.mean(0)
    pseudo = fit_feature_model(weights, None, generator)[1]
    logits = pseudo.features @ weights.T
    assert (logits.argmax(1) == pseudo.labels).float().mean().item() == pytest.approx(accuracy, abs=0.02)
    assert logits.softmax(1).amax(1).mean().item() == pytest.approx(0.82 * accuracy, abs=0.02)


def test_images_of_a_softmax_head_differ_as_much_among_classes_and_its_rivals_do_not_rise_with_the_right_one():
    generator = torch.Generator().manual_seed(0)
    weights = _centred(torch.randn(100, 12, generator=generator) @ torch.randn(12, 64, generator=generator))
    model, pseudo = fit_feature_model(weights, None, generator)
    drawn = model.draw(weights, pseudo.labels, generator).features
    for features in (pseudo.features, drawn):
        logits = features @ weights.T
        spreads = logits.std(1)
        assert spreads.std() < 0.02 * spreads.mean()
        own = logits.gather(1, pseudo.labels[:, None])[:, 0]
        rivals = logits.scatter(1, pseudo.labels[:, None], -torch.inf).amax(1)
        assert torch.corrcoef(torch.stack([own, rivals]))[0, 1] < 0.2
    _, uneven = fit_feature_model(weights, None, generator, "sigmoid")
    spreads = (uneven.features @ weights.T).std(1)
    assert spreads.std() > 0.05 * spreads.mean()


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
