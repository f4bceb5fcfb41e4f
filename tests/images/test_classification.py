"""The likeliest classes of photos."""

import pytest
from PIL import Image

from timm_inject import ArgumentTypeError, ArgumentValueError, classify


def test_classify_gives_the_likeliest_first_and_marks_new_ones(patched):
    (top,) = classify(patched, [Image.new("RGB", (64, 64))], top=12)
    assert [entry.probability for entry in top] == sorted((entry.probability for entry in top), reverse=True)
    assert {entry.name for entry in top if entry.is_new} == {"okapi", "electric scooter"}
    assert sum(entry.probability for entry in top) == pytest.approx(1)


@pytest.mark.parametrize(
    ("images", "options", "error", "message"),
    [
        ("photo.jpg", {}, ArgumentTypeError, "`images` must be a sequence of files or PIL images, got one str. Put it in a list: "),
        (Image.new("RGB", (8, 8)), {}, ArgumentTypeError, "`images` must be a sequence of files or PIL images, got one Image. "),
        ([], {"top": 0}, ArgumentValueError, "`top` must be at least 1, got 0."),
    ],
)
def test_classify_refuses_what_is_no_list_of_images(small_model, images, options, error, message):
    with pytest.raises(error) as caught:
        classify(small_model, images, **options)
    assert str(caught.value).startswith(message)
