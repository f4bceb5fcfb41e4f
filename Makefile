# Every target starts from nothing: it makes the virtual environment and installs what it needs.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: demo test test-slow test-lowest test-python test-browser space space-folder census embeddings picture bench benchmark docs docs-outputs lint dist clean

demo: $(VENV)/.installed-demo
	$(BIN)/timm-inject demo

test: $(VENV)/.installed-test
	$(BIN)/python -m pytest

test-slow: $(VENV)/.installed-test
	$(BIN)/python -m pytest -m slow

# The whole suite on another Python: make test-python PYTHON=python3.12. It downloads a torch of its own.
test-python:
	$(MAKE) test PYTHON=$(PYTHON) VENV=.venv-$(notdir $(PYTHON))

# The whole suite with the lowest versions that pyproject.toml allows.
LOWEST := .venv-lowest
test-lowest:
	test -x $(LOWEST)/bin/python || $(PYTHON) -m venv $(LOWEST)
	$(LOWEST)/bin/python -m pip install --quiet --disable-pip-version-check uv
	$(LOWEST)/bin/uv pip install --quiet --python $(LOWEST)/bin/python --resolution lowest-direct --editable ".[test]"
	$(LOWEST)/bin/python -m pytest

# Needs Chromium beside it: on Debian, apt-get install chromium. CHROMIUM names another place for it.
test-browser: $(VENV)/.installed-browser
	$(BIN)/python -m pytest -m browser

space: $(VENV)/.installed-space
	$(BIN)/python examples/space/app.py

# Everything that a Space on the Hub needs; the package lies beside the page.
SPACE ?= out/space
space-folder:
	rm -rf $(SPACE)
	mkdir -p $(SPACE)
	cp -r examples/space/. timm_inject $(SPACE)
	find $(SPACE) -name __pycache__ -prune -exec rm -r {} +

census: $(VENV)/.installed-test
	$(BIN)/python -m tools.census

# The embeddings that come with the package; to be made anew when texts, sentences or the default encoder change.
embeddings: $(VENV)/.installed-test
	$(BIN)/python -m tools.shipped_table

# The picture of the first page.
picture: $(VENV)/.installed-test
	$(BIN)/python -m tools.picture

# How fast, about 25 minutes.
bench: $(VENV)/.installed-bench
	$(BIN)/python -m benchmarks speed --full-recipe 73x2049 1000x1281 --update-readme docs/benchmarks.md

# CUB: folder of res101.mat and att_splits.mat. IMAGES: ImageNet photos, a sub-folder a class or with labels.csv.
benchmark: $(VENV)/.installed-test
	$(BIN)/python -m benchmarks price --images $(IMAGES) --update-readme docs/benchmarks.md README.md
	$(BIN)/python -m benchmarks words --images $(IMAGES) --plots docs/plots --update-readme docs/benchmarks.md
	$(BIN)/python -m benchmarks imagenet --images $(IMAGES) --plots docs/plots --update-readme docs/benchmarks.md
	$(BIN)/python -m benchmarks cub --data-root $(CUB) --protocol both --plots docs/plots --update-readme docs/benchmarks.md
	$(BIN)/python -m benchmarks estimates --images $(IMAGES) --heads tf_efficientnet_lite0 --size 50 --num-random 6 --plots docs/plots --update-readme docs/benchmarks.md
	$(BIN)/python -m benchmarks self-score out/benchmark/cub out/benchmark/imagenet --output docs/plots/self-score --update-readme docs/benchmarks.md

docs: $(VENV)/.installed-docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

# The outputs that pages show below their examples, anew.
docs-outputs: $(VENV)/.installed-test
	$(BIN)/python -m tools.docs_pages

lint: $(VENV)/.installed-lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# A wheel and an sdist, checked, then installed into a fresh environment, where the command must work.
DIST := .venv-dist
dist: $(VENV)/.installed-dev
	rm -rf dist $(DIST)
	$(BIN)/python -m build
	$(BIN)/python -m twine check --strict dist/*
	$(PYTHON) -m venv $(DIST)
	$(DIST)/bin/python -m pip install --quiet --disable-pip-version-check "$$(ls dist/*.whl)[offline]"
	cd / && $(CURDIR)/$(DIST)/bin/timm-inject --version
	cd / && $(CURDIR)/$(DIST)/bin/timm-inject look-up tf_efficientnet_lite0 fork "electric scooter"
	rm -rf $(DIST)

clean:
	rm -rf $(VENV) .venv-* build dist *.egg-info

$(VENV)/.installed-%: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[$*]"
	touch $@
