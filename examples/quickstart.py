"""Give an ImageNet classifier two classes that ImageNet lacks, by name, and look at a photo before and after."""

from pathlib import Path

import sklearn.datasets
from torch import nn

import timm_inject
from timm_inject.offline import load_model


def show(model: nn.Module, photo: Path) -> None:
    for prediction in timm_inject.classify(model, [photo], top=3)[0]:
        print(f"  {prediction.probability:4.0%} {prediction.name}{' (new)' if prediction.is_new else ''}")


def main() -> None:
    photo = Path(sklearn.datasets.__file__).parent / "images" / "flower.jpg"  # a dahlia

    # The same as timm.create_model("tf_efficientnet_lite0", pretrained=True), with packaged weights where there is no Hub.
    model = load_model("tf_efficientnet_lite0")
    names = ["dahlia", "astronaut"]
    for text in timm_inject.look_up(model, names):
        print(text.describe())

    print("before")
    show(model, photo)
    timm_inject.inject(model, names)
    print("after")
    show(model, photo)
    timm_inject.save_for_hf(model, "out/quickstart")  # timm.create_model("local-dir:out/quickstart", pretrained=True)


if __name__ == "__main__":
    main()
