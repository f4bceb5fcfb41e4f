"""What people pass to `evaluate`: datasets and loaders of every kind, and labels of every kind."""

import multiprocessing
import pickle

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from timm.data import ImageDataset
from torch.utils.data import ConcatDataset, DataLoader, Dataset, IterableDataset, Subset, TensorDataset
from torchvision.datasets import ImageFolder

from tests.helpers import NAMES, make_model
from tests.images.pictures import noise
from tests.images.test_folders import folders
from timm_inject import ArgumentTypeError, ArgumentValueError, ClassNameError, ImageError, evaluate
from timm_inject.images import folder_dataset, image_transform

SIZE = (3, 160, 160)


@pytest.fixture(scope="module")
def model():
    return make_model("test_resnet")


@pytest.fixture
def folder(tmp_path):
    return folders(tmp_path, "zebra", "fox", "wolf")


class Pairs(Dataset):
    """Samples of any kind; can be sent to spawned workers."""

    def __init__(self, samples, **attributes):
        self.samples = samples
        vars(self).update(attributes)

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, index):
        sample = self.samples[index]
        return sample() if callable(sample) else sample


class Stream(IterableDataset):
    def __iter__(self):
        return iter([(torch.zeros(SIZE), 0)] * 3)


def images(number=4, size=SIZE):
    return torch.rand(number, *size, generator=torch.Generator().manual_seed(0))


def told(model, data, error, **options):
    with pytest.raises(error) as caught:
        evaluate(model, data, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# ---- Where samples come from ----------------------------------------------------------------------------------------


def test_datasets_and_loaders_of_every_kind_score_alike(model):
    data = TensorDataset(images(), torch.tensor([6, 8, 0, 1]))
    steps = []
    expected = evaluate(model, data, batch_size=3, progress=lambda *step: steps.append(step))
    assert steps == [("Classify the images", 1, 2), ("Classify the images", 2, 2)]
    pairs = [(image, int(label)) for image, label in data]
    batches = [(images()[:2], torch.tensor([6, 8])), [images()[2:], [0, 1]]]
    for source in (DataLoader(data, batch_size=2), pairs, Pairs(pairs), iter(batches), (batch for batch in batches)):
        assert evaluate(model, source) == expected
    assert evaluate(model, Pairs([(image, np.int32(label)) for image, label in pairs]), batch_size=np.int64(2)) == expected


def test_a_loader_that_does_not_know_its_length_is_read(model):
    steps = []
    assert evaluate(model, Stream(), batch_size=2, progress=lambda *step: steps.append(step)).num_images == 3
    assert steps == [("Classify the images", 1, 1), ("Classify the images", 2, 2)]


def test_pictures_of_a_dataset_are_transformed(model, folder):
    own = evaluate(model, folder)
    untransformed = ImageFolder(str(folder))
    assert evaluate(model, untransformed) == own
    told_by_loader = told(model, DataLoader(untransformed), ArgumentTypeError)
    assert told_by_loader == (
        "Each sample must be (image, logit index) with a tensor for the image, found <class 'PIL.Image.Image'>. Transform the "
        "dataset's images for the model."
    )


def test_global_random_numbers_are_left_alone(model, folder):
    state = torch.get_rng_state()
    evaluate(model, folder)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_loader_processes_work_however_they_are_started(model, folder, method):
    assert pickle.dumps(folder_dataset(model, folder))
    earlier = multiprocessing.get_start_method(allow_none=True)
    multiprocessing.set_start_method(method, force=True)
    try:
        assert evaluate(model, folder, num_workers=1) == evaluate(model, folder)
        (folder / "fox" / "two.png").write_text("no image")
        assert told(model, folder, ImageError, num_workers=1) == (
            f"The image '{folder / 'fox' / 'two.png'}' could not be opened: not an image, damaged, or not readable. Remove it or "
            f"save it again."
        )
    finally:
        multiprocessing.set_start_method(earlier, force=True)


@pytest.mark.parametrize("workers", [0, 1])
def test_damaged_pictures_and_odd_samples_are_told_in_a_line_in_workers_too(model, folder, workers):
    (folder / "fox" / "two.png").write_text("no image")
    data = ImageFolder(str(folder), transform=image_transform(model))
    message = told(model, data, ImageError, num_workers=workers)
    assert message.startswith("A sample of the dataset could not be read: ")
    assert "cannot identify image file" in message
    assert message.endswith(". Remove it or save it again.")
    assert "two.png' could not be opened" in told(model, DataLoader(folder_dataset(model, folder), num_workers=workers), ImageError)
    assert not multiprocessing.active_children()  # they end with the call, not when someone collects garbage
    assert told(model, Pairs([{"image": noise(), "label": 1}]), ArgumentTypeError, num_workers=workers) == (
        "Each sample must be (image, logit index), got a dict with the keys 'image', 'label'. Wrap the dataset in one whose "
        "`__getitem__` returns these two."
    )


def test_loader_processes_end_with_an_error_that_is_none_of_theirs(model):
    try:
        evaluate(model, Pairs([(torch.zeros(SIZE), 99)] * 20), batch_size=1, num_workers=1)
    except ArgumentValueError:
        assert not multiprocessing.active_children()  # while the error is still held
    else:
        pytest.fail("99 is no class")


@pytest.mark.filterwarnings("ignore:Got pickle error")
def test_a_dataset_that_cannot_be_sent_to_workers_is_told(model):
    data = Pairs([lambda: (torch.zeros(SIZE), 0)])
    assert evaluate(model, data).num_images == 1
    earlier = multiprocessing.get_start_method(allow_none=True)
    multiprocessing.set_start_method("spawn", force=True)
    try:
        message = told(model, data, ArgumentValueError, num_workers=1)
    finally:
        multiprocessing.set_start_method(earlier, force=True)
    assert message.startswith("The dataset can't be sent to loader processes: ")
    assert message.endswith(". Pass num_workers=0, or a dataset without lambdas and local functions.")


def test_errors_of_the_users_own_dataset_are_his(model):
    def broken():
        raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine"):
        evaluate(model, Pairs([broken]))
    with pytest.raises(RuntimeError, match="mine too"):
        evaluate(model, (x for x in [None] if (_ for _ in ()).throw(RuntimeError("mine too"))))


@pytest.mark.parametrize(
    "empty", [lambda: Pairs([]), lambda: DataLoader(Pairs([])), lambda: [], lambda: iter([]), lambda: Subset(Pairs([1]), [])]
)
def test_nothing_to_evaluate_is_told(model, empty):
    assert told(model, empty(), ImageError) == "There are no images to evaluate."


def test_batches_without_an_image_count_for_nothing(model):
    assert told(model, iter([(torch.zeros(0, *SIZE), [])]), ImageError) == "There are no images to evaluate."
    assert evaluate(model, iter([(images(2), [0, 1]), (torch.zeros(0, *SIZE), [])])).num_images == 2


# ---- What is no pair of images and labels ---------------------------------------------------------------------------

WRAP = "Wrap the dataset in one whose `__getitem__` returns these two."


@pytest.mark.parametrize(
    ("data", "error", "message"),
    [
        (5, ArgumentTypeError, "`images` must be a folder with a sub-folder a class, a Dataset or a DataLoader, got int."),
        (None, ArgumentTypeError, "`images` must be a folder with a sub-folder a class, a Dataset or a DataLoader, got NoneType."),
        ({"a": 1}, ArgumentTypeError, "`images` must be a folder with a sub-folder a class, a Dataset or a DataLoader, got dict."),
        (
            images(),
            ArgumentTypeError,
            "`images` must be a folder with a sub-folder a class, a Dataset or a DataLoader, got Tensor.",
        ),
        (
            (images(), torch.zeros(4)),
            ArgumentTypeError,
            "`images` is a tuple of tensors. Make a dataset of it: `torch.utils.data.TensorDataset(images, labels)`.",
        ),
        (["a.jpg", "b.jpg"], ArgumentTypeError, "Each sample must be (image, logit index) with a tensor for the image, got str."),
        (TensorDataset(images()), ArgumentTypeError, f"Each sample must be (image, logit index), got 1 parts. {WRAP}"),
        ([(images()[0], 1, "a.jpg")], ArgumentTypeError, f"Each sample must be (image, logit index), got 3 parts. {WRAP}"),
        (iter([{"pixels": 1}]), ArgumentTypeError, "Each sample must be (image, logit index), got a dict with the keys 'pixels'."),
        (iter([images()]), ArgumentTypeError, f"Each sample must be (image, logit index), got Tensor. {WRAP}"),
        (
            [(images()[0], 1), (images(1, (3, 96, 96))[0], 1)],
            ArgumentValueError,
            "The images of one batch differ in size: stack expects each tensor to be equal size, but got [3, 160, 160] at entry 0 "
            "and [3, 96, 96] at entry 1. Transform all to the model's size.",
        ),
        ([(images()[0], None)], ArgumentTypeError, "Each sample must be (image, logit index) with a tensor for the image, found "),
        ([(images()[0].byte(), 1)], ArgumentTypeError, "The images are torch.uint8 tensors, so not transformed for the model. "),
        (
            [(images()[0, :1], 1)],
            ArgumentValueError,
            "A batch of images has the shape (1, 1, 160, 160), expected (images, 3, height, width), as the model takes 3 channels.",
        ),
        (
            iter([(images()[0], 1)]),
            ArgumentValueError,
            "A batch of images has the shape (3, 160, 160), expected (images, 3, height, ",
        ),
    ],
)
def test_what_is_no_pair_is_told(model, data, error, message):
    assert told(model, data, error).startswith(message)


@pytest.mark.parametrize(
    ("labels", "error", "message"),
    [
        (torch.tensor([0, 12]), ArgumentValueError, "Labels must be from 0 to 9, in the order of the model's classes; got 12."),
        (
            torch.tensor([1, 10]),
            ArgumentValueError,
            "Labels must be from 0 to 9, in the order of the model's classes; got 10. If they count from 1, subtract 1.",
        ),
        (
            torch.tensor([-1, 3]),
            ArgumentValueError,
            "Labels must be from 0 to 9, in the order of the model's classes; got -1. A negative label often means 'unlabelled': "
            "leave such images out.",
        ),
        (
            torch.eye(10)[:2],
            ArgumentValueError,
            "Labels have the shape (2, 10), so are one-hot or several an image. Pass one logit index an image, such as "
            "`labels.argmax(1)`.",
        ),
        (
            torch.tensor([[1], [2]]),
            ArgumentValueError,
            "Labels have the shape (2, 1) for 2 images. Pass one logit index an image: (2,).",
        ),
        (
            torch.tensor([1, 2, 3]),
            ArgumentValueError,
            "Labels have the shape (3,) for 2 images. Pass one logit index an image: (2,).",
        ),
        (torch.tensor(1), ArgumentValueError, "Labels have the shape () for 2 images. Pass one logit index an image: (2,)."),
        (torch.tensor([1.0, 2.0]), ArgumentTypeError, "Labels must be logit indices, got torch.float32. Pass whole numbers: "),
        ([0.5, 1.5], ArgumentTypeError, "Labels must be logit indices, got torch.float32. Pass whole numbers: `labels.long()`."),
        (torch.tensor([True, False]), ArgumentTypeError, "Labels must be logit indices, got torch.bool. Pass whole numbers: "),
        (
            ["zebra", "fox"],
            ArgumentTypeError,
            "Labels must be logit indices, got str. Translate them to logit indices of the model.",
        ),
        (
            [None, None],
            ArgumentTypeError,
            "Labels must be logit indices, got NoneType. Translate them to logit indices of the model.",
        ),
        ({"a": 1}, ArgumentTypeError, "Labels must be logit indices, got dict. Translate them to logit indices of the model."),
    ],
)
def test_labels_that_are_no_logit_indices_are_told(model, labels, error, message):
    assert told(model, iter([(images(2), labels)]), error).startswith(message)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int32, torch.int64])
def test_labels_may_be_of_any_whole_type(model, dtype):
    assert evaluate(model, iter([(images(2), torch.tensor([3, 9], dtype=dtype))])).accuracy_of_class.keys() == {
        "wolf",
        "fire truck",
    }


def test_images_that_the_model_does_not_take_are_told():
    vit = make_model("vit_tiny_patch16_224", img_size=96, depth=1)
    assert told(vit, TensorDataset(images(), torch.zeros(4).long()), ArgumentValueError) == (
        "The model does not take images of the shape (3, 160, 160): Input height (160) doesn't match model (96). Transform them to "
        "its own, (3, 96, 96)."
    )
    own = TensorDataset(images(4, (3, 96, 96)), torch.zeros(4).long())
    assert evaluate(vit, own).input_size == (3, 96, 96)
    vit.register_forward_hook(lambda *_: (_ for _ in ()).throw(RuntimeError("of the model's own")))
    with pytest.raises(RuntimeError, match="of the model's own"):
        evaluate(vit, own)


@pytest.mark.parametrize("channels", [1, 5])
def test_models_of_other_channels_score_tensors_of_as_many(channels):
    model = make_model("test_resnet", in_chans=channels)
    data = TensorDataset(images(4, (channels, 64, 64)), torch.arange(4))
    assert evaluate(model, data).input_size == (channels, 64, 64)


def test_one_channel_models_score_folders(folder):
    assert evaluate(make_model("test_resnet", in_chans=1), folder).input_size == (1, 160, 160)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"batch_size": 0}, ArgumentValueError, "`batch_size` must be at least 1, got 0."),
        ({"batch_size": -1}, ArgumentValueError, "`batch_size` must be at least 1, got -1."),
        ({"batch_size": 2.0}, ArgumentTypeError, "`batch_size` must be a whole number, got 2.0 (float)."),
        ({"batch_size": None}, ArgumentTypeError, "`batch_size` must be a whole number, got None (NoneType)."),
        ({"num_workers": -1}, ArgumentValueError, "`num_workers` must be at least 0, got -1."),
        ({"num_workers": "2"}, ArgumentTypeError, "`num_workers` must be a whole number, got '2' (str)."),
        ({"num_workers": True}, ArgumentTypeError, "`num_workers` must be a whole number, got True (bool)."),
    ],
)
def test_numbers_are_checked_first(model, options, error, message):
    assert told(model, "no such folder", error, **options) == message


# ---- Datasets with classes of their own -----------------------------------------------------------------------------


def classes_scored(model, data):
    return list(evaluate(model, data).accuracy_of_class)


def test_a_datasets_own_classes_are_translated_by_name(model, folder):
    data = ImageFolder(str(folder), transform=image_transform(model))
    assert data.class_to_idx == {"fox": 0, "wolf": 1, "zebra": 2}
    for source in (data, DataLoader(data, batch_size=2), Subset(Subset(data, [0, 1, 2]), [0, 1, 2]), ConcatDataset([data, data])):
        assert classes_scored(model, source) == ["fox", "wolf", "zebra"]
    assert classes_scored(model, Subset(data, [2])) == ["zebra"]
    assert evaluate(model, data) == evaluate(model, folder)


def test_timms_own_dataset_is_translated_too(model, folder):
    data = ImageDataset(str(folder), transform=image_transform(model))
    assert classes_scored(model, data) == ["fox", "wolf", "zebra"]
    loader = timm.data.create_loader(data, SIZE, 2, use_prefetcher=False, num_workers=0, persistent_workers=False)
    assert classes_scored(model, loader) == ["fox", "wolf", "zebra"]


def test_folders_named_by_index_are_read_as_such(model, tmp_path):
    data = ImageFolder(str(folders(tmp_path, "2", "7", "9")), transform=image_transform(model))
    assert classes_scored(model, data) == ["fox", "horse", "fire truck"]


@pytest.mark.parametrize(
    "attributes", [{}, {"classes": NAMES}, {"classes": []}, {"class_to_idx": dict(zip(NAMES, range(10), strict=True))}]
)
def test_labels_that_are_logit_indices_stay(model, attributes):
    assert classes_scored(model, Pairs([(images()[0], 6), (images()[1], 9)], **attributes)) == ["zebra", "fire truck"]


def test_a_target_transform_is_the_users_own_translation(model, folder):
    data = ImageFolder(str(folder), transform=image_transform(model), target_transform=[4, 4, 4].__getitem__)
    assert classes_scored(model, data) == ["lion"]


@pytest.mark.parametrize(
    "attributes",
    [
        {"class_to_idx": {"zebra": 5, "fox": 2}},
        {
            "classes": [("fox", "Vulpes"), "x", "fox", "lion", "lion", "zebra"],
            "wnids": ["tiger", "tiger", "fox", "wolf", "lion", "zebra"],
        },
    ],
)
def test_numbers_with_gaps_and_wordnet_ids_are_translated(model, attributes):
    data = Pairs([(images()[0], 5), (images()[1], 2)], **attributes)
    assert classes_scored(model, data) == ["fox", "zebra"]
    if "class_to_idx" in attributes:
        message = told(model, Pairs([(images()[0], 3)], **attributes), ArgumentValueError)
        assert message == "Labels must be from 0 to 5, in the order of the dataset's `classes`; got 3."


def test_classes_that_are_not_the_models_are_refused(model, folder):
    folders(folder, "okapi")
    data = ImageFolder(str(folder), transform=image_transform(model))
    assert told(model, data, ClassNameError) == (
        "1 of 4 classes of the dataset are named like no class of the model: 'okapi'. Name each by its class's name, synonym, "
        "label or logit index (0 to 9). If its labels are logit indices all the same, wrap it in a dataset without `classes`."
    )


def test_datasets_that_number_differently_are_refused(model):
    one, other = (Pairs([(images()[0], 0)], classes=classes) for classes in (["zebra", "fox"], ["fox", "zebra"]))
    assert told(model, ConcatDataset([one, other]), ArgumentValueError) == (
        "The datasets of a ConcatDataset number their classes differently. Evaluate each by itself."
    )


def test_a_picture_is_no_dataset(model):
    with pytest.raises(ArgumentTypeError):
        evaluate(model, Image.new("RGB", (8, 8)))
