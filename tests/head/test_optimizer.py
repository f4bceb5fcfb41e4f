"""An optimizer that was made before the head was widened."""

import copy

import pytest
import torch
from timm.optim import Lookahead, create_optimizer_v2
from torch import nn

from tests.helpers import NAMES, add, every_small_kind, head_parameters, make_images, make_small_model
from timm_inject import (
    ArgumentTypeError,
    ArgumentValueError,
    refresh_optimizer,
)
from timm_inject.head import find_head, resize_head


def train_step(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    optimizer.zero_grad()
    logits = model.train()(make_images(224 if hasattr(model, "head_dist") else 64))
    logits.square().sum().backward()
    optimizer.step()
    model.eval()


@pytest.mark.parametrize("kind", ["sgd", "adamw", "rmsprop", "lion"])
@every_small_kind
def test_a_refreshed_optimizer_trains_the_new_head_and_keeps_momentum(name: str, kind: str) -> None:
    model = make_small_model(name)
    optimizer = create_optimizer_v2(model, opt=kind, lr=0.1, weight_decay=0.01, momentum=0.9)
    train_step(model, optimizer)
    options = [{key: value for key, value in group.items() if key != "params"} for group in optimizer.param_groups]
    places = {
        id(parameter): (g, p) for g, group in enumerate(optimizer.param_groups) for p, parameter in enumerate(group["params"])
    }
    old = head_parameters(model)
    kept = {id(parameter): copy.deepcopy(optimizer.state[parameter]) for parameter in old}
    add(model)
    names = refresh_optimizer(optimizer, model)
    assert len(names) == len(old)
    assert refresh_optimizer(optimizer, model) == []
    assert options == [{key: value for key, value in group.items() if key != "params"} for group in optimizer.param_groups]
    held = [id(parameter) for group in optimizer.param_groups for parameter in group["params"]]
    assert sorted(held) == sorted(id(parameter) for parameter in model.parameters())
    assert set(map(id, optimizer.state)) <= set(held)
    for before, after in zip(old, head_parameters(model), strict=True):
        group, position = places[id(before)]
        assert optimizer.param_groups[group]["params"][position] is after
        for key, value in kept[id(before)].items():
            new = optimizer.state[after][key]
            if isinstance(value, torch.Tensor) and value.ndim:
                assert torch.equal(new[: len(NAMES)], value)
                assert new.shape == after.shape
                assert not new[len(NAMES) :].any()
            else:
                assert new == value
    weights = [parameter.detach().clone() for parameter in head_parameters(model)]
    train_step(model, optimizer)
    moved = [not torch.equal(one, other) for one, other in zip(weights, head_parameters(model), strict=True)]
    assert moved[0]
    assert not torch.equal(weights[0][-1], head_parameters(model)[0][-1])


def test_without_a_refresh_the_head_would_not_train() -> None:
    model = make_small_model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    add(model)
    before = model.fc.weight.detach().clone()
    train_step(model, optimizer)
    assert torch.equal(model.fc.weight, before)


def test_a_refresh_also_follows_a_smaller_head() -> None:
    model = make_small_model()
    add(model)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    train_step(model, optimizer)
    momentum = optimizer.state[model.fc.weight]["exp_avg"].clone()
    resize_head(model, find_head(model), [torch.empty(0, 97)], kept=range(10), config={}, record=None)
    assert refresh_optimizer(optimizer, model) == ["fc.weight", "fc.bias"]
    assert torch.equal(optimizer.state[model.fc.weight]["exp_avg"], momentum[:10])


@pytest.mark.skipif(not hasattr(torch.optim, "Adafactor"), reason="this torch has no Adafactor")
def test_state_that_is_not_one_number_a_weight_starts_anew() -> None:
    model = make_small_model()
    optimizer = torch.optim.Adafactor(model.parameters(), lr=0.1)
    train_step(model, optimizer)
    assert "row_var" in optimizer.state[model.fc.weight]
    add(model)
    assert refresh_optimizer(optimizer, model) == ["fc.weight", "fc.bias"]
    assert model.fc.weight not in optimizer.state
    train_step(model, optimizer)
    assert optimizer.state[model.fc.weight]["row_var"].shape[0] == 13


@pytest.mark.parametrize("kind", ["lookahead", "asgd"])
def test_copies_of_the_weights_start_from_the_new_rows(kind: str) -> None:
    """Zeros there would pull the new rows to zero."""
    model = make_small_model()
    inner = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9) if kind == "lookahead" else None
    optimizer = Lookahead(inner, k=1) if inner else torch.optim.ASGD(model.parameters(), lr=0.1)
    state, copied = (inner or optimizer).state, "lookahead_slow_buff" if inner else "ax"
    train_step(model, optimizer)
    old = model.fc.weight
    before = {key: value.clone() for key, value in state[old].items() if value is not None}
    add(model)
    assert refresh_optimizer(optimizer, model) == ["fc.weight", "fc.bias"]
    assert old not in state
    after = state[model.fc.weight]
    assert torch.equal(after[copied][: len(NAMES)], before[copied])
    assert torch.equal(after[copied][len(NAMES) :], model.fc.weight[len(NAMES) :])
    if inner:
        assert torch.equal(after["momentum_buffer"][: len(NAMES)], before["momentum_buffer"])
        assert not after["momentum_buffer"][len(NAMES) :].any()
    rows = model.fc.weight[len(NAMES) :].detach().clone()
    train_step(model, optimizer)
    assert model.fc.weight.shape == (13, 96)
    assert (model.fc.weight[len(NAMES) :] - rows).abs().max() > 0


def test_a_scheduler_goes_on_with_a_refreshed_optimizer() -> None:
    model = make_small_model()
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=1, gamma=0.5)
    add(model)
    refresh_optimizer(optimizer, model)
    optimizer.step()
    scheduler.step()
    assert optimizer.param_groups[0]["lr"] == 0.5


def test_an_optimizer_of_another_model_is_refused_and_left_alone() -> None:
    model, other = make_small_model(), make_small_model("dla46_c")
    optimizer = torch.optim.SGD(other.parameters(), lr=0.1)
    held = list(optimizer.param_groups[0]["params"])
    with pytest.raises(ArgumentValueError) as error:
        refresh_optimizer(optimizer, model)
    assert str(error.value) == (
        "The optimizer holds neither the parameters of 'fc' nor the ones that they came from. Refresh it right after `inject`, "
        "before the model trains on, or make it again from model.parameters()."
    )
    assert all(one is two for one, two in zip(held, optimizer.param_groups[0]["params"], strict=True))
    with pytest.raises(ArgumentTypeError, match=r"`optimizer` must be a torch\.optim\.Optimizer, got Linear\."):
        refresh_optimizer(nn.Linear(1, 1), model)  # type: ignore[arg-type]


def test_parameters_of_other_modules_stay_in_the_optimizer() -> None:
    model, loss = make_small_model(), nn.Linear(96, 10)
    optimizer = torch.optim.SGD([{"params": loss.parameters(), "lr": 1.0}, {"params": model.parameters(), "lr": 0.1}], lr=0.5)
    add(model)
    assert refresh_optimizer(optimizer, model) == ["fc.weight", "fc.bias"]
    assert optimizer.param_groups[0]["params"] == list(loss.parameters())
    assert any(parameter is model.fc.weight for parameter in optimizer.param_groups[1]["params"])
