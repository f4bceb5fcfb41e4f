"""Many texts: sorted by length, cut into chunks by the texts themselves, each chunk an entry of the cache."""

import random

import pytest
import torch

from tests.helpers import WordEncoder
from timm_inject import cache
from timm_inject.text.descriptors import _MAX_CHUNK, _chunks, encode_descriptors
from timm_inject.text.encoder import EncoderHandle
from timm_inject.text.texts import ClassText

WORDS = ["red", "blue", "tall", "wooden", "striped", "little", "northern", "spotted", "old", "round"]
THINGS = ["bird", "chair", "fish", "engine", "flower", "bridge", "lamp", "monkey", "drum", "cake"]


def _texts(count, seed=0):
    chance = random.Random(seed)
    names = [
        f"{' '.join(chance.choices(WORDS, k=chance.randint(1, 5)))} {chance.choice(THINGS)} {number}" for number in range(count)
    ]
    return [ClassText(name, (name,), (f"kind {number % 7} of {name}",)) for number, name in enumerate(names)]


class BatchSensitive(WordEncoder):
    """As a real encoder, gives last bits that depend on the batch; and can be stopped."""

    def __init__(self, stop_after=None):
        super().__init__(dim=16)
        self.stop_after, self.seen = stop_after, []

    def encode(self, sentences):
        if self.stop_after is not None and self.calls >= self.stop_after:
            raise KeyboardInterrupt
        self.seen.append(list(sentences))
        return super().encode(sentences) + 1e-3 * len(sentences)


def _loaded(encoder, key="key"):
    return EncoderHandle("encoder", key, lambda: encoder)


def test_stopped_run_goes_on_and_gives_the_same_bits(own_cache):
    texts = _texts(700)
    whole = BatchSensitive()
    expected = encode_descriptors(texts, _loaded(whole, key=None))
    assert whole.calls > 3
    with pytest.raises(KeyboardInterrupt):
        encode_descriptors(texts, _loaded(BatchSensitive(stop_after=2)))
    assert cache.inspect_cache().entries["embeddings"] == 2
    rest = BatchSensitive()
    assert torch.equal(encode_descriptors(texts, _loaded(rest)), expected)
    assert rest.seen == whole.seen[2:]
    untouched = BatchSensitive(stop_after=0)
    assert torch.equal(encode_descriptors(texts, _loaded(untouched)), expected)


def test_batches_hold_texts_of_one_length_and_each_text_once():
    texts = [*_texts(400), *_texts(400)]
    encoder = BatchSensitive()
    encode_descriptors(texts, _loaded(encoder, key=None))
    sent = [sentence for batch in encoder.seen for sentence in batch]
    assert len(sent) == len(set(sent)) == 800
    assert [len(sentence) for sentence in sent] == sorted(len(sentence) for sentence in sent)


def test_one_more_text_changes_one_chunk():
    texts = sorted(f"text {number} {'x' * (number % 40)}" for number in range(20_000))
    before = {tuple(chunk) for chunk in _chunks(texts)}
    after = [tuple(chunk) for chunk in _chunks(sorted([*texts, "text 10500 and a half"]))]
    assert 40 < len(before) < 160
    assert max(map(len, before)) <= _MAX_CHUNK
    assert [text for chunk in _chunks(texts) for text in chunk] == texts
    # One more where the new text itself ends a chunk, or fills one.
    assert 1 <= len([chunk for chunk in after if chunk not in before]) <= 3


def test_chunks_are_cut_even_where_no_text_says_so():
    assert [len(chunk) for chunk in _chunks(["same"] * (2 * _MAX_CHUNK + 5))] == [_MAX_CHUNK, _MAX_CHUNK, 5]


def test_progress_counts_texts():
    steps = []
    encode_descriptors(_texts(600), _loaded(BatchSensitive(), key=None), lambda *step: steps.append(step))
    assert {step for step, _, _ in steps} == {"Encode the texts"}
    assert [total for _, _, total in steps] == [1200] * len(steps)
    done = [count for _, count, _ in steps]
    assert len(done) > 2
    assert done == sorted(done)
    assert done[-1] == 1200


def test_a_class_is_the_mean_of_its_texts_in_any_order():
    texts = _texts(50)
    encoder = _loaded(WordEncoder(), key=None)
    together = encode_descriptors(texts, encoder)
    alone = torch.cat([encode_descriptors([text], encoder) for text in texts])
    assert torch.allclose(together, alone, atol=1e-6)
    assert torch.equal(encode_descriptors(texts[::-1], encoder), together.flip(0))
