"""timm's words, as its public `ImageNetInfo` gives them."""

import subprocess
import sys

import pytest
from timm.data import ImageNetInfo

from timm_inject.text.synsets import Synset, Synsets, label_set_wnids, read_synsets, top_kind

LABEL_SETS = {
    "imagenet-1k": 1000,
    "imagenet-12k": 11821,
    "imagenet-21k-goog": 21843,
    "imagenet-21k-miil": 11221,
    "imagenet-22k": 21841,
    "imagenet-22k-ms": 21842,
}


def test_every_synset_of_every_label_set_is_there():
    synsets = read_synsets()
    assert len(synsets) == len(list(synsets)) == 21844
    for label_set, size in LABEL_SETS.items():
        wnids = label_set_wnids(label_set)
        assert len(wnids) == size
        assert all(wnid in synsets for wnid in wnids)


def test_a_synset_is_what_timm_says():
    info = ImageNetInfo("imagenet-1k")
    synsets = read_synsets()
    assert synsets["n02123045"] == Synset("n02123045", ("tabby", "tabby cat"), "a cat with a grey or tawny coat mottled with black")
    for wnid in info.label_names()[::50]:
        synset = synsets[wnid]
        assert f"{', '.join(synset.lemmas)}: {synset.definition}" == info.label_name_to_description(wnid, detailed=True)
        assert synsets.lemmas(wnid) == synset.lemmas
    assert "n99999999" not in synsets
    assert synsets.get("tabby") is None


def test_things_that_people_photograph_come_first():
    order = list(read_synsets())
    pictured = set(label_set_wnids("imagenet-12k"))
    ranks = [(top_kind(wnid) is None, wnid not in pictured, wnid) for wnid in order]
    assert ranks == sorted(ranks)


@pytest.mark.parametrize(
    ("wnid", "kind"),
    [
        ("n02123045", "animal"),  # tabby
        ("n03126707", "object"),  # the machine crane
        ("n07697537", "food"),  # hot dog
        ("n09472597", "place"),  # volcano
        ("n10565667", "person"),  # scuba diver
        ("n11939491", "plant"),  # daisy
        ("n05578095", None),  # heel
        ("n01300000", "animal"),
        ("n02665984", "animal"),
        ("n02665985", "object"),
        ("n13252000", None),
        ("n00000001", None),
    ],
)
def test_the_number_of_a_synset_tells_its_field(wnid, kind):
    assert top_kind(wnid) == kind


def test_synsets_of_ones_own_are_made_when_asked_for():
    asked = []

    def definition(wnid):
        asked.append(wnid)
        return f"about {wnid}"

    synsets = Synsets({"n00000002": "foo, bar", "n00000001": "foo"}, definition)
    assert list(synsets) == ["n00000002", "n00000001"]
    assert synsets.lemmas("n00000002") == ("foo", "bar")
    assert not asked
    assert synsets["n00000001"] == Synset("n00000001", ("foo",), "about n00000001")
    assert asked == ["n00000001"]
    with pytest.raises(KeyError):
        synsets["n00000003"]


def test_lists_are_read_once_and_not_by_the_import():
    assert read_synsets() is read_synsets()
    program = (
        "import timm_inject.text as t; from timm_inject.text import lexicon, senses, synsets as s\n"
        "read = (s.read_synsets, s.label_set_wnids, lexicon.read_lexicon, senses.load_senses)\n"
        "print([each.cache_info().misses for each in read])"
    )
    printed = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert printed.strip() == "[0, 0, 0, 0]"
