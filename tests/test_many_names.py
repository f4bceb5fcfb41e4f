"""Many names: what is done in parts gives what it gives in one go, and the cost of a name does not grow with their number."""

import copy
import time

import pytest
import torch

from tests.helpers import WordEncoder
from timm_inject import inject, injection_record
from timm_inject.calibration import explanation
from timm_inject.injected.record import InjectionRecord

ALL = [
    f"{colour} {thing} {number}" for number in range(3) for colour in ("red", "old", "tall") for thing in ("okapi", "lamp", "drum")
]


def test_parts_give_what_the_whole_gives(small_model, monkeypatch):
    parts = copy.deepcopy(small_model)
    head = inject(small_model, ALL, encoder=WordEncoder())
    monkeypatch.setattr(explanation, "_TABLE_SIZE", 40)  # four new rows at a time, as there are ten seen classes
    assert explanation.rows_at_once(10) == 4
    other = inject(parts, ALL, encoder=WordEncoder())
    assert torch.allclose(head.weight, other.weight, atol=1e-5)
    for one, two in zip(injection_record(small_model).classes, injection_record(parts).classes, strict=True):
        assert dict(one.leans_on) == pytest.approx(dict(two.leans_on), abs=2e-4)


def test_at_least_one_row_at_a_time():
    assert explanation.rows_at_once(2**30) == 1


def test_record_as_a_dict_shares_nothing_that_can_change(small_model):
    inject(small_model, ["okapi"], encoder=WordEncoder())
    record = injection_record(small_model)
    data = record.to_dict()
    assert list(data)[:3] == ["format", "num_seen", "classes"]
    assert InjectionRecord.from_dict(data) == record
    data["versions"]["timm"] = "0"
    data["probes"].clear()
    data["original_labels"]["label_names"].clear()
    data["classes"][0]["name"] = "zebra"
    assert injection_record(small_model) == record


@pytest.mark.slow
def test_cost_of_a_name_does_not_grow(small_model):
    def seconds(count):
        model = copy.deepcopy(small_model)
        start = time.process_time()
        inject(model, [f"okapi of kind {number}" for number in range(count)], encoder=WordEncoder())
        return time.process_time() - start

    inject(copy.deepcopy(small_model), ["okapi"], encoder=WordEncoder())  # reads the lexicon
    assert seconds(20_000) < 8 * seconds(5_000)  # four times as many
