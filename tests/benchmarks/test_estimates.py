import pytest
import torch

from benchmarks.estimates import bins_table, class_groups, estimate_points, estimate_units
from benchmarks.heldout import HeldOutBenchmark
from benchmarks.images import ImageHead
from benchmarks.results import Result, ResultStore, Setting
from benchmarks.units import run_units
from tests.helpers import WordEncoder, related_classes
from timm_inject.text import ClassName, Sense, resolve_encoder


def test_groups_are_neighbours_in_wordnet_or_random():
    names = [ClassName(f"class {number}", Sense((), wnid=f"n{number:08d}")) for number in (5, 1, 4, 2, 3, 0, 6)]
    groups = class_groups(names, size=2, num_random=3, seed=0)
    assert [group.classes for group in groups if group.kind == "neighbours"] == [(5, 1), (3, 4), (2, 0)]
    random = [group.classes for group in groups if group.kind == "random"]
    assert len(random) == 3
    assert all(len(set(classes)) == 2 and set(classes) <= set(range(7)) for classes in random)
    assert class_groups(names, 2, 3, 0) == groups != class_groups(names, 2, 3, 1)
    assert [len(group.classes) for group in class_groups([ClassName(str(i)) for i in range(500)], 100, 4, 0)] == [100] * 9 + [
        200
    ] * 2


@pytest.fixture(scope="module")
def results():
    _, rows = related_classes(num_classes=40)
    labels = torch.arange(40).repeat(3)
    features = rows[labels, :23] + 0.3 * torch.randn(120, 23, generator=torch.Generator().manual_seed(0))
    names = [ClassName(f"thing {index % 7} {index}") for index in range(40)]
    benchmark = HeldOutBenchmark(ImageHead("head", rows, names, features, labels), resolve_encoder(WordEncoder()))
    store = ResultStore(None)
    run_units(estimate_units(benchmark, class_groups(names, 10, 2, 0), 0), store)
    return list(store)


def test_each_group_is_measured_once(results):
    assert [result.error for result in results] == [""] * 6
    assert [result.setting.num_seen for result in results] == [30] * 6
    for score in ("zsl_accuracy", "unseen_accuracy"):
        points = estimate_points(results, score)
        assert len(points) == 6
        assert {point[0] for point in points} == {"head, neighbours", "head, random"}
    assert sum(result.notes.get(f"names {number}", 0) for result in results for number in range(5)) == 60


def test_table_of_bins():
    setting = Setting("imagenet", "groups", "random", "lemma", "icis", "harmonic", 0)
    notes = {"names 0": 2.0, "foretold 0": 0.2, "real 0": 0.3, "names 4": 1.0, "foretold 4": 0.9, "real 4": 0.8}
    table = bins_table([Result(setting, notes=notes), Result(setting, notes=notes)])
    assert "| 0 to 20 | 4 | 10.0 | 15.0 |" in table
    assert "| 80 to 100 | 2 | 90.0 | 80.0 |" in table
