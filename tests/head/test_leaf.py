"""Rows as they are read: what they hold, and which ones no training leaves."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from tests.helpers import find_leaf, make_model
from timm_inject.errors import HeadWeightsError
from timm_inject.head import read_rows


def test_read_rows_is_a_float32_copy_with_the_bias_as_last_column() -> None:
    leaf = find_leaf(make_model().double())
    rows = read_rows(leaf)
    assert (rows.shape, rows.dtype, rows.requires_grad) == ((10, leaf.feature_dim + 1), torch.float32, False)
    assert torch.equal(rows[:, -1], leaf.layer.bias.float())
    assert torch.equal(rows[:, :-1], leaf.layer.weight.float())


def test_read_rows_without_bias_is_a_copy_of_the_weight() -> None:
    model = make_model()
    model.fc = nn.Linear(model.num_features, 10, bias=False)
    leaf = find_leaf(model)
    rows = read_rows(leaf)
    assert leaf.row_dim == leaf.feature_dim
    assert torch.equal(rows, leaf.layer.weight)
    rows.zero_()
    assert leaf.layer.weight.any()


def set_rows(start: int, stop: int, value: float) -> Callable[[nn.Linear], None]:
    def change(layer: nn.Linear) -> None:
        layer.weight.data[start:stop] = value

    return change


def zero_all(layer: nn.Linear) -> None:
    layer.weight.data.zero_()
    layer.bias.data.zero_()


def repeat_first(layer: nn.Linear) -> None:
    layer.weight.data[:] = layer.weight.data[0]
    layer.bias.data[:] = -7.0


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (
            set_rows(2, 9, float("nan")),
            "The classifier 'fc' has NaN or infinity in 7 of 10 rows (positions 2, 3, 4, 5, 6 and 2 more). "
            "Load trained weights first (`pretrained=True`, or load_state_dict).",
        ),
        (set_rows(5, 6, float("inf")), "has NaN or infinity in 1 of 10 rows (positions 5)."),
        (zero_all, "The classifier 'fc' is untrained: all 10 rows are the same (zero). Load trained weights"),
        (repeat_first, "The classifier 'fc' is untrained: all 10 rows are the same. Load trained weights"),
        (set_rows(3, 5, 0.0), "all zero, as untrained classes have, in 2 of 10 rows (positions 3, 4). Load"),
    ],
    ids=["nan", "inf", "zero", "identical", "some-zero"],
)
def test_read_rows_refuses_what_no_training_leaves(change: Callable[[nn.Linear], None], text: str) -> None:
    leaf = find_leaf(make_model())
    change(leaf.layer)
    with pytest.raises(HeadWeightsError) as error:
        read_rows(leaf)
    assert text in str(error.value)


def test_read_rows_refuses_a_single_class() -> None:
    with pytest.raises(HeadWeightsError, match="has 1 class; at least 2 are needed"):
        read_rows(find_leaf(make_model(num_classes=1)))
