"""Benchmark scores against independent oracles: scikit-learn, and counting one image at a time."""

import itertools
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.scores import linear_logits, seen_unseen_curve, zero_shot_scores

NUM_SEEN, NUM_UNSEEN = 3, 2


def oracle_accuracy(logits, target, classes, offset=0.0):
    """Mean over the classes that occur of the share predicted right, over all classes, by plain counting."""
    shares = []
    for index in classes:
        rows = [row for row, label in zip(logits, target, strict=True) if label == index]
        hits = 0
        for row in rows:
            moved = [value + (offset if position >= NUM_SEEN else 0) for position, value in enumerate(row)]
            hits += moved.index(max(moved)) == index  # `index` takes the first of equals
        if rows:
            shares.append(Fraction(hits, len(rows)))
    return float(sum(shares) / len(shares)) if shares else None


def oracle_curve(logits, target):
    """Accuracies between all neighbouring offsets at which some image changes sides, and beyond the ends."""
    needed = sorted({max(row[:NUM_SEEN]) - max(row[NUM_SEEN:]) for row in logits})
    offsets = [needed[0] - 1, *[(a + b) / 2 for a, b in itertools.pairwise(needed)], needed[-1] + 1]
    seen, unseen = range(NUM_SEEN), range(NUM_SEEN, NUM_SEEN + NUM_UNSEEN)
    return [(oracle_accuracy(logits, target, unseen, o), oracle_accuracy(logits, target, seen, o)) for o in offsets]


@st.composite
def problems(draw):
    """Small integers as logits, so that ties are frequent; images of both groups."""
    count = draw(st.integers(2, 12))
    logits = draw(st.lists(st.lists(st.integers(-3, 3), min_size=5, max_size=5), min_size=count, max_size=count))
    target = [draw(st.integers(0, 2)), draw(st.integers(3, 4))]
    target += draw(st.lists(st.integers(0, 4), min_size=count - 2, max_size=count - 2))
    return logits, target


@settings(deadline=None, max_examples=200)
@given(problems())
def test_scores_and_curve_equal_counting(problem):
    logits, target = problem
    scores, curve = zero_shot_scores(torch.tensor(logits, dtype=torch.float32), torch.tensor(target), NUM_SEEN)
    assert scores.seen_accuracy == pytest.approx(oracle_accuracy(logits, target, range(3)))
    assert scores.unseen_accuracy == pytest.approx(oracle_accuracy(logits, target, range(3, 5)))
    new = [[*row[3:]] for row, label in zip(logits, target, strict=True) if label >= 3]
    new_target = [label - 3 for label in target if label >= 3]
    shares = [
        np.mean([row.index(max(row)) == index for row, label in zip(new, new_target, strict=True) if label == index])
        for index in set(new_target)
    ]
    assert scores.zsl_accuracy == pytest.approx(np.mean(shares))
    expected = oracle_curve(logits, target)
    points = list(zip(curve.unseen.tolist(), curve.seen.tolist(), strict=True))
    assert points == [pytest.approx(point) for point in expected]
    area = sum((b[0] - a[0]) * (a[1] + b[1]) / 2 for a, b in itertools.pairwise(expected))
    assert scores.area == pytest.approx(area)
    best = max(2 * u * s / (u + s) if u + s else 0.0 for u, s in expected)
    assert scores.best_harmonic_mean == pytest.approx(best, abs=1e-9)
    assert scores.harmonic_mean <= scores.best_harmonic_mean + 1e-9


def test_scores_equal_those_of_scikit_learn():
    metrics = pytest.importorskip("sklearn.metrics")
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(400, 20, generator=generator)
    target = torch.arange(400) % 20
    logits[torch.arange(400), target] += 1.0
    scores, _ = zero_shot_scores(logits, target, 8)
    predicted = logits.argmax(1)
    for is_group, value in ((target < 8, scores.seen_accuracy), (target >= 8, scores.unseen_accuracy)):
        # Recall of each class that occurs, averaged: what scikit-learn calls macro recall over these labels.
        labels = target[is_group].unique()
        expected = metrics.recall_score(target[is_group], predicted[is_group], labels=labels, average="macro", zero_division=0)
        assert value == pytest.approx(expected)
    assert scores.image_accuracy == pytest.approx(metrics.accuracy_score(target, predicted))
    # Every class has as many images, so the share of images is the mean over classes.
    new = target >= 8
    top5 = metrics.top_k_accuracy_score(target[new] - 8, logits[new, 8:].numpy(), k=5, labels=range(12))
    assert 0 < top5 < 1
    assert scores.zsl_top5 == pytest.approx(top5)


def test_top5_leaves_out_the_sixth():
    logits = torch.zeros(2, 8)
    logits[:, 2:] = torch.tensor([6.0, 5, 4, 3, 2, 1])
    scores, _ = zero_shot_scores(logits, torch.tensor([6, 7]), 2)
    assert scores.zsl_top5 == 0.5  # fifth best counts, sixth does not


def test_an_absent_class_enters_no_mean():
    logits = torch.eye(5)[[0, 0, 3]]
    scores, _ = zero_shot_scores(logits, torch.tensor([0, 1, 3]), 3)
    assert scores.seen_accuracy == 0.5  # of classes 0 and 1; class 2 has no image
    assert scores.unseen_accuracy == 1.0  # of class 3; class 4 has no image


def test_nothing_right_is_a_harmonic_mean_of_0():
    logits = torch.eye(5)[[1, 4]]
    scores, curve = zero_shot_scores(logits, torch.tensor([0, 3]), 3)
    assert (scores.seen_accuracy, scores.unseen_accuracy, scores.harmonic_mean) == (0.0, 0.0, 0.0)
    assert (scores.area, scores.best_harmonic_mean) == (0.0, 0.0)
    assert curve.unseen.tolist() == curve.seen.tolist() == [0.0, 0.0, 0.0]


def test_a_tie_goes_to_the_class_that_comes_first():
    scores, _ = zero_shot_scores(torch.zeros(2, 5), torch.tensor([0, 3]), 3)
    assert scores.seen_accuracy == 1.0
    assert scores.unseen_accuracy == 0.0
    assert scores.zsl_accuracy == 1.0  # class 3 is the first new one


def test_without_images_of_one_group_there_is_no_score_of_it():
    scores, curve = zero_shot_scores(torch.eye(5)[[0]], torch.tensor([0]), 3)
    assert scores.seen_accuracy == 1.0
    assert scores.unseen_accuracy is scores.harmonic_mean is scores.zsl_accuracy is scores.area is curve is None
    scores, curve = zero_shot_scores(torch.eye(5)[[3]], torch.tensor([3]), 3)
    assert scores.unseen_accuracy == 1.0
    assert scores.seen_accuracy is scores.harmonic_mean is scores.moved_share is curve is None


def test_area_does_not_move_with_an_offset_but_h_does():
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(300, 5, generator=generator)
    target = torch.randint(0, 5, (300,), generator=generator)
    logits[torch.arange(300), target] += 1.0
    moved = logits.clone()
    moved[:, 3:] += 5.0
    plain, _ = zero_shot_scores(logits, target, 3)
    other, _ = zero_shot_scores(moved, target, 3)
    assert other.area == pytest.approx(plain.area)
    assert other.harmonic_mean < plain.harmonic_mean - 0.2
    assert other.moved_share > plain.moved_share


def test_points_of_a_curve_keep_its_ends():
    logits = torch.randn(500, 5, generator=torch.Generator().manual_seed(2))
    target = torch.arange(500) % 5
    curve = seen_unseen_curve(logits, target, 3)
    points = curve.points(11)
    assert len(points) == 11
    assert points[0] == (0.0, round(curve.seen[0].item(), 5))
    assert points[-1] == (round(curve.unseen[-1].item(), 5), 0.0)
    assert len(curve.points(10_000)) == len(curve.unseen)


def test_logits_with_and_without_bias():
    features, weight, bias = torch.randn(4, 3), torch.randn(2, 3), torch.randn(2, 1)
    assert torch.equal(linear_logits(features, weight), features @ weight.T)
    with_bias = linear_logits(features, torch.cat([weight, bias], dim=1))
    assert torch.allclose(with_bias, torch.nn.functional.linear(features, weight, bias[:, 0]))
