"""What timm itself says grows with the number of classes."""

import pytest
import torch

from tests.helpers import make_model
from timm_inject import UnsupportedHeadError
from timm_inject.head import find_head, growth


def test_something_else_that_grows_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    model = make_model("repvit_m0_9")
    own = frozenset(
        {"head.head.l.weight", "head.head.l.bias", "head.head_dist.l.weight", "head.head_dist.l.bias", "stem.conv1.c.weight"}
    )
    monkeypatch.setattr("timm_inject.head.finding.growing_tensors", lambda _: own | {"stem.conv1.c.weight"})
    with pytest.raises(UnsupportedHeadError) as error:
        find_head(model)
    assert str(error.value).startswith(
        "'repvit_m0_9' has tensors of one entry a class besides its classifier's: 'stem.conv1.c.weight'. They can't be predicted "
        "from names. Load a model with such a layer"
    )


def test_asking_timm_draws_no_random_numbers() -> None:
    model = make_model("levit_128s")
    growth._growing_tensors.cache_clear()
    before = torch.get_rng_state()
    find_head(model)
    assert growth._growing_tensors.cache_info().misses == 1
    assert torch.equal(torch.get_rng_state(), before)
