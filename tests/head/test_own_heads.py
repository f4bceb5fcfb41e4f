"""Heads of a class of the user's own, and heads with classes that are switched off."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from tests.helpers import NAMES, NEW, add, logits_of, make_images, make_model, snapshot
from timm_inject import HeadWeightsError, UnsupportedHeadError, injection_record
from timm_inject.head import find_head


class Dropped(nn.Module):
    """Dropout and one layer."""

    def __init__(self, layer: nn.Module | None = None) -> None:
        super().__init__()
        self.drop = nn.Dropout(0.5)
        self.out = layer or nn.Linear(96, 10)
        self.calls = 0

    def forward(self, features: Tensor) -> Tensor:
        self.calls += 1
        return self.out(self.drop(features))


class Deep(Dropped):
    """A hidden layer, normalised, before the last."""

    def __init__(self) -> None:
        super().__init__(nn.Linear(24, 10))
        self.hidden = nn.Sequential(nn.Linear(96, 24), nn.BatchNorm1d(24), nn.GELU())

    def forward(self, features: Tensor) -> Tensor:
        return self.out(self.drop(self.hidden(features))).log_softmax(1)


class Branching(Dropped):
    """What can't be traced, as it looks at the values."""

    def forward(self, features: Tensor) -> Tensor:
        return self.out(features if features.ndim == 2 and features.sum() > 0 else self.drop(features))


class Nested(nn.Module):
    """A head in a head."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = Dropped()

    def forward(self, features: Tensor) -> Tensor:
        return self.inner(features)


HEADS: list[tuple[Callable[[], nn.Module], str]] = [
    (Dropped, "fc.out"),
    (Deep, "fc.out"),
    (Branching, "fc.out"),
    (Nested, "fc.inner.out"),
    (lambda: nn.Sequential(nn.ReLU(), Dropped()), "fc.1.out"),
    (lambda: nn.Sequential(nn.Dropout(0.5), nn.Linear(96, 10)), "fc.1"),
]


@pytest.mark.parametrize(("make", "path"), HEADS)
def test_an_own_class_is_taken_like_a_sequential_of_the_same(make: Callable[[], nn.Module], path: str) -> None:
    model = make_model()
    model.fc = make().eval()
    images = make_images(64)
    before, calls = logits_of(model, images), getattr(model.fc, "calls", None)
    assert find_head(model).name == path
    assert getattr(model.fc, "calls", None) == calls  # the user's forward was not run on this object
    layer = model.get_submodule(path)
    seen = layer.weight.detach().clone()
    add(model)
    assert torch.equal(layer.weight[:10], seen)
    after = logits_of(model, images)
    assert after.shape == (2, len(NAMES) + len(NEW))
    if not isinstance(model.fc, Deep):  # whose logits are normalised over all classes
        torch.testing.assert_close(after[:, :10], before, rtol=1e-4, atol=1e-5)
    assert [entry.name for entry in injection_record(model).classes] == NEW


class Scaled(Dropped):
    """A parameter of its own beside the layer."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(10))

    def forward(self, features: Tensor) -> Tensor:
        return super().forward(features) * self.scale


class Counted(Dropped):
    """A buffer of its own: one entry a class."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("prior", torch.zeros(10))


class Cosine(Dropped):
    """The layer's weight, but not the layer, is used."""

    def forward(self, features: Tensor) -> Tensor:
        return nn.functional.linear(nn.functional.normalize(features), nn.functional.normalize(self.out.weight))


class Twice(Dropped):
    """Two layers as wide as the classes."""

    def __init__(self) -> None:
        super().__init__()
        self.other = nn.Linear(96, 10)


class Low(nn.Module):
    """A layer of the user's own inside."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(10, 96))


REFUSED = [
    Scaled,
    Counted,
    Cosine,
    Twice,
    lambda: Dropped(Low()),
    lambda: Dropped(nn.Linear(96, 7)),
    lambda: Dropped(nn.Conv2d(96, 10, 3)),
]


@pytest.mark.parametrize("make", REFUSED)
def test_a_head_that_does_more_is_refused(make: Callable[[], nn.Module]) -> None:
    model = make_model()
    model.fc = make()
    before = snapshot(model)
    with pytest.raises(UnsupportedHeadError) as error:
        add(model)
    assert "one row a class is expected, alone, last in an nn.Sequential, or inside one of timm's own heads." in str(error.value)
    assert snapshot(model) == before


OFF = [
    (float("-inf"), "-inf"),
    (-1e9, "-1e+09"),
    (-65504.0, "-6.55e+04"),
]


@pytest.mark.parametrize(("bias", "shown"), OFF)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_classes_that_are_switched_off_by_their_bias_are_told(bias: float, shown: str, dtype: torch.dtype) -> None:
    model = make_model().to(dtype)
    with torch.no_grad():
        model.fc.bias[[2, 5]] = bias
    with pytest.raises(HeadWeightsError) as error:
        add(model)
    assert str(error.value) == (
        f"The classifier 'fc' has classes that are switched off by a bias of {shown}, 2 of 10 rows (positions 2, 5): they can "
        "never win, and nothing can be learned from such a bias. Give them their trained bias back, inject, and switch them off "
        "again; or use a model without them."
    )


def test_rows_of_zeros_are_told_as_untrained_or_switched_off() -> None:
    model = make_model()
    with torch.no_grad():
        model.fc.weight[3] = 0
    with pytest.raises(HeadWeightsError) as error:
        add(model)
    assert str(error.value) == (
        "The classifier 'fc' has weights that are all zero, as untrained classes have, in 1 of 10 rows (positions 3). Load trained "
        "weights first (`pretrained=True`, or load_state_dict). If they were switched off on purpose, inject before that, or use a "
        "model without them: they teach nothing."
    )


@pytest.mark.parametrize("bias", [-50.0, -9000.0])
def test_a_bias_that_training_may_leave_is_no_switch(bias: float) -> None:
    model = make_model()
    with torch.no_grad():
        model.fc.bias[2] = bias
    add(model, mapper="wavg", calibration=None)
    assert model.fc.bias[2] == bias
