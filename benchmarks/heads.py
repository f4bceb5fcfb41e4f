"""ImageNet heads: from timm, or from a file of rows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from benchmarks.heldout import HeldOutHead
from benchmarks.images import image_features, read_labelled_images
from timm_inject.text import resolve_seen_class_names
from timm_inject.errors import ArgumentValueError
from timm_inject.head import find_head, read_rows
from timm_inject.mappers import ProgressCallback
from timm_inject.offline import load_model

__all__ = ["load_head"]


def load_head(name: str, folder: Path | None, output: Path, progress: ProgressCallback) -> HeldOutHead:
    """Load a head and what it sees of labelled images.

    Args:
        name: A timm model, or the path of an `.npz` with the arrays `weight` (1000, feature_dim) and `bias` (1000,).
        folder: Labelled images, as `read_labelled_images` takes them; None for none.
        output: Where features are kept.
        progress: Called while images are read.

    Raises:
        ArgumentValueError: The file cannot be read, or the head has several layers.
    """
    if folder is None and Path(name).suffix == ".npz":
        return _load_head_file(Path(name))
    model = load_model(name)
    head = find_head(model)
    if len(head.leaves) != 1:
        raise ArgumentValueError(f"The head of {name!r} has {len(head.leaves)} layers; this benchmark measures heads of one.")
    names = resolve_seen_class_names(model, head.num_classes)
    leaf = head.leaves[0]
    if folder is None:
        return HeldOutHead(name, read_rows(leaf), names, torch.zeros(0, leaf.feature_dim), torch.zeros(0, dtype=torch.int64))
    files, labels = read_labelled_images(folder, names)
    return HeldOutHead(name, read_rows(leaf), names, image_features(model, leaf, files, output, progress), labels)


def _load_head_file(path: Path) -> HeldOutHead:
    try:
        arrays = np.load(path, allow_pickle=False)
        weight, bias = torch.from_numpy(arrays["weight"]).float(), torch.from_numpy(arrays["bias"]).float()
        rows = torch.cat([weight, bias[:, None]], dim=1)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise ArgumentValueError(
            f"The head '{path}' could not be read: {error}. Write it with numpy.savez(path, weight=(1000, dim), bias=(1000,))."
        ) from error
    names = resolve_seen_class_names(None, len(rows), "imagenet-1k")
    return HeldOutHead(path.name, rows, names, torch.zeros(0, weight.shape[1]), torch.zeros(0, dtype=torch.int64))
