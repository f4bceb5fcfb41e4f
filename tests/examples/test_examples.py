"""Every file of examples/ runs as a user would run it, and the README shows what the first one prints."""

import os
import re
import shutil
import subprocess
import sys

import pytest
import timm
from PIL import Image

from tests.helpers import needs_offline
from tools.docs_pages import ROOT, packaged_file, page_text

README = page_text("README.md")


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
def test_examples(tmp_path, cache_of_real_texts):
    cache = cache_of_real_texts  # encoding the names of ImageNet's classes takes most of a minute
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
        "dahlia": packaged_file("sklearn", "datasets/images/flower.jpg"),
        "motorcycle": packaged_file("skimage", "data/motorcycle_left.png"),
        "espresso": packaged_file("skimage", "data/coffee.png"),
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


def test_photos_are_images():
    Image.open(packaged_file("sklearn", "datasets/images/flower.jpg")).verify()
