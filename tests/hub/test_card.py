"""The model card, read as the Hub and a browser read it."""

import dataclasses
import re
from html.parser import HTMLParser

import pytest
import timm
import yaml
from markdown_it import MarkdownIt
from PIL import Image

from tests.helpers import HOSTILE_TEXTS, WordEncoder, make_record
from timm_inject import ArgumentValueError, inject, injection_record, save_for_hf
from timm_inject.hub.card import escape, is_own_card, render_model_card, sign_card
from timm_inject.hub.save import write_card

CONFIG = {"architecture": "resnet50", "license": "cc-by-nc-4.0"}


class _Page(HTMLParser):
    """Collects the text of cells, headings and items, every tag, and every address."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.addresses, self.rows, self.texts = [], [], [], []
        self._open = []
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self._open.append(tag)
        self.addresses += [value for key, value in attributes if key in ("href", "src")]
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag):
        while self._open and self._open.pop() != tag:
            pass

    def handle_data(self, data):
        self.texts.append(data)
        if {"td", "th"} & set(self._open):
            self.rows[-1][-1] += data


def view(card):
    _, metadata, body = card.split("---\n", 2)
    return yaml.safe_load(metadata), _Page(MarkdownIt("commonmark").enable("table").render(body))


def test_metadata():
    record = make_record(base_model="timm/resnet50.a1_in1k", datasets=("imagenet-1k",))
    metadata, _ = view(render_model_card(CONFIG, record))
    assert metadata == {
        "library_name": "timm",
        "pipeline_tag": "image-classification",
        "tags": ["image-classification", "timm", "transformers", "timm_inject"],
        "license": "cc-by-nc-4.0",
        "base_model": "timm/resnet50.a1_in1k",
        "datasets": ["imagenet-1k"],
    }
    metadata, _ = view(render_model_card({}, make_record()))
    assert set(metadata) == {"library_name", "pipeline_tag", "tags"}


@pytest.mark.parametrize(
    ("stated", "given", "shown"),
    [
        ("mit", {}, {"license": "mit"}),
        ("dinov3-license", {}, {"license": "other", "license_name": "dinov3-license"}),
        ("dinov3-license", {"license_link": "https://x.example"}, {"license": "other", "license_name": "dinov3-license"}),
        (None, {}, {}),
        ("mit", {"license": "openrail"}, {"license": "openrail"}),
    ],
)
def test_a_licence_that_the_hub_has_no_id_for_is_named(stated, given, shown):
    """The Hub refuses a card with `license: dinov3-license`, which timm's tags state."""
    metadata, _ = view(render_model_card({"license": stated}, make_record(), details=given))
    shown = shown | {key: value for key, value in given.items() if key == "license_link"}
    assert {key: value for key, value in metadata.items() if key.startswith("license")} == shown


def test_confidence_in_a_sigmoid_head_is_explained_as_passing():
    record = make_record({"confidence": 0.8, "activation": "sigmoid"})
    _, page = view(render_model_card(CONFIG, record, repo_id="alice/zoo"))
    text = re.sub(r"\s+", " ", "".join(page.texts))
    assert "on which a class is expected to pass one half and to lead the new classes." in text
    assert "expected to win over all others" not in text


def test_what_a_reader_is_told():
    record = make_record(
        {"leans_on": (("zebra", 0.5), ("horse", 0.25)), "confidence": 0.8},
        {"name": "scooter", "mapper": "ridge", "warning": "has no definition", "descriptions": ()},
        {"name": "coyote"},
    )
    _, page = view(render_model_card(CONFIG, record, repo_id="alice/zoo"))
    text = "".join(page.texts)
    assert "resnet50 with 3 injected classes" in text
    assert "Logits 1000 to 1002 are synthetic:" in text
    assert "Logits 0 to 999 are the original classifier, bit for bit; an image of theirs may go to a new class now." in text
    head, first, second, _, how, icis, ridge = page.rows
    assert head == ["logit", "name", "text beside the name", "text from", "leans on", "confidence"]
    assert first == ["1000", "okapi", "a striped relative of the giraffe", "user", "zebra 50%, horse 25%", "0.80"]
    assert second == ["1001", "scooter", "-", "user", "-", "-"]
    assert how == ["logits", "mapper", "calibration", "activation", "encoder", "seed"]
    assert icis == ["1000, 1002", "icis", "harmonic", "softmax", "a/encoder", "0"]
    assert ridge == ["1001", "ridge", "harmonic", "softmax", "a/encoder", "0"]
    assert "scooter: has no definition" in re.sub(r"\s+", " ", text)
    assert "Confidence is the share of its own images that a class is expected to win over all others." in text
    assert "new classes, told apart from each other: 0.500" in text
    assert 'timm.create_model("hf-hub:alice/zoo", pretrained=True)' in text
    assert "timm_inject.remove(model, names)" in text
    assert page.addresses == ["https://arxiv.org/abs/2308.10599"]
    assert "christensen2023icis" in text
    assert "timm 1.0." in text


def test_one_class_and_many():
    assert "**Logit 1000 is synthetic:** its row was predicted" in render_model_card(CONFIG, make_record())
    card = render_model_card(CONFIG, make_record(*({"name": f"animal {number}"} for number in range(250))))
    _, page = view(card)
    assert "and 50 more: see timm_inject in config.json." in "".join(page.texts)
    assert ["1000 to 1249", "icis", "harmonic", "softmax", "a/encoder", "0"] in page.rows


@pytest.mark.parametrize("text", HOSTILE_TEXTS)
def test_whatever_is_typed_shows_as_typed(text):
    calm = view(render_model_card(CONFIG, make_record({"warning": "weak", "leans_on": (("zebra", 0.5),)})))[1]
    fields = {"name": text, "descriptions": (text,), "encoder": text, "mapper": text, "synset": text, "description_source": text}
    record = make_record(
        {**fields, "warning": text, "leans_on": ((text, 0.5),)}, versions={text: text}, base_model=text, datasets=(text,)
    )
    card = render_model_card({"architecture": text, "license": text}, dataclasses.replace(record, self_score={text: 0.5}))
    metadata, page = view(card)
    assert metadata["base_model"] == metadata["license_name"] == metadata["datasets"][0] == text
    shown = re.sub(r"\s+", " ", text).strip()
    assert page.rows[1][1] == shown
    assert page.rows[1][2] == shown
    assert set(page.tags) == set(calm.tags)  # no tag, no link, no picture that the plain card has not
    assert page.addresses == calm.addresses
    assert len(page.rows) == len(calm.rows)
    assert "://evil" not in card.partition("---\n#")[2]  # nor a bare address, which the Hub would make a link
    assert is_own_card(card)


def test_escaping():
    assert escape("a\n\tb") == "a b"
    assert escape("x" * 1000) == "x" * 399 + "…"
    assert escape("abc\u202edcba\u2066") == "abcdcba"
    assert escape('yellow lady\'s "slipper"') == 'yellow lady\'s "slipper"'
    assert escape("www.evil.example a@b.example http://x") == "www&#46;evil.example a&#64;b.example http&#58;//x"


@pytest.mark.parametrize(("labels", "told"), [(["n01440764", "okapi"], True), (["tench", "okapi"], False), (None, False)])
def test_wordnet_ids_among_the_labels_are_explained(labels, told):
    card = render_model_card({**CONFIG, "label_names": labels}, make_record())
    assert ('`model.pretrained_cfg["label_descriptions"]` says what they mean' in card) is told


def test_own_cards_are_known_until_they_are_changed():
    card = render_model_card(CONFIG, make_record())
    assert is_own_card(card)
    assert is_own_card(card.replace("\n", "\r\n"))
    assert not is_own_card(card.replace("okapi", "Okapi"))
    assert not is_own_card(card + "\nmore")
    assert not is_own_card("")
    assert not is_own_card("# Mine")
    assert is_own_card(sign_card("# anything of ours"))


def test_further_content_under_timms_keys():
    details = {
        "license": "mit",
        "tags": ["mine"],
        "description": "Trained on **my** photos.",
        "details": {"Dataset": ["a", "b"], "Params": 3},
        "usage": "Use it well.",
        "citation": "@misc{me}",
    }
    metadata, page = view(render_model_card(CONFIG, make_record(), details=details))
    text = "".join(page.texts)
    assert (metadata["license"], metadata["tags"]) == ("mit", ["mine"])
    for part in ("my photos.", "Dataset: a, b", "Use it well.", "@misc{me}", "christensen2023icis"):
        assert part in text


def test_the_code_in_the_card_runs(small_model, tmp_path):
    inject(small_model, ["okapi", "coyote"], encoder=WordEncoder(), mapper="ridge")
    save_for_hf(small_model, tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", (tmp_path / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) == 3
    space = {}
    for block in blocks:
        exec(block.replace("FOLDER", str(tmp_path)), space)
    assert space["labels"][10:] == ["okapi", "coyote"]
    labels = {entry["label"] for entry in space["classify"](Image.new("RGB", (64, 64)), top_k=12)}
    assert {"okapi", "coyote"} < labels
    assert space["model"].num_classes == 10  # the last block takes the classes out again


@pytest.mark.parametrize("content", [None, "", "{", "[]", "{}", '{"timm_inject": {}}', '{"timm_inject": 3}', "[" * 100_000])
def test_folders_without_a_patched_model(tmp_path, content):
    if content is not None:
        (tmp_path / "config.json").write_text(content)
    with pytest.raises(ArgumentValueError):
        write_card(tmp_path)
    assert not (tmp_path / "README.md").exists()


def test_card_of_a_loaded_model_is_the_same(small_model, tmp_path):
    inject(small_model, ["okapi"], encoder=WordEncoder(), mapper="ridge")
    save_for_hf(small_model, tmp_path / "one")
    loaded = timm.create_model(f"local-dir:{tmp_path / 'one'}", pretrained=True)
    save_for_hf(loaded, tmp_path / "two")
    assert (tmp_path / "one" / "README.md").read_bytes() == (tmp_path / "two" / "README.md").read_bytes()
    assert injection_record(loaded).base_model == "timm/resnet10t.c3_in1k"
