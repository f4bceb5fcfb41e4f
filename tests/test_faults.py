"""A failure anywhere leaves the model byte for byte as it was, and nothing behind that would change the next call."""

import copy
import functools
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
import torch
from torch import nn

import timm_inject
from tests.helpers import NEW, WordEncoder, make_model, make_small_model, snapshot
from timm_inject import inject
from timm_inject.head import find_head, resize_head

PACKAGE = str(Path(timm_inject.__file__).parent)
Step = tuple[str, str, int]


class Fault(BaseException):
    """No `except Exception` may swallow it, as none may swallow Ctrl-C."""


def run(model: nn.Module) -> Any:
    return inject(model, NEW, encoder=WordEncoder(), mapper="ridge")


def profiled(function: Callable[[], Any], on_call: Callable[[Step, int], None]) -> None:
    """Run, and report the calls of the package's own functions: which one, and the how many-th time."""
    counts: dict[Step, int] = {}

    def profile(frame: FrameType, event: str, _: Any) -> None:
        code = frame.f_code
        if event != "call" or not code.co_filename.startswith(PACKAGE) or code.co_name == "restore":
            return
        step = (code.co_filename.removeprefix(PACKAGE), code.co_name, code.co_firstlineno)
        if code.co_flags & inspect.CO_GENERATOR and step in counts:  # resumed, perhaps only to be closed
            return
        counts[step] = counts.get(step, 0) + 1
        on_call(step, counts[step])

    sys.setprofile(profile)
    try:
        function()
    finally:
        sys.setprofile(None)


def raising_at(step: Step, count: int) -> Callable[[Step, int], None]:
    def on_call(called: Step, number: int) -> None:
        if (called, number) == (step, count):
            raise Fault(step)

    return on_call


# Two layers with one row a class, and few weights to compare.
small_distilled = functools.partial(make_small_model, "deit_tiny_distilled_patch16_224")


def test_a_fault_at_the_first_or_last_call_of_any_function_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIMM_INJECT_CACHE", "off")  # so that every run does everything
    model = small_distilled()
    run(small_distilled())  # what is read once a process is read now
    reference, before = copy.deepcopy(model), snapshot(model)
    rng = torch.get_rng_state()
    steps: dict[Step, int] = {}
    profiled(lambda: run(reference), steps.__setitem__)
    assert len(steps) > 80  # so that this test is known to reach into every part of the pipeline
    files = {file for file, _, _ in steps}
    rooms = {file.split("/")[1] for file in files if file.count("/") > 1}
    assert rooms == {"head", "text", "mappers", "injected", "images", "calibration", "hub"}
    for step, calls in steps.items():
        for count in {1, calls}:
            with pytest.raises(Fault):
                profiled(lambda: run(model), raising_at(step, count))
            assert snapshot(model) == before, (step, count)
    assert torch.equal(torch.get_rng_state(), rng)
    assert torch.is_grad_enabled()
    assert not torch.is_inference_mode_enabled()
    run(model)
    for key, value in reference.state_dict().items():
        assert torch.equal(model.state_dict()[key], value), key


def test_a_fault_at_any_line_of_the_write_changes_nothing() -> None:
    lines: list[int] = []

    def attempt(model: nn.Module, fail_at: int) -> None:
        def trace_lines(frame: FrameType, event: str, _: Any) -> Any:
            if event == "line":
                lines.append(frame.f_lineno)
                if len(lines) == fail_at:
                    raise Fault(frame.f_lineno)
            return trace_lines

        def trace(frame: FrameType, event: str, _: Any) -> Any:
            inside = frame.f_code.co_filename == f"{PACKAGE}/head/resizing.py" and frame.f_code.co_name != "restore"
            return trace_lines if inside else None

        head = find_head(model)
        new_rows = [torch.ones(2, leaf.row_dim) for leaf in head.leaves]
        lines.clear()
        earlier = sys.gettrace()
        sys.settrace(trace)
        try:
            resize_head(model, head, new_rows, config={"label_names": ["a"]}, record={"seed": 0})
        finally:
            sys.settrace(earlier)

    attempt(small_distilled(), 0)
    num_lines = len(lines)
    assert num_lines > 100
    model = small_distilled()
    before = snapshot(model)
    for fail_at in range(1, num_lines + 1):
        with pytest.raises(Fault):
            attempt(model, fail_at)
        assert snapshot(model) == before, lines[-1]
    attempt(model, 0)
    assert model.num_classes == 12


def test_a_fault_injection_that_is_not_undone_would_be_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests above can fail: without `restore`, a fault in the write leaves traces."""
    model = make_model()
    before = snapshot(model)
    monkeypatch.setattr("timm_inject.head.resizing.HeadState.restore", lambda _: None)
    original = nn.Module.__setattr__

    def failing(module: nn.Module, name: str, value: object) -> None:
        original(module, name, value)
        if name == "out_features":
            raise Fault

    with monkeypatch.context() as patch:
        patch.setattr(nn.Module, "__setattr__", failing)
        with pytest.raises(Fault):
            run(model)
    assert snapshot(model) != before
