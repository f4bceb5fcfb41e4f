"""Kinds as vectors, against the weights computed by hand."""

import math

import pytest
import torch

from timm_inject.text import kinds
from timm_inject.text.kinds import KIND_DIM, encode_kinds, kind_words
from timm_inject.text.senses import load_senses

PATHS = ["food/baked/flat bread", "food/baked/pizza", "food/fruit/citrus", "vehicle/road/bus", "vehicle/road"]


def nodes_of(path):
    steps = path.split("/")
    return ["/".join(steps[:depth]) for depth in range(1, len(steps) + 1)]


def test_two_kinds_have_in_common_what_their_shared_nodes_weigh():
    counts = load_senses().kind_counts
    assert {node: counts[node] > 0 for path in PATHS for node in nodes_of(path)} == dict.fromkeys(
        [node for path in PATHS for node in nodes_of(path)], True
    )
    squares = {node: math.log(counts[""] / counts[node]) ** 2 for path in PATHS for node in nodes_of(path)}
    lengths = [math.sqrt(sum(squares[node] for node in nodes_of(path))) for path in PATHS]
    expected = [
        [sum(squares[node] for node in nodes_of(a) if node in nodes_of(b)) / (lengths[i] * lengths[j]) for j, b in enumerate(PATHS)]
        for i, a in enumerate(PATHS)
    ]
    encoded = encode_kinds(PATHS)
    assert encoded.shape == (len(PATHS), KIND_DIM)
    assert encoded.dtype == torch.float32
    assert torch.allclose(encoded @ encoded.T, torch.tensor(expected), atol=1e-5)


def test_nearer_kinds_are_more_alike():
    flat_bread, pizza, citrus, bus, _ = encode_kinds(PATHS)
    assert flat_bread @ pizza > flat_bread @ citrus > flat_bread @ bus
    assert flat_bread @ bus == pytest.approx(0, abs=1e-6)


def test_no_kind_is_no_vector():
    encoded = encode_kinds([None, "toy/game/card", None])
    assert encoded.norm(dim=1).tolist() == pytest.approx([0, 1, 0])
    assert encode_kinds([]).shape == (0, KIND_DIM)


def test_a_node_that_the_lexicon_lacks_counts_as_the_rarest():
    known, unknown = encode_kinds(["food/baked/pizza", "food/baked/no such step"])
    assert unknown.norm() == pytest.approx(1)
    assert 0 < known @ unknown < 1
    (alone,) = encode_kinds(["nowhere"])
    assert alone.norm() == pytest.approx(1)


def test_a_new_node_moves_no_other(monkeypatch):
    before = encode_kinds(PATHS)
    kinds._features.cache_clear()
    counts = load_senses().kind_counts.copy()
    counts["food/baked/brand new"] += 1

    class WithNewNode:
        kind_counts = counts

    monkeypatch.setattr(kinds, "load_senses", WithNewNode)
    assert torch.equal(encode_kinds(PATHS), before)
    kinds._features.cache_clear()


def test_few_nodes_of_the_tree_share_a_column_and_a_sign():
    """Two of one column and opposite signs would make kinds look unlike that are alike."""
    tops = encode_kinds(sorted(path for path in load_senses().kind_counts if path and "/" not in path))
    assert (tops @ tops.T - torch.eye(len(tops))).abs().max() <= 1e-6


def test_words_of_a_kind_begin_with_the_nearest():
    assert kind_words("food/baked/flat bread") == "flat bread baked food"
    assert kind_words("toy") == "toy"
