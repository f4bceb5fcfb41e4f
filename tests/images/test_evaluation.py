import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, TensorDataset

from tests.helpers import NAMES, WordEncoder
from timm_inject import ClassNameError, ImageError, classify, evaluate, inject
from timm_inject.cli.report import score_lines
from timm_inject.images.evaluation import GzslScores, gzsl_scores


@pytest.fixture
def patched(small_model):
    inject(small_model, ["okapi", "coyote"], encoder=WordEncoder())
    return small_model


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
    assert scores.seen_accuracy_before is None
    before = gzsl_scores(
        predicted,
        among_new,
        target,
        names=names,
        num_seen=2,
        predicted_seen=torch.tensor([0, 1, 1, 0, 0, 0]),
        input_size=(3, 64, 64),
    )
    assert before.seen_accuracy_before == 0.75
    assert before.to_dict() | {"seen_accuracy_before": None, "input_size": None} == scores.to_dict()
    assert before.input_size == (3, 64, 64)


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
    assert set(scores.accuracy_of_class) == {"zebra", "school bus", "okapi", "coyote"}
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


@pytest.mark.parametrize(
    ("accuracy_of_class", "num_images", "line"),
    [({"okapi": 1.0}, 1, "1 image of 1 class"), ({"okapi": 1.0, "zebra": 0.5}, 3, "3 images of 2 classes")],
)
def test_the_first_line_of_the_scores_counts_images_and_classes(accuracy_of_class, num_images, line):
    assert score_lines(GzslScores(None, None, 1.0, None, None, accuracy_of_class, num_images))[0] == line


def test_seen_accuracy_before_is_that_of_the_model_before(small_model):
    images = torch.randn(60, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        labels = small_model(images).argmax(1)
    labels[::4] = (labels[::4] + 1) % len(NAMES)  # a quarter is wrong
    dataset = TensorDataset(images, labels)
    original = evaluate(small_model, dataset)
    assert original.seen_accuracy == original.seen_accuracy_before < 1
    inject(small_model, ["okapi", "coyote"], encoder=WordEncoder(), calibration=None)
    with torch.no_grad():
        small_model.fc.bias[len(NAMES) :] += 20  # takes nearly all
    after = evaluate(small_model, dataset)
    assert after.seen_accuracy_before == original.seen_accuracy
    assert after.seen_accuracy < original.seen_accuracy
    assert after.moved_share > 0.5


def test_images_of_new_classes_alone_have_no_accuracy_before(patched):
    scores = evaluate(patched, TensorDataset(torch.rand(2, 3, 64, 64), torch.tensor([10, 11])))
    assert scores.seen_accuracy_before is None
    assert scores.zsl_accuracy is not None


def test_the_scores_say_at_which_size(patched, tmp_path):
    assert evaluate(patched, _images(tmp_path, "zebra")).input_size == (3, 224, 224)  # the config's size is 176, its test size 224
    assert evaluate(patched, TensorDataset(torch.rand(2, 3, 64, 48), torch.tensor([0, 1]))).input_size == (3, 64, 48)
    mixed = [(torch.rand(1, 3, size, size), torch.tensor([0])) for size in (64, 96)]
    assert evaluate(patched, mixed.__iter__()).input_size is None
