"""Every file of examples/ runs as a user would run it."""

import json
import os
import subprocess
import sys

import pytest
import timm
from PIL import Image

from tests.helpers import needs_offline
from tools.docs_pages import ROOT, packaged_file


def _run(script, *arguments, cache, folder=ROOT):
    result = subprocess.run(
        [sys.executable, ROOT / "examples" / script, *map(str, arguments)],
        capture_output=True,
        text=True,
        encoding="utf-8",
        cwd=folder,
        env={**os.environ, "TIMM_INJECT_CACHE": str(cache), "PYTHONIOENCODING": "utf-8"},
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


@needs_offline
def test_quickstart(tmp_path, cache_of_real_texts):
    printed = _run("quickstart.py", cache=cache_of_real_texts, folder=tmp_path)
    before, after = printed.split("after\n")
    assert "plant/flower" in before
    assert "(new)" not in before
    assert "dahlia (new)" in after.splitlines()[0]
    assert timm.create_model(f"local-dir:{tmp_path / 'out' / 'quickstart'}", pretrained=True).num_classes == 1002


@needs_offline
def test_the_notebook_runs_from_top_to_bottom(tmp_path, cache_of_real_texts):
    cells = json.loads((ROOT / "examples" / "quickstart.ipynb").read_text(encoding="utf-8"))["cells"]
    sources = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    assert [source for source in sources if source.startswith("%")] == [sources[0]]  # Colab's install, the only magic
    assert all(not cell.get("outputs") for cell in cells)
    script = tmp_path / "notebook.py"
    script.write_text("\n".join([*sources[1:], "print(model.num_classes, after[0].name, after[0].is_new)"]), encoding="utf-8")
    assert _run(script, cache=cache_of_real_texts, folder=tmp_path).splitlines()[-1] == "1000 dahlia True"


@pytest.mark.slow
@needs_offline
@pytest.mark.parametrize("processes", [1, 2])
def test_example_of_precomputed_descriptors(tmp_path, processes):
    """Slow: the real texts of a thousand classes are embedded, by one process or by a pool of two."""
    (tmp_path / "names.txt").write_text("# new\ndahlia\nmotorcycle\n")
    folder = tmp_path / "patched"
    output = _run("precomputed_descriptors.py", tmp_path / "names.txt", folder, "--processes", processes, cache=tmp_path / "cache")
    assert "texts embedded; 1002 classes, of which 2 are new" in output
    assert timm.create_model(f"local-dir:{folder}", pretrained=True).num_classes == 1002


def test_photos_are_images():
    Image.open(packaged_file("sklearn", "datasets/images/flower.jpg")).verify()
