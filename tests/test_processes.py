"""`evaluate` in several processes: each image once, the figures of one process, the same on all."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests import evaluate_in_processes
from tests.evaluate_in_processes import make_model, scores_of
from timm_inject import ArgumentValueError, cli
from timm_inject.evaluation import _share_of
from timm_inject.processes import ProcessGroup, is_main_process, join_processes, own_device

LAUNCHERS = {
    "torchrun": ["torch.distributed.run", "--standalone", "--nproc-per-node=2"],
    "accelerate": [
        "accelerate.commands.launch",
        "--multi_gpu",
        "--num_processes=2",
        "--num_machines=1",
        "--mixed_precision=no",
        "--dynamo_backend=no",
    ],
}


@pytest.fixture(scope="module")
def alone():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return json.loads(json.dumps(scores_of(make_model(), "dataset").to_dict()))
    finally:
        torch.set_num_threads(threads)


def _launch(launcher, output, **environment):
    command = [sys.executable, "-m", *LAUNCHERS[launcher], evaluate_in_processes.__file__, str(output)]
    root = str(Path(__file__).parent.parent)
    path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    done = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": path, **environment}, cwd=output, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return [json.loads((output / f"{rank}.json").read_text()) for rank in range(2)]


def test_two_processes_give_the_figures_of_one(tmp_path, alone):
    results = _launch("torchrun", tmp_path, INTRODUCE="1")
    assert any(0 < accuracy < 1 for accuracy in alone["accuracy_of_class"].values())  # an image more or less would show
    for result in results:
        assert result["dataset"] == result["loader"] == result["introduced before"] == alone
        # One batch for two processes: one of them has nothing to do.
        assert result["one batch"]["num_images"] == 9
        assert result["shuffled"].startswith("ArgumentValueError: `evaluate` deals the images to the 2 processes itself")
    assert results[0]["broken"] == "OSError: a damaged file"
    assert results[1]["broken"] == (
        "ImageError: The images could not be classified, as other processes failed: process 0: OSError: a damaged file"
    )


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("accelerate") is None, reason="accelerate is not installed")
def test_accelerate_launch(tmp_path, alone):
    for result in _launch("accelerate", tmp_path):
        assert result["dataset"] == result["loader"] == alone


def test_batches_are_dealt_whole_and_once():
    loader = torch.utils.data.DataLoader(torch.arange(11), batch_size=2)
    shares = [[batch.tolist() for batch in _share_of(loader, ProcessGroup(rank, 3))] for rank in range(3)]
    assert shares == [[[0, 1], [6, 7]], [[2, 3], [8, 9]], [[4, 5], [10]]]
    assert _share_of(loader, ProcessGroup(0, 1)) is loader


def test_what_cannot_be_dealt_is_told():
    shuffled = torch.utils.data.DataLoader(torch.arange(4), shuffle=True)
    with pytest.raises(ArgumentValueError, match="it cannot do so for a loader with a RandomSampler. Pass the folder, the Dataset"):
        _share_of(shuffled, ProcessGroup(0, 2))


def test_one_process_is_alone_and_prints(monkeypatch):
    with join_processes() as processes:
        assert (processes.rank, processes.size, processes.gather("x")) == (0, 1, ["x"])
    assert not torch.distributed.is_initialized()
    assert is_main_process()
    for name, value in {"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}.items():
        monkeypatch.setenv(name, value)
    assert not is_main_process()
    monkeypatch.delenv("MASTER_PORT")  # a variable of that name alone starts nothing
    assert is_main_process()


def test_each_process_takes_its_own_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert own_device() == torch.device("cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert own_device() == torch.device("cuda", 1)
    monkeypatch.delenv("LOCAL_RANK")
    assert own_device() == torch.device("cuda", 0)


def test_unknown_device_is_told(capsys):
    with pytest.raises(SystemExit) as caught:
        cli.main(["evaluate", "resnet10t", "folder", "--device", "abacus"])
    assert caught.value.code == 2
    assert "torch knows no device 'abacus'; write cpu, cuda or cuda:1" in capsys.readouterr().err
