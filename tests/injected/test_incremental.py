"""Inject after inject."""

import copy

import pytest
import torch

from tests.helpers import NEW, WordEncoder, bits_of, needs_offline, reload, same_bits
from timm_inject import inject, injection_record, remove


@pytest.mark.parametrize("calibration", ["balanced", "harmonic", "keep-seen", 0.05, None])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_twice_is_once(small_model, calibration, dtype):
    small_model.to(dtype)
    once, alone = copy.deepcopy(small_model), copy.deepcopy(small_model)
    inject(small_model, NEW[:1], encoder=WordEncoder(), calibration=calibration)
    inject(small_model, NEW[1:], encoder=WordEncoder(), calibration=calibration)
    inject(once, NEW, encoder=WordEncoder(), calibration=calibration)
    assert same_bits(bits_of(small_model), bits_of(once))
    assert injection_record(small_model) == injection_record(once)
    assert small_model.pretrained_cfg == once.pretrained_cfg
    inject(alone, NEW[:1], encoder=WordEncoder(), calibration=calibration)
    # The offset depends on how many classes come together, or the equality above would say nothing. Raw rows do not, but for the
    # last bits: a product of one row and of three may add up in another order.
    assert torch.allclose(alone.fc.bias, once.fc.bias[:11], rtol=1e-4) == (calibration is None)


def test_twice_is_once_after_saving_loading_and_removing(small_model, tmp_path):
    once = copy.deepcopy(small_model)
    inject(small_model, NEW[:2], encoder=WordEncoder())
    loaded = reload(small_model, tmp_path)
    remove(loaded, [NEW[0]])
    inject(loaded, NEW[2:], encoder=WordEncoder())
    inject(once, NEW[1:], encoder=WordEncoder())
    assert same_bits(bits_of(loaded), bits_of(once))


@needs_offline
def test_twice_is_once_on_real_weights(packaged_model):
    once = copy.deepcopy(packaged_model)
    inject(packaged_model, ["dahlia"])
    inject(packaged_model, ["astronaut", "motorcycle"])
    inject(once, ["dahlia", "astronaut", "motorcycle"])
    assert same_bits(bits_of(packaged_model), bits_of(once))


@pytest.mark.parametrize(
    "other", [{"seed": 1}, {"mapper": "ridge"}, {"calibration": "keep-seen"}, {"encoder": WordEncoder(16)}, {"descriptions": None}]
)
def test_rows_of_other_settings_are_kept(small_model, other):
    inject(small_model, NEW[:2], encoder=WordEncoder(), mapper="wavg")
    before = small_model.fc.weight.detach().clone()
    inject(small_model, NEW[2:], **{"encoder": WordEncoder(), "mapper": "wavg", **other})
    assert torch.equal(small_model.fc.weight[:12], before)


def test_an_encoder_of_the_same_kind_with_other_weights_is_noticed(small_model):
    class Negated(WordEncoder):
        __qualname__ = WordEncoder.__qualname__
        __module__ = WordEncoder.__module__

        def encode(self, sentences):
            return -super().encode(sentences)

    inject(small_model, NEW[:2], encoder=WordEncoder(), mapper="ridge")
    before = small_model.fc.bias.detach().clone()
    inject(small_model, NEW[2:], encoder=Negated(), mapper="ridge")
    assert torch.equal(small_model.fc.bias[:12], before)
    assert len(injection_record(small_model).probes) == 2


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_row_that_was_trained_since_is_kept_bit_for_bit(small_model, dtype):
    small_model.to(dtype)
    inject(small_model, NEW[:2], encoder=WordEncoder(), mapper="ridge")
    with torch.no_grad():
        small_model.fc.weight[11] += 1e-12 if dtype is torch.float64 else 1e-2
    before = bits_of(small_model)
    with torch.no_grad():
        small_model.fc.weight[11] += torch.pi  # what float32 can't hold must survive too
        before["fc.weight"] = small_model.fc.weight.detach().clone()
    inject(small_model, NEW[2:], encoder=WordEncoder(), mapper="ridge")
    assert torch.equal(small_model.fc.weight[:10], before["fc.weight"][:10])
    assert torch.equal(small_model.fc.weight[11], before["fc.weight"][11])
    assert small_model.fc.bias[11] == before["fc.bias"][11]
    assert small_model.fc.bias[10] != before["fc.bias"][10]  # untouched, so calibrated again with the new class
