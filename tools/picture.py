"""Draw the picture of the first page from the packaged photos: `python -m tools.picture`."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from timm_inject import Prediction, classify, inject
from timm_inject.offline import create_packaged_model

PATH = Path("docs/before-after.png")
# New class -> the package and file of a photo that shows it. ImageNet-1k has none of these classes.
PHOTOS = {"rocket": ("skimage", "data/rocket.jpg"), "motorcycle": ("skimage", "data/motorcycle_left.png")}
_GREY, _BLUE = "#b8bec8", "#2f6fd0"


def draw() -> None:
    """Classify each photo before and after the two names are injected."""
    photos = {name: Image.open(_photo(*place)).convert("RGB") for name, place in PHOTOS.items()}
    model = create_packaged_model("tf_efficientnet_lite0")
    before = classify(model, list(photos.values()), top=4)
    inject(model, list(photos))
    after = classify(model, list(photos.values()), top=4)
    figure = Figure(figsize=(10, 2.1 * len(photos)), layout="constrained")
    axes = figure.subplots(len(photos), 3, width_ratios=[0.8, 1, 1])
    for row, picture, old, new in zip(axes, photos.values(), before, after, strict=True):
        row[0].imshow(picture)
        row[0].axis("off")
        _bars(row[1], old)
        _bars(row[2], new)
    axes[0][1].set_title("before", loc="left")
    axes[0][2].set_title("after adding both names", loc="left")
    figure.savefig(PATH, dpi=150)


def _bars(axes: Axes, predictions: Sequence[Prediction]) -> None:
    shown = list(reversed(predictions))
    colors = [_BLUE if entry.is_new else _GREY for entry in shown]
    axes.barh([entry.name for entry in shown], [entry.probability for entry in shown], color=colors)
    axes.set_xlim(0, 1)
    axes.set_xticks([])
    axes.spines[["top", "right", "bottom"]].set_visible(False)
    for place, entry in enumerate(shown):
        axes.text(entry.probability + 0.02, place, f"{entry.probability:.0%}", va="center")


def _photo(package: str, file: str) -> Path:
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit(f"The picture needs the package {package!r}.")
    return Path(spec.submodule_search_locations[0]) / file


if __name__ == "__main__":
    draw()
