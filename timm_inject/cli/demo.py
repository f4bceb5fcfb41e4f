"""The main job from end to end on packaged weights and photos: what `make demo` shows."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from timm_inject.cli.report import injection_lines, prediction_lines, price_lines
from timm_inject.errors import TimmInjectError
from timm_inject.hub import save_for_hf
from timm_inject.images import Prediction, classify, image_transform, inference, load_image
from timm_inject.inject import inject
from timm_inject.injected import injection_record
from timm_inject.offline import create_packaged_model
from timm_inject.text import ProgressCallback

__all__ = ["run_demo"]

MODEL = "tf_efficientnet_lite0"
# New class -> the package and file of a photo that shows it. ImageNet-1k has none of these classes.
PHOTOS = {
    "dahlia": ("sklearn", "datasets/images/flower.jpg"),
    "astronaut": ("skimage", "data/astronaut.png"),
    "motorcycle": ("skimage", "data/motorcycle_left.png"),
    "rocket": ("skimage", "data/rocket.jpg"),
    "galaxy": ("skimage", "data/hubble_deep_field.jpg"),
}
# What the model knew before must not suffer: photos of old classes, of which a new one may take some.
OLD_PHOTOS = (
    ("skimage", "data/chelsea.png"),
    ("skimage", "data/coffee.png"),
    ("skimage", "data/camera.png"),
    ("sklearn", "datasets/images/china.jpg"),
)

# Runs where `timm_inject` cannot be imported: None in sys.modules makes the import fail.
_RELOAD = """
import sys
sys.modules["timm_inject"] = None
import timm, torch
from safetensors.torch import load_file, save_file
model = timm.create_model("local-dir:" + sys.argv[1], pretrained=True).eval()
with torch.inference_mode():
    save_file({"logits": model(load_file(sys.argv[2])["images"])}, sys.argv[3])
"""


def run_demo(directory: Path, progress: ProgressCallback | None = None) -> Iterator[str | dict[str, Any]]:
    """Classify photos of new and of old classes, inject the new ones, classify again, save, and reload with plain timm.

    Args:
        directory: Where the patched model is saved.
        progress: As in `inject`.

    Yields:
        Lines to show, and last a dict with everything in numbers.

    Raises:
        TimmInjectError: The packages of the extra `demo` are missing.
    """
    photos = {name: _photo(package, file) for name, (package, file) in PHOTOS.items()}
    old_photos = [_photo(package, file) for package, file in OLD_PHOTOS]
    model = create_packaged_model(MODEL)
    yield f"{MODEL}: ImageNet-1k weights, {model.num_classes} classes.\n"
    pictures = [load_image(path) for path in photos.values()]
    old_pictures = [load_image(path) for path in old_photos]
    before, old_before = classify(model, pictures), classify(model, old_pictures)
    yield f"Injecting {', '.join(PHOTOS)} by name ..."
    inject(model, list(PHOTOS), progress=progress)
    record = injection_record(model)
    yield from [*price_lines(record), *injection_lines(record)]
    after, old_after = classify(model, pictures), classify(model, old_pictures, top=record.num_classes)
    ranks = {}
    for index, (name, path) in enumerate(photos.items()):
        yield f"\n{path.name} shows: {name}\n before"
        yield from prediction_lines(before[index])
        yield " after"
        yield from prediction_lines(after[index])
        ranks[name] = _rank(model, pictures[index], record.num_seen + index)
        yield " -> ranked first." if ranks[name] == 1 else f" -> not first: '{name}' is ranked {ranks[name]}."
    yield "\nPhotos of old classes, by the class that was first before"
    old = {path.name: _fate(*pair) for path, *pair in zip(old_photos, old_before, old_after, strict=True)}
    for file, fate in old.items():
        outcome = "still first" if fate["taken_by"] is None else f"LOST to {fate['taken_by']}"
        yield f"  {file:<12} {fate['class']:<12} {fate['before']:6.1%} -> {fate['after']:6.1%}  {outcome}"
    first, kept = sum(rank == 1 for rank in ranks.values()), sum(fate["taken_by"] is None for fate in old.values())
    yield (
        f"\n{first} of {len(ranks)} new classes are ranked first on their photo, and {kept} of {len(old)} photos of old classes "
        "keep theirs; not one image of a new class was used."
    )
    save_for_hf(model, directory)
    same = _reload_gives_same_logits(model, directory, pictures)
    yield f"Saved to {directory}; reloaded by plain timm, without timm_inject: logits {'are bit-identical' if same else 'DIFFER'}."
    yield f'Try it: timm.create_model("local-dir:{directory}", pretrained=True)'
    if not same:
        raise TimmInjectError("The reloaded model's logits differ from the patched model's.")
    yield {
        "model": MODEL,
        "price": record.self_score,
        "rank": ranks,
        "old_photos": old,
        "reload_is_bit_identical": same,
        "before": _as_dicts(before, list(photos)),
        "after": _as_dicts(after, list(photos)),
        "directory": str(directory),
    }


def _fate(before: list[Prediction], after: list[Prediction]) -> dict[str, Any]:
    """What became of the class that was first on a photo; of `after`, every class is needed."""
    held = next(entry for entry in after if entry.index == before[0].index)
    taken_by = None if after[0].index == held.index else after[0].name
    return {"class": held.name, "before": before[0].probability, "after": held.probability, "taken_by": taken_by}


def _photo(package: str, file: str) -> Path:
    spec = importlib.util.find_spec(package)
    path = Path(spec.submodule_search_locations[0]) / file if spec and spec.submodule_search_locations else None
    if path is None or not path.is_file():
        raise TimmInjectError(f'The demo needs the photo {file} of {package}: pip install "timm_inject[demo]".')
    return path


def _rank(model: nn.Module, picture: Any, index: int) -> int:
    """1 when the class `index` has the highest logit."""
    logits = _logits(model, [picture])[0]
    return int((logits > logits[index]).sum()) + 1


def _logits(model: nn.Module, pictures: list[Any]) -> Tensor:
    transform = image_transform(model)
    with inference(model):
        logits: Tensor = model(torch.stack([transform(picture) for picture in pictures]))
    return logits


def _reload_gives_same_logits(model: nn.Module, directory: Path, pictures: list[Any]) -> bool:
    transform = image_transform(model)
    with tempfile.TemporaryDirectory() as temporary:
        inputs, outputs = Path(temporary) / "inputs.safetensors", Path(temporary) / "outputs.safetensors"
        save_file({"images": torch.stack([transform(picture) for picture in pictures])}, inputs)
        subprocess.run([sys.executable, "-c", _RELOAD, str(directory), str(inputs), str(outputs)], check=True)
        return torch.equal(load_file(outputs)["logits"], _logits(model, pictures))


def _as_dicts(results: list[list[Prediction]], names: list[str]) -> dict[str, list[dict[str, Any]]]:
    return {name: [asdict(entry) for entry in top] for name, top in zip(names, results, strict=True)}
