"""Every example runs as a user would run it, and the README shows what it prints."""

import os
import re
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import timm
import timm.data
from PIL import Image

from tests.conftest import needs_offline
from tests.hub_server import Client, Hub
from timm_inject import cli

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


_NO_HUB_FOR_MODELS = """
import timm_inject.encoder, timm_inject.offline
timm_inject.encoder.hub_is_reachable = timm_inject.offline.hub_is_reachable = lambda: False
"""


def _photo(package, file):
    return Path(find_spec(package).submodule_search_locations[0]) / file


def _run(script, *arguments, cache):
    result = subprocess.run(
        [sys.executable, ROOT / "examples" / script, *map(str, arguments)],
        capture_output=True,
        text=True,
        encoding="utf-8",
        env={**os.environ, "TIMM_INJECT_CACHE": str(cache), "PYTHONIOENCODING": "utf-8"},
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


@needs_offline
def test_examples(tmp_path):
    cache = tmp_path / "cache"
    quickstart = _run("quickstart.py", cache=cache)
    shown = re.search(r"<!-- quickstart-output -->\n```\n(.*?)```", README, re.DOTALL).group(1)
    # Percentages may differ in the last digit between CPUs; the names, texts and marks may not.
    assert re.sub(r"[█·]+ +[\d.]+%", "%", quickstart) == re.sub(r"[█·]+ +[\d.]+%", "%", shown)

    folder = tmp_path / "patched"
    output = _run("inject_from_file.py", ROOT / "examples" / "class_names.txt", folder, cache=cache)
    assert "1003 classes, of which 3 are new" in output
    assert timm.create_model(f"local-dir:{folder}", pretrained=True).num_classes == 1003

    images = tmp_path / "images"
    for name, photo in {
        "dahlia": _photo("sklearn", "datasets/images/flower.jpg"),
        "motorcycle": _photo("skimage", "data/motorcycle_left.png"),
        "espresso": _photo("skimage", "data/coffee.png"),
    }.items():
        (images / name).mkdir(parents=True)
        shutil.copy(photo, images / name)
    scores = _run("evaluate_on_folder.py", f"local-dir:{folder}", images, cache=cache)
    assert "3 images of 3 classes" in scores
    assert re.search(r"dahlia +100\.0%", scores)


@pytest.mark.slow
@needs_offline
@pytest.mark.parametrize("processes", [1, 2])
def test_example_of_precomputed_descriptors(tmp_path, processes):
    """Slow: the real texts of a thousand classes are embedded, by one process or by a pool of two."""
    (tmp_path / "names.txt").write_text("# new\ndahlia\nmotorcycle\n")
    folder = tmp_path / "patched"
    output = _run("precomputed_descriptors.py", tmp_path / "names.txt", folder, "--processes", processes, cache=tmp_path / "cache")
    assert "2004 texts embedded; 1002 classes, of which 2 are new" in output
    assert timm.create_model(f"local-dir:{folder}", pretrained=True).num_classes == 1002


def test_readme_names_commands_targets_and_files_that_exist():
    commands = set(re.findall(r"^timm-inject (\S+)", README, re.MULTILINE))
    assert commands == {"inject", "self-score", "classify", "push", "card", "cache", "evaluate", "demo", "benchmark"}
    for command in commands:
        with pytest.raises(SystemExit) as caught:
            cli.main([command, "--help"])
        assert caught.value.code == 0
    makefile = (ROOT / "Makefile").read_text()
    assert all(f"\n{target}:" in makefile for target in re.findall(r"^make (\S+)", README, re.MULTILINE))
    files = re.findall(r"`(\w+\.py)`", README.split("## Where things are")[1])
    assert files
    assert all((ROOT / "timm_inject" / file).is_file() for file in files)


@needs_offline
def test_readme_python_runs(tmp_path):
    blocks = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert len(blocks) == 5
    hub = Hub()
    client = Client(hub, str(tmp_path / "home"))
    try:
        # The server knows one user, who is called alice.
        # It has neither the model nor the encoder; they come from the packages.
        code = "\n".join([_NO_HUB_FOR_MODELS, *blocks]).replace("user/", "alice/")
        counts = "[model.num_classes, [entry.name for entry in timm_inject.injection_record(model).classes]]"
        result = client.run(f"import os\nos.chdir({str(tmp_path)!r})\n{code}\nvalue = {counts}")
    finally:
        client.close()
        hub.close()
    assert result == [1003, ["astronaut", "galaxy", "okapi"]], result
    assert timm.create_model(f"local-dir:{tmp_path / 'out' / 'patched'}", pretrained=True).num_classes == 1002


def test_photos_are_images():
    Image.open(_photo("sklearn", "datasets/images/flower.jpg")).verify()
