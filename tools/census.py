"""Resize the head of every architecture that timm has, and write down what happened: `make census`.

Each architecture is built on the meta device, so this takes minutes and little memory. Only the layers whose tensors timm
itself grows with `num_classes` get real values. The package then has to find exactly these and append `NUM_NEW` rows, and the
model has to equal `timm.create_model(name, num_classes=n + NUM_NEW)` in modules and state dict, with its seen rows bit-identical
and its seen logits where they were.
"""

import argparse
import csv
import math
import sys
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import timm
import torch
from torch import nn

from timm_inject.errors import TimmInjectError, UnsupportedHeadError
from timm_inject.head import Head, check_not_projection, find_head, resize_head

NUM_NEW = 3
RESULTS = Path(__file__).parent.parent / "docs" / "census.csv"
PAGE = RESULTS.parent / "models.md"
REASONS = {
    "has no classifier (`num_classes=0`)": "headless: an image encoder, no classifier unless `num_classes` is given",
    "are the dimensions of an image embedding": "projection to an image embedding (CLIP, PE), not classes",
    "It gives features, not classes": "image encoder without `get_classifier`",
}


@dataclass(frozen=True)
class Entry:
    """What became of one architecture.

    Attributes:
        name: In timm's registry.
        kind: What `get_classifier()` returns and how many layers have one row a class.
        leaves: These layers, path and feature width.
        result: "widened" or "refused".
        reason: Why it was refused.
    """

    name: str
    kind: str
    leaves: str
    result: str
    reason: str = ""


class CensusError(Exception):
    """An architecture that came out wrong."""


def examine(name: str) -> Entry:
    """Widen one architecture's head and compare it with timm's own wider one.

    Raises:
        CensusError: They differ.
    """
    model = build(name)
    num_classes = getattr(model, "num_classes", 0)
    plain = build(name, num_classes + NUM_NEW) if num_classes else model
    layers = growing_layers(model, plain)
    kind, leaves = describe(model, layers)
    for layer in layers.values():
        give_values(layer)
    try:
        head = find_head(model)
        if not untrained(model):
            check_not_projection(model, head)
    except UnsupportedHeadError as error:
        reason = next((short for part, short in REASONS.items() if part in str(error)), str(error))
        return Entry(name, kind, leaves, "refused", reason)
    check_widened(model, head, plain, layers)
    return Entry(name, kind, leaves, "widened")


def untrained(model: Any) -> bool:
    """An architecture without pretrained weights cannot be asked what its outputs are."""
    return bool(model.pretrained_cfg.get("tag") in (None, "untrained"))


def build(name: str, num_classes: int | None = None) -> nn.Module:
    options: dict[str, Any] = {} if num_classes is None else {"num_classes": num_classes}
    with torch.device("meta"):
        model: nn.Module = timm.create_model(name, **options)
    return model


def growing_layers(model: nn.Module, plain: nn.Module) -> dict[str, nn.Module]:
    """The layers that timm makes wider for more classes, by path: the truth that `find_head` has to find."""
    wide = plain.state_dict()
    grown = [key for key, tensor in model.state_dict().items() if tensor.shape != wide[key].shape]
    return {path: model.get_submodule(path) for path in dict.fromkeys(key.rpartition(".")[0] for key in grown)}


def give_values(layer: nn.Module) -> None:
    generator = torch.Generator().manual_seed(0)
    for key, parameter in list(layer.named_parameters(recurse=False)):
        setattr(layer, key, nn.Parameter(torch.randn(parameter.shape, generator=generator)))


def describe(model: Any, layers: dict[str, Any]) -> tuple[str, str]:
    if not layers:
        return "none", ""
    found = model.get_classifier()
    several = isinstance(found, tuple | list | nn.ModuleList)
    holder = "tuple" if isinstance(found, tuple) else type(found).__name__
    inside = f" in a {holder}" if len(layers) > 1 or found is not next(iter(layers.values())) else ""
    if several and isinstance(found[0], nn.Module) and found[0] not in layers.values():
        inside += f" of {type(found[0]).__name__}"
    if len(layers) > 1 and not several and found in layers.values():
        inside = ", one of them auxiliary"
    kinds = {"1x1 Conv2d" if isinstance(layer, nn.Conv2d) else "Linear" for layer in layers.values()}
    widths = {path: math.prod(layer.weight.shape[1:]) for path, layer in layers.items()}
    different = " of different widths" if len(set(widths.values())) > 1 else ""
    leaves = " ".join(f"{path}:{width}" for path, width in widths.items())
    return f"{len(layers)} {' and '.join(sorted(kinds))}{different}{inside}", leaves


def check_widened(model: nn.Module, head: Head, plain: nn.Module, layers: dict[str, nn.Module]) -> None:
    """Raise CensusError where the widened model is not timm's own, or a seen row or logit moved."""
    if {leaf.layer for leaf in head.leaves} != set(layers.values()):
        raise CensusError(f"found {[leaf.name for leaf in head.leaves]}, timm grows {list(layers)}")
    num_classes = head.num_classes
    generator = torch.Generator().manual_seed(1)
    features = [
        torch.randn(2, *leaf.layer.weight.shape[1:2], *[1] * (leaf.layer.weight.ndim - 2), generator=generator)
        for leaf in head.leaves
    ]
    before = [
        (leaf.layer.weight.clone(), None if leaf.layer.bias is None else leaf.layer.bias.clone(), leaf.layer(feature))
        for leaf, feature in zip(head.leaves, features, strict=True)
    ]
    new_rows = [torch.randn(NUM_NEW, leaf.row_dim, generator=generator) for leaf in head.leaves]
    resize_head(model, head, new_rows, config={}, record={})
    for leaf, rows, feature, (weight, bias, logits) in zip(head.leaves, new_rows, features, before, strict=True):
        kept = torch.equal(leaf.layer.weight[:num_classes], weight)
        kept &= torch.equal(leaf.layer.weight[num_classes:].flatten(1), rows[:, : leaf.feature_dim])
        if bias is not None and leaf.layer.bias is not None:
            kept &= torch.equal(leaf.layer.bias, torch.cat([bias, rows[:, -1]]))
        if not kept:
            raise CensusError(f"rows of {leaf.name} are not the seen ones followed by the new ones")
        # A BLAS library may add in another order for another width, so the last bits may differ.
        if not torch.allclose(leaf.layer(feature)[:, :num_classes], logits, rtol=1e-4, atol=1e-4):
            raise CensusError(f"seen logits of {leaf.name} moved")
    own, other = ({key: tensor.shape for key, tensor in each.state_dict().items()} for each in (model, plain))
    if list(own.items()) != list(other.items()):
        raise CensusError("the state dict is not that of a plain timm model of that width")
    if repr(model) != repr(plain) or model.num_classes != plain.num_classes:
        raise CensusError("the modules are not those of a plain timm model of that width")


def write(entries: Iterable[Entry]) -> None:
    RESULTS.parent.mkdir(exist_ok=True)
    with RESULTS.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [*Entry.__dataclass_fields__], lineterminator="\n")
        writer.writeheader()
        writer.writerows(asdict(entry) for entry in entries)


def read() -> list[Entry]:
    with RESULTS.open(newline="", encoding="utf-8") as file:
        return [Entry(**row) for row in csv.DictReader(file)]


def summary(entries: list[Entry]) -> str:
    """Two markdown tables: the kinds of classifiers that were widened, and why the others were not."""
    widened = Counter(entry.kind for entry in entries if entry.result == "widened")
    refused = Counter(entry.reason for entry in entries if entry.result == "refused")
    lines = [f"| widened: {widened.total()} of {len(entries)} architectures | |", "|---|---:|"]
    lines += [f"| {kind} | {count} |" for kind, count in widened.most_common()]
    lines += ["", f"| refused: {refused.total()} | |", "|---|---:|"]
    lines += [f"| {reason} | {count} |" for reason, count in refused.most_common()]
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="*", help="a pattern of architecture names; the results are then printed, not kept")
    parser.add_argument("--summary", action="store_true", help="print the tables of the last run, run nothing")
    arguments = parser.parse_args()
    if arguments.summary:
        print(summary(read()))
        return 0
    entries: list[Entry] = []
    failures: list[str] = []
    names = timm.list_models(arguments.only)
    for position, name in enumerate(names, start=1):
        try:
            entries.append(examine(name))
        except (CensusError, TimmInjectError) as error:
            failures.append(f"{name}: {error}")
        print(f"\r{position} of {len(names)}, {len(failures)} failed  {name:60.60}", end="", file=sys.stderr)
    print(file=sys.stderr)
    if arguments.only == "*" and not failures:
        write(entries)
    print("\n".join([*failures, "", f"timm {timm.__version__}", "", summary(entries)]))
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
