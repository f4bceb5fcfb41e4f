"""The picture on the card."""

import builtins

import pytest
import torch
from PIL import Image

from tests.helpers import HOSTILE_TEXTS, WordEncoder, make_record
from timm_inject import inject, save_for_hf
from timm_inject.hub.card_plot import draw_card_plot


def test_plot(small_model, tmp_path):
    inject(small_model, ["okapi"], encoder=WordEncoder(), mapper="ridge")
    state = torch.get_rng_state()
    save_for_hf(small_model, tmp_path)
    assert torch.equal(state, torch.get_rng_state())
    assert "](timm_inject.png)" in (tmp_path / "README.md").read_text(encoding="utf-8")
    with Image.open(tmp_path / "timm_inject.png") as picture:
        assert picture.format == "PNG"
        assert min(picture.size) > 200


@pytest.mark.parametrize("name", [*HOSTILE_TEXTS, "$x^{", "x" * 500])
def test_plot_takes_any_name(tmp_path, name):
    record = make_record({"name": name, "leans_on": ((name, 0.6), ("zebra", 0.3), (name, 0.05))})
    assert draw_card_plot(record, tmp_path / "plot.png")
    with Image.open(tmp_path / "plot.png") as picture:
        assert picture.width < 2000


def test_plot_of_many_classes_stays_small(tmp_path):
    assert draw_card_plot(make_record(*({"leans_on": (("zebra", 0.6),)} for _ in range(300))), tmp_path / "plot.png")
    with Image.open(tmp_path / "plot.png") as picture:
        assert picture.height < 2000


def test_no_plot_without_matplotlib_or_without_a_score(small_model, tmp_path, monkeypatch):
    assert not draw_card_plot(make_record(self_score={}), tmp_path / "plot.png")
    monkeypatch.setattr("importlib.util.find_spec", lambda name, *_: None)
    real_import = builtins.__import__

    def refuse(name, *arguments, **options):
        if name.startswith("matplotlib"):
            raise ImportError(name)
        return real_import(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", refuse)
    inject(small_model, ["okapi"], encoder=WordEncoder(), mapper="ridge")
    save_for_hf(small_model, tmp_path)
    assert "timm_inject.png" not in (tmp_path / "README.md").read_text(encoding="utf-8")
    assert not (tmp_path / "timm_inject.png").exists()
