"""Give an ImageNet classifier two classes that ImageNet lacks, by name, and look at a photo before and after."""

from pathlib import Path

import sklearn.datasets

import timm_inject
from timm_inject.cli import injection_lines, prediction_lines
from timm_inject.offline import load_model


def main() -> None:
    photo = Path(sklearn.datasets.__file__).parent / "images" / "flower.jpg"  # a dahlia

    # The same as timm.create_model("tf_efficientnet_lite0", pretrained=True), with packaged weights where there is no Hub.
    model = load_model("tf_efficientnet_lite0")
    print("before", *prediction_lines(timm_inject.classify(model, [photo], top=3)[0]), sep="\n")

    head = timm_inject.inject(model, ["dahlia", "astronaut"])
    print(head)
    print(*injection_lines(timm_inject.injection_record(model)), sep="\n")
    print("after", *prediction_lines(timm_inject.classify(model, [photo], top=3)[0]), sep="\n")


if __name__ == "__main__":
    main()
