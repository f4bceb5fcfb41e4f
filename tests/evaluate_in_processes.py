"""Run by `torchrun` or `accelerate launch`: each process writes the scores that it got to a file of its own."""

import json
import os
import sys
import warnings
from pathlib import Path

import timm
import torch
from torch.utils.data import DataLoader, Dataset

import timm_inject


class Noise(Dataset):
    """Nine images, so that batches of two do not come out even; the class of each follows from its place."""

    def __init__(self, broken=None):
        self.broken = broken

    def __len__(self):
        return 9

    def __getitem__(self, position):
        if position == self.broken:
            raise OSError("a damaged file")
        generator = torch.Generator().manual_seed(position)
        colour = 3 * torch.randn(3, 1, 1, generator=generator)
        return colour + torch.randn(3, 32, 32, generator=generator), position % 4


def make_model():
    torch.manual_seed(0)
    model = timm.create_model("resnet10t", num_classes=4).eval()
    torch.nn.init.normal_(model.fc.weight)
    model.pretrained_cfg = {**model.pretrained_cfg, "num_classes": 4, "label_names": ["fox", "wolf", "lion", "zebra"]}
    return model


def scores_of(model, how):
    if how == "loader":
        return timm_inject.evaluate(model, DataLoader(Noise(), batch_size=2))
    if how == "shuffled":
        return timm_inject.evaluate(model, DataLoader(Noise(), batch_size=2, shuffle=True))
    return timm_inject.evaluate(model, Noise(broken=8 if how == "broken" else None), batch_size=2 if how != "one batch" else 9)


def main(output):
    warnings.simplefilter("error")
    torch.set_num_threads(1)
    model = make_model()
    results = {}
    for how in ("dataset", "loader", "one batch", "shuffled", "broken"):
        try:
            results[how] = scores_of(model, how).to_dict()
        except Exception as error:  # noqa: BLE001 - written down, whatever it is
            results[how] = f"{type(error).__name__}: {error}"
    results["introduced before"] = False
    if os.environ.get("INTRODUCE"):
        torch.distributed.init_process_group("gloo")
        results["introduced before"] = scores_of(model, "dataset").to_dict()
        torch.distributed.destroy_process_group()
    (Path(output) / f"{os.environ.get('RANK', 'alone')}.json").write_text(json.dumps(results))


if __name__ == "__main__":
    main(sys.argv[1])
