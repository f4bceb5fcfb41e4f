"""Results as lines of text."""

import pytest

from timm_inject import Explanation, GzslScores, InjectionRecord
from timm_inject.cli.report import count_classes, explanation_lines, how_to_write, price_lines, score_lines
from timm_inject.text import ClassText, load_senses


@pytest.mark.parametrize(
    ("score", "expected"),
    [
        ({}, []),
        (
            {"moved_share": 0.012, "unseen_accuracy": 0.81},
            ["Old classes give up about 1% of their images; new ones win about 8 of 10 of theirs. Estimated without images."],
        ),
        (
            {
                "moved_share": 0.02,
                "seen_accuracy_before": 0.784,
                "seen_accuracy": 0.771,
                "unseen_accuracy": 0.99,
                "zsl_accuracy": 1.0,
            },
            [
                "Old classes give up about 2% of their images (77% right, 78% before); new ones win nearly all of theirs. "
                "Estimated without images."
            ],
        ),
        (
            {"seen_accuracy": 0.82, "unseen_accuracy": 0.01},
            ["Old classes win about 82% of their images; new ones win fewer than 1 of 10 of theirs. Estimated without images."],
        ),
        ({"moved_share": 0.0}, ["Old classes give up none of their images. Estimated without images."]),
        ({"moved_share": 0.004}, ["Old classes give up fewer than 1% of their images. Estimated without images."]),
        ({"unseen_accuracy": 0.5}, ["New ones win about 5 of 10 of theirs. Estimated without images."]),
    ],
)
def test_the_price_is_one_sentence_of_what_is_known(score, expected):
    assert price_lines(InjectionRecord(10, (), {}, score)) == expected


def test_explanation():
    assert explanation_lines(Explanation("okapi", 12, (("zebra", 0.5), ("horse", 0.004)), ())) == [
        "okapi (class 12)",
        "  leans on    zebra 50%, horse <1%",
        "  takes from  no old class, as far as can be told without images",
    ]


def test_scores():
    lines = score_lines(GzslScores(0.5, 0.75, None, None, 0.125, {"okapi": 0.5, "zebra": 1.0}, 3))
    assert lines[0].startswith("3 images of 2 classes")
    assert "  seen accuracy                            75.0%" in lines
    assert "  unseen accuracy                          no images" in lines
    assert "  seen images moved to a new class         12.5%" in lines


def test_counts():
    assert count_classes(2, 10) == "12 classes, 2 of them new"
    assert count_classes(0, 10) == "its 10 original classes"


def test_what_to_write_picks_the_sense_in_any_head():
    senses = load_senses()
    for name in ("crane", "seal", "mouse", "bat", "jaguar", "tie", "palm", "orange", "nail", "galaxy"):
        found = senses.find(name)
        text = ClassText(name, (name,), sense=found[0], alternatives=found[1:])
        for sense in found[1:]:
            written = how_to_write(text, sense)
            name_written, _, wnid = written.partition(": ")
            assert senses.find(wnid or name_written)[0].key == sense.key, written
            if not wnid:
                for kinds in ({"animal"}, {"device"}, {"food"}):
                    assert senses.find(name_written, kinds)[0].key == sense.key, (written, kinds)
