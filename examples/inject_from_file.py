"""Inject the classes that a text file names and save the model: python inject_from_file.py NAMES.txt FOLDER."""

import argparse
from pathlib import Path

import timm_inject
from timm_inject.offline import load_model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", type=Path, help="a file with one 'name' or 'name: description' a line")
    parser.add_argument("folder", type=Path, help="where the patched model is saved")
    parser.add_argument("--model", default="tf_efficientnet_lite0", help="what timm.create_model takes")
    options = parser.parse_args()

    names: dict[str, str | None] = {}
    for line in options.names.read_text(encoding="utf-8").splitlines():
        if line.strip() and not line.startswith("#"):
            name, _, description = line.partition(":")
            names[name.strip()] = description.strip() or None

    model = load_model(options.model)
    timm_inject.inject(model, names)
    timm_inject.save_for_hf(model, options.folder)
    print(f"{options.folder}: {model.num_classes} classes, of which {len(names)} are new")


if __name__ == "__main__":
    main()
