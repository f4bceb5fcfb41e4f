"""What every mapper does with what it is given."""

import pytest
import torch

from tests.helpers import related_classes
from timm_inject.errors import MapperError
from timm_inject.mappers import kernel_ridge
from timm_inject.mappers.registry import create_mapper


@pytest.mark.parametrize(
    ("descriptors", "rows", "message"),
    [
        (
            torch.ones(3, 4),
            torch.ones(2, 5),
            "A mapper needs one descriptor a row: got descriptors (3, 4) and rows (2, 5)",
        ),
        (torch.ones(1, 4), torch.ones(1, 5), "A mapper needs at least 2 seen classes to learn from, got 1."),
        (torch.full((2, 4), torch.nan), torch.ones(2, 5), "The descriptors hold NaN or infinite values."),
        (torch.ones(2, 4), torch.full((2, 5), torch.inf), "The rows to learn from hold NaN or infinite values."),
    ],
)
def test_bad_training_sets_are_told(descriptors, rows, message):
    with pytest.raises(MapperError) as caught:
        create_mapper("ridge").fit(descriptors, rows)
    assert message in str(caught.value)


def test_misuse_is_told():
    with pytest.raises(MapperError, match="The mapper 'ridge' is not fitted. Call `fit`"):
        create_mapper("ridge").predict_rows(torch.ones(1, 4))
    descriptors, rows = related_classes(10)
    with pytest.raises(MapperError, match=r"fitted on descriptors of width 16, got shape \(1, 4\)"):
        create_mapper("ridge").fit(descriptors, rows).predict_rows(torch.ones(1, 4))


@pytest.mark.parametrize("name", ["icis", "kernel-ridge"])
def test_a_mapper_on_other_classes_keeps_what_was_chosen(name, monkeypatch):
    descriptors, rows = related_classes(60)
    fitted = create_mapper(name).fit(descriptors, rows)
    other = fitted.unfitted()
    assert not other.tensors
    monkeypatch.setattr(kernel_ridge, "choose_kernel", None)  # not to be called
    other.fit(descriptors[:40], rows[:40])
    assert all(torch.equal(other.tensors[choice], fitted.tensors[choice]) for choice in fitted.choices)
    same = fitted.unfitted().fit(descriptors, rows)
    assert all(torch.equal(same.tensors[key], tensor) for key, tensor in fitted.tensors.items())
