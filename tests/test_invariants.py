"""What holds whatever the names, counts, dtypes and orders are."""

import copy
import functools

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from tests.helpers import NAMES, WordEncoder, make_model, same_bits
from timm_inject import inject, injection_record
from timm_inject.head import find_head, read_rows, resize_head

DTYPES = st.sampled_from([torch.float16, torch.bfloat16, torch.float32, torch.float64])
# One Linear; one 1x1 convolution; two Linears.
ARCHITECTURES = st.sampled_from(["test_resnet", "dla46_c", "swiftformer_xs"])
WORDS = st.sampled_from(["okapi", "quokka", "numbat", "tapir", "axolotl", "gharial", "saola", "kakapo"])
NEW_NAMES = st.lists(
    st.builds(lambda *words: " ".join(words), WORDS, WORDS) | st.text("ßéλжא字 '-Ab3", min_size=1, max_size=8),
    min_size=1,
    max_size=6,
).map(lambda names: [f"{name} number {index}".strip() for index, name in enumerate(names)])
quick = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])


made_once = functools.cache(make_model)


def fresh(name: str = "test_resnet", dtype: torch.dtype = torch.float32) -> nn.Module:
    return copy.deepcopy(made_once(name)).to(dtype)


def head_tensors(model: nn.Module) -> dict[str, torch.Tensor]:
    return {
        f"{leaf.name}.{name}": parameter.detach().clone()
        for leaf in find_head(model).leaves
        for name, parameter in leaf.layer.named_parameters()
    }


@quick
@given(
    name=ARCHITECTURES,
    dtype=DTYPES,
    kept=st.permutations(range(len(NAMES))).flatmap(lambda order: st.integers(0, len(NAMES)).map(lambda n: order[:n])),
    num_new=st.integers(0, 4),
    with_record=st.booleans(),
)
def test_resizing_keeps_what_is_asked_and_appends_the_rest(
    name: str, dtype: torch.dtype, kept: list[int], num_new: int, with_record: bool
) -> None:
    model = fresh(name, dtype)
    model.timm_inject_record = {"earlier": True}
    head, before = find_head(model), head_tensors(model)
    rest = {key: value for key, value in model.state_dict().items() if key not in before}
    new_rows = [torch.randn(num_new, leaf.row_dim, generator=torch.Generator().manual_seed(1)) for leaf in head.leaves]
    num_classes = len(kept) + num_new
    if not num_classes:
        with pytest.raises(ValueError, match="A head without any row is no classifier"):
            resize_head(model, head, new_rows, kept=kept, config={}, record=None)
        assert same_bits(head_tensors(model), before)
        return
    resize_head(model, head, new_rows, kept=kept, config={}, record={"seed": 1} if with_record else None)
    for leaf, rows in zip(head.leaves, new_rows, strict=True):
        weight, bias = leaf.layer.weight, leaf.layer.bias
        assert weight.dtype == bias.dtype == dtype
        assert leaf.num_classes == len(weight) == len(bias) == model.num_classes == num_classes
        assert torch.equal(weight[: len(kept)], before[f"{leaf.name}.weight"][kept])
        assert torch.equal(bias[: len(kept)], before[f"{leaf.name}.bias"][kept])
        assert torch.equal(weight[len(kept) :].flatten(1), rows[:, :-1].to(dtype))
        assert torch.equal(bias[len(kept) :], rows[:, -1].to(dtype))
    assert same_bits({key: model.state_dict()[key] for key in rest}, rest)
    assert getattr(model, "timm_inject_record", None) == ({"seed": 1} if with_record else None)
    assert model.pretrained_cfg["num_classes"] == num_classes


@quick
@given(name=ARCHITECTURES, dtype=DTYPES, num_new=st.integers(0, 5))
def test_taking_the_new_rows_out_again_gives_back_every_bit(name: str, dtype: torch.dtype, num_new: int) -> None:
    model = fresh(name, dtype)
    before = copy.deepcopy(model.state_dict())
    head = find_head(model)
    resize_head(model, head, [torch.ones(num_new, leaf.row_dim) for leaf in head.leaves], config={}, record={})
    nothing = [torch.empty(0, leaf.row_dim) for leaf in head.leaves]
    resize_head(model, head, nothing, kept=range(len(NAMES)), config={}, record=None)
    assert same_bits(model.state_dict(), before)
    assert model.num_classes == len(NAMES)
    assert not hasattr(model, "timm_inject_record")


@pytest.mark.parametrize("kept", [[0, 0], [-1], [10], [3, 4, 3]])
def test_positions_that_are_not_rows_are_refused(kept: list[int]) -> None:
    model = fresh()
    before = head_tensors(model)
    with pytest.raises(ValueError, match=r"`kept` must hold different positions from 0 to 9, got \["):
        resize_head(model, find_head(model), [torch.ones(1, 97)], kept=kept, config={}, record={})
    assert same_bits(head_tensors(model), before)


@quick
@given(names=NEW_NAMES, dtype=DTYPES, seed=st.integers(0, 2**40), architecture=ARCHITECTURES)
def test_seen_rows_keep_their_bits_and_names_their_order(
    names: list[str], dtype: torch.dtype, seed: int, architecture: str
) -> None:
    model = fresh(architecture, dtype)
    before = head_tensors(model)
    inject(model, names, encoder=WordEncoder(), mapper="ridge", descriptions=None, seed=seed)
    after = head_tensors(model)
    assert all(torch.equal(after[key][: len(NAMES)], value) for key, value in before.items())
    assert all(len(value) == len(NAMES) + len(names) and value.isfinite().all() for value in after.values())
    assert [entry.name for entry in injection_record(model).classes] == names
    assert [entry.index for entry in injection_record(model).classes] == list(range(len(NAMES), len(NAMES) + len(names)))
    labels = model.pretrained_cfg["label_names"]
    assert labels[: len(NAMES)] == NAMES
    assert len(set(labels)) == len(labels) == model.num_classes


@quick
@given(data=st.data(), names=NEW_NAMES)
def test_the_order_of_the_names_orders_the_rows_and_changes_none(data: st.DataObject, names: list[str]) -> None:
    order = data.draw(st.permutations(range(len(names))))
    one, other = fresh(), fresh()
    inject(one, names, encoder=WordEncoder(), mapper="ridge", calibration=None)
    inject(other, [names[index] for index in order], encoder=WordEncoder(), mapper="ridge", calibration=None)
    rows, reordered = (read_rows(find_head(model).leaves[0])[len(NAMES) :] for model in (one, other))
    torch.testing.assert_close(reordered, rows[list(order)], rtol=1e-4, atol=1e-5)


@quick
@given(names=NEW_NAMES, mapper=st.sampled_from(["ridge", "kernel-ridge", "wavg", "mean-row"]))
def test_what_is_stored_is_the_float32_prediction_rounded_once(names: list[str], mapper: str) -> None:
    """The same rows come out in every dtype, but for the rounding of the seen rows that they were learned from."""
    single = fresh().to(torch.bfloat16).float()  # the values that a bfloat16 head holds
    half = fresh(dtype=torch.bfloat16)
    for model in (single, half):
        inject(model, names, encoder=WordEncoder(), mapper=mapper)
    assert torch.equal(single.fc.weight.to(torch.bfloat16), half.fc.weight)
    assert torch.equal(single.fc.bias.to(torch.bfloat16), half.fc.bias)
