"""Results as lines of text."""

import pytest

from timm_inject.cli.report import score_lines
from timm_inject.images.evaluation import GzslScores


@pytest.mark.parametrize(
    ("accuracy_of_class", "num_images", "line"),
    [({"okapi": 1.0}, 1, "1 image of 1 class"), ({"okapi": 1.0, "zebra": 0.5}, 3, "3 images of 2 classes")],
)
def test_the_first_line_of_the_scores_counts_images_and_classes(accuracy_of_class, num_images, line):
    assert score_lines(GzslScores(None, None, 1.0, None, None, accuracy_of_class, num_images))[0] == line
