import torch

from tests.helpers import WordEncoder
from timm_inject.text.descriptors import encode_descriptors, identity_of
from timm_inject.text.encoder import resolve_encoder
from timm_inject.text.synsets import load_lexicon
from timm_inject.text.taxonomy import TAXONOMY_DIM, encode_positions
from timm_inject.text.texts import ClassText


def _text(wnid, described=True):
    synset = load_lexicon().by_wnid(wnid)
    return ClassText(synset.lemmas[0], synset.lemmas, (synset.definition,) if described else (), synset)


GOLDEN, LABRADOR, CAT, BUS = (_text(wnid) for wnid in ("n02099601", "n02099712", "n02123045", "n04146614"))


def test_kin_are_near_and_strangers_far():
    golden, labrador, cat, bus = encode_positions([GOLDEN, LABRADOR, CAT, BUS])
    assert golden.shape == (TAXONOMY_DIM,)
    assert golden @ labrador > 0.9 > golden @ cat > golden @ bus
    assert golden.norm().item() == torch.tensor(1.0).item() or abs(golden.norm().item() - 1) < 1e-5


def test_no_synset_or_a_name_alone_gets_zeros():
    assert not encode_positions([ClassText("wibble", ("wibble",), ("a thing",)), _text("n02123045", described=False)]).any()


def test_descriptors_hold_text_and_place():
    encoder = resolve_encoder(WordEncoder())
    with_place, without = encode_descriptors([CAT, ClassText(CAT.name, CAT.lemmas, CAT.descriptions)], encoder)
    width = len(with_place) - TAXONOMY_DIM
    assert abs(with_place.norm().item() - 1) < 1e-5
    assert torch.allclose(with_place[:width] * 1.16**0.5, without[:width], atol=1e-5)
    assert abs(with_place[width:].norm().item() / with_place[:width].norm().item() - 0.4) < 1e-5
    assert not without[width:].any()
    assert identity_of(CAT) != identity_of(ClassText(CAT.name, CAT.lemmas, CAT.descriptions))
