"""Damaged files of every format that Pillow writes here: an image, or one line that names the file."""

import random
import warnings

import pytest
from PIL import Image

from tests.helpers import make_model
from tests.images.pictures import damaged, every_format
from timm_inject import ImageError, classify, evaluate

# Formats that need a program beside Pillow, or that Pillow writes and does not read.
UNREADABLE = {"EPS", "PALM", "PDF"}


@pytest.fixture(scope="module")
def written():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Pillow's, about what its next release writes
        return every_format()


def test_every_format_that_pillow_writes_is_classified(written, tmp_path):
    model, paths = make_model("test_resnet"), []
    for (form, mode), content in written.items():
        if form in UNREADABLE or (form, mode) == ("TIFF", "YCbCr"):  # which Pillow itself does not read back
            continue
        paths.append(tmp_path / f"{form}-{mode}".replace(";", "-"))
        paths[-1].write_bytes(content)
    assert len({path.name.partition("-")[0] for path in paths}) >= 20
    assert len(classify(model, paths)) == len(paths)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("number", [pytest.param(150), pytest.param(2500, marks=pytest.mark.slow)])
def test_no_raw_error_escapes_from_damaged_files(written, number, tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1_000_000)  # a changed header must not make the test run out of memory
    model, chance = make_model("test_resnet"), random.Random(number)
    (tmp_path / "zebra").mkdir()
    kinds, refused = sorted(written), []
    for position in range(number):
        form, mode = kinds[position * 7 % len(kinds)]
        # With and without a suffix, for Pillow first tries the format that the suffix names.
        path = tmp_path / "zebra" / f"{position}{random.Random(position).choice(['', '.png', '.' + form.lower()])}"
        path.write_bytes(damaged(written[form, mode], chance))
        try:
            assert len(classify(model, [path])) == 1
        except ImageError as error:
            refused.append((path, str(error)))
    assert all(message.startswith(f"The image '{path}' ") and "\n" not in message for path, message in refused)
    assert number / 4 < len(refused) < number  # the damage is neither always nor never deadly
    with pytest.raises(ImageError, match="could not be opened"):
        evaluate(model, tmp_path, num_workers=1)
