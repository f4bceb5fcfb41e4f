"""Saved models for the command, and an encoder that takes no time in place of the real one."""

import pytest

from tests.helpers import NAMES, WordEncoder, make_model
from timm_inject import cache, inject, save_for_hf, self_score


@pytest.fixture(scope="package")
def folders(tmp_path_factory):
    """The folders of a model for the classes `NAMES`, and of the same model with two injected classes."""
    root = tmp_path_factory.mktemp("models")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(cache.CACHE_VARIABLE, "off")
        model = make_model("test_resnet", len(NAMES))
        plain = save_for_hf(model, root / "plain")
        inject(model, ["okapi", "crane (machine)"], encoder=WordEncoder(), mapper="ridge")
        return plain, save_for_hf(model, root / "patched")


@pytest.fixture
def model(folders):
    """What the command takes as MODEL."""
    return f"local-dir:{folders[0]}"


@pytest.fixture
def patched(folders):
    """The same with the injected classes "okapi" and "crane (machine)"."""
    return f"local-dir:{folders[1]}"


@pytest.fixture
def word_encoder(monkeypatch):
    """The command trains with `WordEncoder`."""

    def with_words(function):
        return lambda *arguments, **options: function(*arguments, **options | {"encoder": WordEncoder()})

    monkeypatch.setattr("timm_inject.cli.commands.inject", with_words(inject))
    monkeypatch.setattr("timm_inject.cli.commands.self_score", with_words(self_score))
