"""From texts to vectors: the sentences of a class, its kind beside them, and how many texts go to the encoder."""

import random

import pytest
import torch

from tests.helpers import WordEncoder
from timm_inject import cache
from timm_inject.text.descriptors import (
    _MAX_CHUNK,
    _chunks,
    descriptor_probe,
    encode_descriptors,
    identity_of,
    is_near,
    sentences_of,
)
from timm_inject.text.encoder import EncoderHandle
from timm_inject.text.kinds import KIND_DIM, encode_kinds
from timm_inject.text.texts import ClassText

WORDS = ["red", "blue", "tall", "wooden", "striped", "little", "northern", "spotted", "old", "round"]
THINGS = ["bird", "chair", "fish", "engine", "flower", "bridge", "lamp", "monkey", "drum", "cake"]


def _texts(count, seed=0):
    chance = random.Random(seed)
    names = [
        f"{' '.join(chance.choices(WORDS, k=chance.randint(1, 5)))} {chance.choice(THINGS)} {number}" for number in range(count)
    ]
    return [ClassText(name, (name,), f"kind {number % 7} of {name}") for number, name in enumerate(names)]


# ---- the sentences of a class ----


def test_a_class_of_the_lexicon_has_four_sentences():
    text = ClassText("okapi", ("okapi", "forest giraffe"), "a relative", "striped legs", kind="animal/mammal/hoofed")
    assert sentences_of(text) == [
        "okapi, forest giraffe: a relative",
        "a photo of a okapi, striped legs",
        "striped legs",
        "hoofed mammal animal: striped legs",
    ]
    assert identity_of(text) == [*sentences_of(text), "animal/mammal/hoofed"]


def test_a_text_of_the_user_counts_like_the_lexicons():
    text = ClassText("okapi", ("okapi",), None, "striped legs", ("a photo from the zoo", "brown"), "animal/mammal")
    assert sentences_of(text) == [
        "a photo of a okapi, a photo from the zoo",
        "a photo from the zoo",
        "mammal animal: a photo from the zoo",
        "a photo of a okapi, brown",
        "brown",
        "mammal animal: brown",
        "a photo of a okapi, striped legs",
        "striped legs",
        "mammal animal: striped legs",
    ]


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        (ClassText("foo", ("foo", "bar"), "a thing"), ["foo, bar: a thing", "a photo of a foo, a thing"]),
        (ClassText("foo", ("foo",), user_texts=("grey",)), ["a photo of a foo, grey", "grey"]),
        (ClassText("foo", ("foo", "bar")), ["foo, bar", "a photo of a foo"]),
        (ClassText("foo", ("foo",), kind="toy/x"), ["foo", "a photo of a foo"]),
        (ClassText("foo", ("foo",), user_texts=("grey", "grey")), ["a photo of a foo, grey", "grey"]),
    ],
)
def test_a_class_of_which_less_is_known_has_fewer(text, sentences):
    assert sentences_of(text) == sentences
    assert identity_of(text) == [*sentences, text.kind or ""]


# ---- the kind beside them ----


def test_the_kind_stands_beside_the_text_with_its_weight():
    plain = ClassText("foo", ("foo",), "a thing")
    alone, card, bus = encode_descriptors(
        [plain, *(ClassText("foo", ("foo",), "a thing", kind=kind) for kind in ("toy/game/piece", "vehicle/road/bus"))],
        _loaded(WordEncoder(dim=16), key=None),
        seen_descriptors=torch.zeros(0, 16 + KIND_DIM),
    )
    assert alone.shape == (16 + KIND_DIM,)
    assert torch.equal(alone[16:], torch.zeros(KIND_DIM))
    length = (1 + 0.4**2) ** 0.5
    assert torch.allclose(card[:16], alone[:16] / length, atol=1e-6)
    assert torch.allclose(card[16:], 0.4 * encode_kinds(["toy/game/piece"])[0] / length, atol=1e-6)
    assert (card @ bus).item() == pytest.approx(1 / length**2, abs=1e-5)
    for descriptor in (alone, card, bus):
        assert descriptor.norm().item() == pytest.approx(1, abs=1e-6)


def test_a_class_without_a_kind_borrows_it_from_the_nearest_texts():
    dogs = [ClassText(f"dog {n}", (f"dog {n}",), "furry barking pet", kind="animal/mammal/dog") for n in range(10)]
    cars = [ClassText(f"car {n}", (f"car {n}",), "metal on wheels", kind="vehicle/road/car") for n in range(10)]
    puppy = ClassText("puppy", ("puppy",), "furry barking pet")
    bare = ClassText("grumpf", ("grumpf",))
    encoder = _loaded(WordEncoder(dim=64), key=None)
    known, of_dogs, of_cars = encode_descriptors([*dogs, *cars], encoder), *encode_kinds([dogs[0].kind, cars[0].kind])
    borrowed, none = encode_descriptors([puppy, bare], encoder, seen_descriptors=known)[:, 64:]
    assert torch.cosine_similarity(borrowed, of_dogs, dim=0) > 0.99
    assert borrowed @ of_dogs > 5 * (borrowed @ of_cars).abs()
    assert torch.equal(none, torch.zeros(KIND_DIM))  # nothing is known by which to tell who is near
    # Without seen descriptors the other classes lend theirs.
    among = encode_descriptors([*dogs, *cars, puppy], encoder)[-1, 64:]
    assert torch.allclose(among, borrowed, atol=1e-5)


def test_where_nobody_has_a_kind_there_is_none_to_borrow():
    texts = [ClassText(name, (name,), "a thing") for name in ("foo", "bar")]
    assert torch.equal(encode_descriptors(texts, _loaded(WordEncoder(dim=8), key=None))[:, 8:], torch.zeros(2, KIND_DIM))


def test_a_probe_knows_an_encoder_again():
    texts = _texts(6)
    one = descriptor_probe(encode_descriptors(texts, _loaded(WordEncoder(dim=16), key=None)))
    assert len(one) == 17
    assert one[0] == 16 + KIND_DIM
    assert is_near(one, descriptor_probe(encode_descriptors(texts, _loaded(WordEncoder(dim=16), key=None))))
    assert is_near(one, (one[0], *(value + 1e-3 for value in one[1:])))
    assert not is_near(one, (one[0], *(value + 1e-1 for value in one[1:])))
    assert not is_near(one, one[:-1])


# ---- many texts: sorted by length, cut into chunks by the texts themselves, each chunk an entry of the cache ----


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
