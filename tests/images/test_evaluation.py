"""Scores on labelled photos."""

import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, TensorDataset

from tests.helpers import NAMES, needs_offline
from timm_inject import ClassNameError, ImageError, classify, evaluate
from timm_inject.images.evaluation import gzsl_scores


def _images(folder, *names):
    for position, name in enumerate(names):
        (folder / name).mkdir(parents=True)
        Image.new("RGB", (64, 64), (40 * position, 100, 0)).save(folder / name / "one.png")
    return folder


def test_scores_by_hand():
    names = ["a", "b", "new1", "new2"]
    target = torch.tensor([0, 0, 1, 2, 2, 3])
    predicted = torch.tensor([0, 2, 1, 2, 0, 2])
    among_new = torch.tensor([2, 2, 3, 2, 3, 3])
    scores = gzsl_scores(predicted, among_new, target, names=names, num_seen=2)
    assert scores.accuracy_of_class == {"a": 0.5, "b": 1.0, "new1": 0.5, "new2": 0.0}
    assert scores.seen_accuracy == 0.75
    assert scores.unseen_accuracy == 0.25
    assert scores.harmonic_mean == pytest.approx(0.375)
    assert scores.zsl_accuracy == 0.75
    assert scores.moved_share == pytest.approx(1 / 3)
    assert scores.num_images == 6


def test_seen_images_alone_have_no_unseen_score():
    scores = gzsl_scores(torch.tensor([0]), torch.tensor([2]), torch.tensor([0]), names=["a", "b", "c"], num_seen=2)
    assert (scores.seen_accuracy, scores.unseen_accuracy, scores.harmonic_mean, scores.zsl_accuracy) == (
        1,
        None,
        None,
        None,
    )


def test_folder_dataset_and_loader_agree(patched, tmp_path):
    folder = _images(tmp_path, "Zebra", "school_bus", "11", "okapi")
    patched.train()
    scores = evaluate(patched, folder)
    assert all(module.training for module in patched.modules())
    assert set(scores.accuracy_of_class) == {"zebra", "school bus", "okapi", "electric scooter"}
    images = torch.rand(4, 3, 64, 64)
    dataset = TensorDataset(images, torch.tensor([6, 8, 10, 11]))
    one = evaluate(patched, dataset, batch_size=2)
    assert one == evaluate(patched, DataLoader(dataset, batch_size=4))
    predicted = patched.eval()(images).argmax(1)
    assert one.moved_share == (predicted[:2] >= len(NAMES)).float().mean().item()


def test_bad_folders_are_told(patched, tmp_path):
    with pytest.raises(ImageError, match="does not exist. Pass a folder with one sub-folder a class"):
        evaluate(patched, tmp_path / "none")
    with pytest.raises(ImageError, match="holds no sub-folders"):
        evaluate(patched, tmp_path)
    (tmp_path / "zebra").mkdir()
    with pytest.raises(ImageError, match="holds no images"):
        evaluate(patched, tmp_path)
    _images(tmp_path, "unicorn")
    with pytest.raises(ClassNameError) as caught:
        evaluate(patched, tmp_path)
    assert str(caught.value) == (
        "1 of 2 sub-folders are named like no class of the model: 'unicorn'. Name each by its class's name, synonym, label or "
        "logit index (0 to 11)."
    )


def test_an_image_that_does_not_open_is_named(patched, tmp_path):
    path = tmp_path / "zebra" / "one.png"
    path.parent.mkdir()
    path.write_text("no image")
    for attempt in (lambda: evaluate(patched, tmp_path), lambda: classify(patched, [path])):
        with pytest.raises(ImageError) as caught:
            attempt()
        assert str(caught.value) == (
            f"The image '{path}' could not be opened: not an image, damaged, or not readable. Remove it or save it again."
        )
    with pytest.raises(ImageError, match=r"could not be opened: no such file. Check the path\.$"):
        classify(patched, [tmp_path / "none.png"])
    with pytest.raises(ImageError, match=r"could not be opened: it is a folder. Name the images in it\.$"):
        classify(patched, [tmp_path])


@needs_offline
def test_folders_may_be_named_by_wordnet_id_or_synonym(packaged_model, tmp_path):
    scores = evaluate(packaged_model, _images(tmp_path, "n11939491", "Tinca tinca"))
    assert list(scores.accuracy_of_class) == ["tench", "daisy"]
