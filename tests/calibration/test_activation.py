"""Heads trained with a sigmoid loss: how they are told apart, and what is calibrated for them."""

import copy
import json
from dataclasses import replace

import pytest
import timm
import torch
from torch.nn.functional import binary_cross_entropy_with_logits, normalize, one_hot

from tests.helpers import NAMES, WordEncoder, needs_offline
from timm_inject import ArgumentValueError, explain, fit_mapper, inject, injection_record, save_for_hf, self_score
from timm_inject.calibration.activation import resolve_activation
from timm_inject.calibration.estimates import estimate_names
from timm_inject.calibration.pseudo_features import fit_feature_model
from timm_inject.calibration.rows import calibrate_rows
from timm_inject.cli.main import main
from timm_inject.mappers.fitting import fit_and_crossfit

NEW = ["okapi", "electric scooter"]
NUM_SEEN, NUM_NEW, DIM = 50, 10, 64


def _resolve(model, activation=None):
    return resolve_activation(model, activation, None, model.num_classes)


# --- told apart ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("resnet50.a1_in1k", "sigmoid-top1"),
        ("resnet18.a2_in1k", "sigmoid-top1"),
        ("resnet34.a3_in1k", "sigmoid-top1"),
        ("resnetv2_50.a1h_in1k", "sigmoid-top1"),
        ("resnet50.tv_in1k", "softmax"),
        ("vit_tiny_patch16_224.augreg_in21k_ft_in1k", "softmax"),
        ("tf_efficientnet_lite0.in1k", "softmax"),
    ],
)
def test_tags_of_recipes_with_binary_cross_entropy(name, expected):
    with torch.device("meta"):
        model = timm.create_model(name)
    assert _resolve(model) == expected


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"tag": "a1_in21k_ft_in1k"}, "softmax"),  # what came after A1 is not known
        ({"tag": "a1_in1k", "num_classes": 1000}, "softmax"),  # the tag's head was replaced
        ({"tag": "a1_in1k", "problem_type": "single_label_classification"}, "softmax"),
        ({"problem_type": "multi_label_classification"}, "sigmoid"),
        ({"problem_type": "regression"}, "softmax"),
        ({"activation": "Sigmoid"}, "sigmoid"),
        ({"activation": "gelu"}, "softmax"),
        ({"activation": ["sigmoid"]}, "softmax"),
    ],
)
def test_what_a_config_states(small_model, config, expected):
    small_model.pretrained_cfg = {**small_model.pretrained_cfg, **config}
    assert _resolve(small_model) == expected
    assert _resolve(small_model, "softmax") == "softmax"


def test_a_saved_config_states_it_too(small_model, tmp_path):
    save_for_hf(small_model, tmp_path)
    path = tmp_path / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"problem_type": "multi_label_classification"}))
    assert _resolve(timm.create_model(f"local-dir:{tmp_path}", pretrained=True)) == "sigmoid"
    assert _resolve(timm.create_model(f"local-dir:{tmp_path}", pretrained=True, num_classes=7)) == "softmax"


@pytest.mark.parametrize("call", [lambda model, **o: inject(model, NEW, **o), self_score, fit_mapper])
def test_a_bad_value_is_refused(small_model, call):
    before = copy.deepcopy(small_model.state_dict())
    with pytest.raises(ArgumentValueError) as caught:
        call(small_model, encoder=WordEncoder(), activation="relu")
    assert str(caught.value) == (
        "`activation` must be one of 'softmax', 'sigmoid', 'sigmoid-top1', None, got 'relu'. Pass 'sigmoid' for a head that gives "
        "each class a probability of its own, or None to have it looked up in the model's config and tag."
    )
    assert all(torch.equal(before[key], value) for key, value in small_model.state_dict().items())


# --- what follows from it ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sigmoid_head():
    """A linear head trained with binary cross-entropy on 50 clusters, the descriptors of 60, and images of all 60."""
    generator = torch.Generator().manual_seed(0)
    descriptors = normalize(torch.randn(NUM_SEEN + NUM_NEW, 16, generator=generator), dim=1)
    # A part of each cluster's place does not follow from its descriptor, as in life.
    centres = descriptors @ torch.randn(16, DIM, generator=generator) + 1.0 + 0.8 * torch.randn(60, DIM, generator=generator)

    def draw(count, classes):
        labels = torch.arange(classes).repeat_interleave(count)
        return centres[labels] + 1.4 * torch.randn(len(labels), DIM, generator=generator), labels

    features, labels = draw(60, NUM_SEEN)
    weight, bias = torch.zeros(NUM_SEEN, DIM, requires_grad=True), torch.full((NUM_SEEN,), -4.0, requires_grad=True)
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=60, line_search_fn="strong_wolfe")

    def closure():
        optimizer.zero_grad()
        loss = binary_cross_entropy_with_logits(features @ weight.T + bias, one_hot(labels, NUM_SEEN).float())
        (loss + 1e-5 * weight.square().sum()).backward()
        return loss.detach()

    optimizer.step(closure)
    rows = torch.cat([weight, bias[:, None]], dim=1).detach()
    return descriptors, rows, draw(30, NUM_SEEN + NUM_NEW)


def _calibrate(sigmoid_head, activation, calibration="harmonic"):
    descriptors, rows, _ = sigmoid_head
    fitted = fit_and_crossfit("kernel-ridge", descriptors[:NUM_SEEN], rows, feature_dim=DIM, activation=activation)
    return calibrate_rows(fitted, fitted.mapper.predict_rows(descriptors[NUM_SEEN:]), calibration)


def _passes(sigmoid_head, new_rows):
    """Whether each class passes one half on each image, the images' classes, and whether these are new."""
    _, rows, (features, labels) = sigmoid_head
    rows = torch.cat([rows, new_rows])
    return features @ rows[:, :-1].T + rows[:, -1] > 0, labels, labels >= NUM_SEEN


def _harmonic_mean_by_largest_logit(sigmoid_head, new_rows):
    _, rows, (features, labels) = sigmoid_head
    rows = torch.cat([rows, new_rows])
    hits = ((features @ rows[:, :-1].T + rows[:, -1]).argmax(1) == labels).float()
    seen, unseen = hits[labels < NUM_SEEN].mean().item(), hits[labels >= NUM_SEEN].mean().item()
    return 2 * seen * unseen / (seen + unseen)


def _harmonic_mean_by_passing(sigmoid_head, new_rows):
    """A seen class is right where it passes and no new one does; a new one where it passes and leads the new ones."""
    _, _, (features, _) = sigmoid_head
    passes, labels, is_new = _passes(sigmoid_head, new_rows)
    own = passes.gather(1, labels[:, None])[:, 0]
    seen = (own & ~passes[:, NUM_SEEN:].any(1))[~is_new].float().mean().item()
    leads = (features @ new_rows[:, :-1].T + new_rows[:, -1]).argmax(1) + NUM_SEEN == labels
    unseen = (own & leads)[is_new].float().mean().item()
    return 2 * seen * unseen / (seen + unseen)


def test_new_classes_pass_one_half_more_nearly_as_often_as_seen_ones(sigmoid_head):
    """On images of their own; and no image that the largest logit had right is lost for it."""

    def gap(new_rows):
        passes, labels, is_new = _passes(sigmoid_head, new_rows)
        own = passes.gather(1, labels[:, None])[:, 0].float()
        return abs(own[is_new].mean() - own[~is_new].mean()).item()

    by_softmax, by_sigmoid = (_calibrate(sigmoid_head, name).rows for name in ("softmax", "sigmoid"))
    assert gap(by_sigmoid) < gap(by_softmax) - 0.05
    balances = [_harmonic_mean_by_passing(sigmoid_head, rows) for rows in (by_softmax, by_sigmoid)]
    assert balances[1] > balances[0] + 0.01
    figures = [_harmonic_mean_by_largest_logit(sigmoid_head, rows) for rows in (by_softmax, by_sigmoid)]
    assert figures[1] > figures[0] - 0.01


def test_keep_seen_lets_new_classes_pass_on_few_images_of_seen_ones(sigmoid_head):
    calibrated = _calibrate(sigmoid_head, "sigmoid", "keep-seen")
    passes, labels, is_new = _passes(sigmoid_head, calibrated.rows)
    assert passes[~is_new, NUM_SEEN:].any(1).float().mean() < 0.03
    assert passes[is_new, labels[is_new]].float().mean() > 0.1
    # A seen class is right where it passes, which is stated, and no new class does.
    assert calibrated.self_score["seen_accuracy"] == pytest.approx(0.65, abs=0.03)


def test_a_sigmoid_top1_head_is_judged_by_its_largest_logit(sigmoid_head):
    by_softmax, by_top1 = (_calibrate(sigmoid_head, name) for name in ("softmax", "sigmoid-top1"))
    assert not torch.equal(by_top1.rows, by_softmax.rows)
    figures = [_harmonic_mean_by_largest_logit(sigmoid_head, calibrated.rows) for calibrated in (by_softmax, by_top1)]
    assert figures[1] > figures[0] - 0.01


@pytest.mark.parametrize("calibration", ["harmonic", "keep-seen", None])
def test_without_a_bias_it_is_the_length_alone(sigmoid_head, calibration):
    descriptors, rows, _ = sigmoid_head
    fitted = fit_and_crossfit("kernel-ridge", descriptors[:NUM_SEEN], rows[:, :DIM], feature_dim=DIM)
    new_rows = fitted.mapper.predict_rows(descriptors[NUM_SEEN:])
    one, other = (calibrate_rows(replace(fitted, activation=name), new_rows, calibration).rows for name in ("sigmoid", "softmax"))
    assert torch.equal(one, other)


@pytest.mark.parametrize("num_classes", [40, 1200])
def test_pseudo_features_of_a_sigmoid_head(num_classes):
    weights = torch.randn(num_classes, 64, generator=torch.Generator().manual_seed(0))
    weights = weights - weights.mean(0)
    model, pseudo = fit_feature_model(weights, None, torch.Generator().manual_seed(0), "sigmoid")
    logits = pseudo.features @ weights.T + pseudo.level
    own = logits.gather(1, pseudo.labels[:, None])
    assert (own > 0).float().mean().item() == pytest.approx(0.65, abs=0.02)
    truth = one_hot(pseudo.labels, num_classes).float()
    losses = [binary_cross_entropy_with_logits(factor * logits, truth).item() for factor in (1 / 1.2, 1.0, 1.2)]
    assert min(losses) == losses[1]
    assert model.draw(weights, pseudo.labels, torch.Generator(), places=model.places(weights)).level == pseudo.level
    other, _ = fit_feature_model(weights, None, torch.Generator().manual_seed(0), "sigmoid-top1")
    assert (other.scale, other.level) == (model.scale, None)


def test_confidence_in_a_sigmoid_head_is_that_it_passes(sigmoid_head):
    descriptors, rows, _ = sigmoid_head
    estimates = {}
    for shift in (0.0, -50.0):
        new_rows = _calibrate(sigmoid_head, "sigmoid").rows
        new_rows[:, -1] += shift
        fitted = fit_and_crossfit("kernel-ridge", descriptors[:NUM_SEEN], rows, feature_dim=DIM, activation="sigmoid")
        estimates[shift] = estimate_names(fitted, descriptors[NUM_SEEN:], new_rows)
    assert estimates[0.0].accuracy.mean() > 0.1
    assert estimates[-50.0].accuracy.max() == 0
    assert torch.allclose(estimates[0.0].zsl_accuracy, estimates[-50.0].zsl_accuracy)


# --- through the API -----------------------------------------------------------------------------------------------------


def _injected(model, **options):
    model = copy.deepcopy(model)
    inject(model, NEW, encoder=WordEncoder(), mapper="ridge", **options)
    return model


def test_softmax_heads_get_the_rows_that_they_always_got(small_model):
    looked_up, told = _injected(small_model), _injected(small_model, activation="softmax")
    assert torch.equal(looked_up.fc.weight, told.fc.weight)
    assert torch.equal(looked_up.fc.bias, told.fc.bias)
    assert injection_record(looked_up).classes == injection_record(told).classes
    assert not torch.equal(_injected(small_model, activation="sigmoid").fc.bias, told.fc.bias)


def test_the_record_keeps_it_and_later_injections_take_it(small_model, tmp_path):
    once = _injected(small_model, activation="sigmoid")
    assert [entry.activation for entry in injection_record(once).classes] == ["sigmoid", "sigmoid"]
    assert self_score(once, encoder=WordEncoder(), mapper="ridge").activation == "sigmoid"
    assert all(0 < share <= 1 for _, share in explain(once, "okapi").takes_from)
    inject(small_model, NEW[:1], encoder=WordEncoder(), mapper="ridge", activation="sigmoid")
    save_for_hf(small_model, tmp_path)
    assert "| sigmoid |" in (tmp_path / "README.md").read_text(encoding="utf-8")
    again = timm.create_model(f"local-dir:{tmp_path}", pretrained=True)
    inject(again, NEW[1:], encoder=WordEncoder(), mapper="ridge")
    assert injection_record(again).classes == injection_record(once).classes
    assert torch.equal(again.fc.bias, once.fc.bias)


def test_rows_of_another_activation_are_kept(small_model):
    inject(small_model, NEW[:1], encoder=WordEncoder(), mapper="ridge", activation="softmax")
    first = small_model.fc.bias[len(NAMES)].item()
    inject(small_model, NEW[1:], encoder=WordEncoder(), mapper="ridge", activation="sigmoid")
    assert small_model.fc.bias[len(NAMES)].item() == first
    assert [entry.activation for entry in injection_record(small_model).classes] == ["softmax", "sigmoid"]


def test_a_trained_mapper_serves_any_activation(small_model):
    trained = fit_mapper(small_model, encoder=WordEncoder(), mapper="ridge")
    by_name = _injected(small_model, activation="sigmoid")
    inject(small_model, NEW, encoder=WordEncoder(), mapper=trained, activation="sigmoid")
    assert torch.equal(small_model.fc.bias, by_name.fc.bias)


@needs_offline
def test_command_line(small_model, tmp_path, capsys):
    save_for_hf(small_model, tmp_path / "model")
    model = f"local-dir:{tmp_path / 'model'}"
    options = ["--mapper", "ridge", "--json", "--quiet"]
    assert main(["inject", model, "okapi", "--output", str(tmp_path / "out"), "--activation", "sigmoid", *options]) == 0
    assert json.loads(capsys.readouterr().out)["record"]["classes"][0]["activation"] == "sigmoid"
    for chosen, expected in ((["--activation", "sigmoid-top1"], "sigmoid-top1"), ([], "softmax")):
        assert main(["self-score", model, *chosen, *options]) == 0
        assert json.loads(capsys.readouterr().out)["activation"] == expected
    with pytest.raises(SystemExit) as caught:
        main(["self-score", model, "--activation", "relu"])
    assert caught.value.code == 2
