import os
import unicodedata
import warnings
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from PIL import Image
from torch.utils.data import DataLoader

from tests.helpers import NAMES, make_model, needs_offline
from tests.images.pictures import noise
from timm_inject import ClassNameError, ImageError, InjectionWarning, evaluate
from timm_inject.images import folder_dataset
from timm_inject.images.folders import ClassFinder
from timm_inject.text import ClassName, match_key, resolve_seen_class_names


@pytest.fixture
def model():
    return make_model("test_resnet")


def with_labels(labels):
    model = make_model("test_resnet", num_classes=len(labels))
    model.pretrained_cfg = {**model.pretrained_cfg, "label_names": list(labels)}
    return model


def folders(root, *names, file="one.png"):
    for name in names:
        (root / name).mkdir(parents=True, exist_ok=True)
        noise().save(root / name / file)
    return root


def scored_as(model, root):
    """Folder -> logit index."""
    data = folder_dataset(model, root)
    return {Path(path).parent.name: data.target_transform(position) for path, position in data.samples}


def finder(*labels):
    return ClassFinder([ClassName(label, label=label) for label in labels])


# ---- Names ----------------------------------------------------------------------------------------------------------


def test_a_label_wins_over_an_index(tmp_path):
    labels = sorted(str(number) for number in range(1, 13))
    got = scored_as(with_labels(labels), folders(tmp_path, *labels))
    assert got == {label: index for index, label in enumerate(labels)}


def test_where_labels_are_numbers_no_folder_is_an_index(tmp_path):
    with pytest.raises(ClassNameError) as caught:
        folder_dataset(with_labels(["1", "2", "3"]), folders(tmp_path, "0", "1", "2"))
    assert str(caught.value) == (
        "1 of 3 sub-folders are named like no class of the model: '0'. Name each by its class's name, synonym, label (numbers are "
        "labels here, no logit indices)."
    )


def test_indices_may_have_zeros_before_them(model, tmp_path):
    assert scored_as(model, folders(tmp_path, "003", "9")) == {"003": 3, "9": 9}
    with pytest.raises(ClassNameError, match="'10'.*logit index"):
        folder_dataset(model, folders(tmp_path, "10"))


def test_a_name_of_two_classes_is_refused_with_their_labels():
    names = ClassFinder(resolve_seen_class_names(None, 1000, "imagenet-1k"))
    with pytest.raises(ClassNameError) as caught:
        names.indices(["crane", "maillot", "tench"], "sub-folders")
    assert str(caught.value) == (
        "2 of 3 sub-folders fit several classes: 'crane' (n02012849, n03126707), 'maillot' (n03710637, n03710721). Name each by "
        "one of these."
    )
    assert names.indices(["n02012849", "n03126707"], "sub-folders") == [134, 517]


def test_what_is_unknown_and_what_is_unclear_is_told_at_once():
    with pytest.raises(ClassNameError) as caught:
        finder("crane", "crane", "fox").indices(["crane", "okapi", "fox"], "sub-folders", "Or do something else.")
    assert str(caught.value) == (
        "1 of 3 sub-folders are named like no class of the model: 'okapi'. Name each by its class's name, synonym, label or logit "
        "index (0 to 2). 1 of 3 sub-folders fit several classes: 'crane' (0, 1). Name each by one of these. Or do something else."
    )


def test_the_label_comes_first_then_the_name_then_a_synonym():
    names = ClassFinder(
        [
            ClassName("bird", label="a", synonyms=("thing", "third")),
            ClassName("thing", label="b", synonyms=("a",)),
            ClassName("third", label="bird"),
            ClassName("fourth", synonyms=("thing", "fifth")),
        ]
    )
    assert [names.find(text) for text in ("a", "bird", "thing", "third", "fifth", "3")] == [[0], [2], [1], [2], [3], [3]]


@pytest.mark.parametrize(
    ("folder", "index"),
    [
        ("n02085620-Chihuahua", 151),
        ("n01440764_tench", 0),
        ("n02012849-crane", 134),
        ("n03126707 crane", 517),
        ("001.Tinca tinca", 0),
        ("17_great-white_shark", 2),
        ("n01440764 whatever it is", 0),
    ],
)
def test_ids_and_numbers_may_stand_before_a_name(folder, index):
    assert ClassFinder(resolve_seen_class_names(None, 1000, "imagenet-1k")).find(folder) == [index]


@pytest.mark.parametrize(
    ("folder", "indices"), [("n02085620-zebra", [151, 340]), ("n09999999-zebra", []), ("001.crane", [134, 517]), ("1.2", [])]
)
def test_an_id_that_contradicts_the_name_is_not_decided_on(folder, indices):
    assert ClassFinder(resolve_seen_class_names(None, 1000, "imagenet-1k")).find(folder) == indices


def test_names_that_no_folder_can_have_are_found_as_they_are_written():
    names = finder("AC/DC", "what?", "grade A", "grade A-", "^_^", "a", "A")
    assert [names.find(text) for text in ("AC_DC", "AC:DC", "what_", "grade A", "grade A-", "^_^", "A")] == [
        [0], [0], [1], [2], [3], [4], [6],
    ]  # fmt: skip
    assert names.find("?") == []


words = st.text(st.characters(categories=("L", "N", "Zs", "Pd", "Po", "Mn"), max_codepoint=0x3100), min_size=1, max_size=12).map(
    str.strip
)


@settings(deadline=None)
@given(
    labels=st.lists(words.filter(bool), min_size=2, max_size=6, unique_by=lambda text: unicodedata.normalize("NFC", text)),
    data=st.data(),
)
def test_every_label_names_its_class_however_the_disk_writes_it(labels, data):
    names = finder(*labels)
    index = data.draw(st.integers(0, len(labels) - 1))
    for form in ("NFC", "NFD"):
        assert names.find(unicodedata.normalize(form, labels[index])) == [index]


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_labels_that_differ_by_an_accent_are_told_apart(form):
    assert [finder("Ång", "Ang").find(unicodedata.normalize(form, text)) for text in ("Ång", "Ang")] == [[0], [1]]


@settings(deadline=None)
@given(labels=st.lists(words.filter(match_key), min_size=2, max_size=6, unique_by=match_key), text=words)
def test_what_is_found_is_never_a_class_of_another_name(labels, text):
    assume(not any(character.isdigit() or character in '*?"/\\:' for character in text))  # these have tests of their own
    for index in finder(*labels).find(text):
        assert match_key(labels[index]) == match_key(text)


# ---- Files ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [".ipynb_checkpoints", "__MACOSX", "@eaDir", ".git", "#recycle", "$RECYCLE.BIN"])
def test_hidden_folders_are_left_out(model, tmp_path, name):
    folders(tmp_path, "zebra", name, f"fox/{name}", "fox")
    assert evaluate(model, tmp_path).num_images == 2


@pytest.mark.parametrize("name", ["._a.jpg", ".DS_Store", "Thumbs.db", "desktop.ini", ".a.png"])
def test_hidden_files_are_left_out(model, tmp_path, name):
    folders(tmp_path, "zebra")
    (tmp_path / "zebra" / name).write_bytes(b"\0\5\x16\7")
    (tmp_path / name).write_bytes(b"\0\5\x16\7")
    assert evaluate(model, tmp_path).num_images == 1


@pytest.mark.parametrize(
    "suffix", [".gif", ".jfif", ".JPG", ".tga", ".ico", ".jp2", ".webp", ".dds", ".avif", ".apng", ".qoi", "", ".jpg_large"]
)
def test_what_pillow_opens_is_opened(model, tmp_path, suffix):
    form = Image.registered_extensions().get(suffix.lower(), "JPEG")
    if form not in Image.SAVE:
        pytest.skip(f"this Pillow writes no {form}")
    (tmp_path / "zebra").mkdir()
    noise().save(tmp_path / "zebra" / f"a{suffix}", form)
    assert evaluate(model, tmp_path).num_images == 1


def test_what_is_no_image_is_counted_in_one_warning(model, tmp_path):
    folders(tmp_path, "zebra", "fox")
    for name in ("a.heic", "b.HEIC", "notes.txt", "table.h5", "README"):
        (tmp_path / "zebra" / name).write_bytes(b"\x89HDF\r\n\x1a\n" if name.endswith("h5") else b"something")
    noise().save(tmp_path / "beside.png")
    (tmp_path / "labels.csv").write_text("file,label\n")
    with pytest.warns(InjectionWarning) as caught:
        assert evaluate(model, tmp_path).num_images == 2
    assert [str(warning.message) for warning in caught] == [
        f"In '{tmp_path}': 5 files are no images that Pillow reads and were left out: .heic (2), no suffix (1), .txt (1), .h5 (1). "
        "For .heic install pillow-heif and call `pillow_heif.register_heif_opener()`. 1 image lies beside the sub-folders, so of "
        "no class: 'beside.png'."
    ]


def test_a_folder_of_other_files_alone_says_which(model, tmp_path):
    (tmp_path / "zebra").mkdir()
    (tmp_path / "zebra" / "a.txt").write_text("x")
    with pytest.raises(ImageError) as caught:
        evaluate(model, tmp_path)
    assert str(caught.value) == (
        f"The folder '{tmp_path}' holds no images in its sub-folders. Put each class's images into its own. 1 file is no image "
        f"that Pillow reads and was left out: .txt (1)."
    )


def test_a_damaged_photo_is_told_and_not_left_out(model, tmp_path):
    folders(tmp_path, "zebra")
    (tmp_path / "zebra" / "two.jpg").write_text("no photo")
    with pytest.raises(ImageError, match="two.jpg' could not be opened"):
        evaluate(model, tmp_path)


def test_files_at_any_depth_count_once_and_links_do_not_run_in_circles(model, tmp_path):
    folders(tmp_path, "zebra/day/far", "zebra/night", "fox")
    (tmp_path / "zebra" / "up").symlink_to(tmp_path)
    (tmp_path / "zebra" / "day" / "again").symlink_to(tmp_path / "zebra")
    assert scored_as(model, tmp_path).keys() == {"far", "night", "fox"}
    assert evaluate(model, tmp_path).num_images == 3


def test_links_and_pipes(model, tmp_path):
    folders(tmp_path / "real", "herd")
    folders(tmp_path / "data", "zebra")
    (tmp_path / "data" / "zebra" / "herd").symlink_to(tmp_path / "real" / "herd")
    (tmp_path / "data" / "zebra" / "linked.png").symlink_to(tmp_path / "real" / "herd" / "one.png")
    os.mkfifo(tmp_path / "data" / "zebra" / "pipe.png")
    assert evaluate(model, tmp_path / "data").num_images == 3
    (tmp_path / "data" / "zebra" / "broken.png").symlink_to(tmp_path / "gone.png")
    with pytest.raises(ImageError, match="broken.png' could not be opened: no such file"):
        evaluate(model, tmp_path / "data")


def test_a_file_and_a_folder_that_may_not_be_read_are_told(model, tmp_path, monkeypatch):
    (tmp_path / "photos.zip").write_bytes(b"PK")
    with pytest.raises(ImageError, match="photos.zip' is a file. Pass a folder with one sub-folder a class."):
        evaluate(model, tmp_path / "photos.zip")
    folders(tmp_path, "zebra")

    def refuse(_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(ImageError, match="could not be read: Permission denied. Check its permissions."):
        evaluate(model, tmp_path)


def test_a_folder_of_splits_is_told(model, tmp_path):
    folders(tmp_path, "train/zebra", "val/zebra")
    with pytest.raises(ClassNameError, match=r"2 of 2 sub-folders .* 'train', 'val'.* Or pass the folder 'train' itself\."):
        evaluate(model, tmp_path)


def test_an_unreadable_name_is_no_crash(model, tmp_path):
    (tmp_path / "zebra").mkdir()
    noise().save(tmp_path / "zebra" / os.fsdecode(b"caf\xe9.png"))
    assert evaluate(model, tmp_path).num_images == 1


def test_two_folders_of_one_class_are_put_together(model, tmp_path):
    scores = evaluate(model, folders(tmp_path, "Zebra", "zebra", "6"))
    assert (scores.num_images, list(scores.accuracy_of_class)) == (3, ["zebra"])


def test_a_loader_of_the_folder_scores_like_the_folder(model, tmp_path):
    folders(tmp_path, "zebra", "fox", "0")
    assert evaluate(model, DataLoader(folder_dataset(model, tmp_path), batch_size=2)) == evaluate(model, tmp_path)


@needs_offline
def test_folders_may_be_named_by_wordnet_id_or_synonym(packaged_model, tmp_path):
    scores = evaluate(packaged_model, folders(tmp_path, "n11939491", "Tinca tinca"))
    assert list(scores.accuracy_of_class) == ["tench", "daisy"]


def test_no_warning_where_nothing_is_left_out(model, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        evaluate(model, folders(tmp_path, "zebra"))
    assert NAMES[6] == "zebra"
