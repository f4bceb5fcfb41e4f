"""Score a model on your own photos: python evaluate_on_folder.py MODEL FOLDER, one sub-folder a class."""

import argparse
from pathlib import Path

import timm_inject
from timm_inject.cli import score_lines
from timm_inject.offline import load_model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", help="what timm.create_model takes, such as local-dir:FOLDER")
    parser.add_argument("images", type=Path, help="a folder with one sub-folder a class, named by the class")
    options = parser.parse_args()

    scores = timm_inject.evaluate(load_model(options.model), options.images)
    print(*score_lines(scores), sep="\n")
    for name, accuracy in scores.accuracy_of_class.items():
        print(f"  {name:<40} {accuracy:.1%}")


if __name__ == "__main__":
    main()
