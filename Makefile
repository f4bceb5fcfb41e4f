# Every target starts from nothing: it makes the virtual environment and installs what it needs.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: demo test test-slow test-browser space space-folder census embeddings bench benchmark docs docs-outputs lint clean

demo: $(VENV)/.installed-demo
	$(BIN)/timm-inject demo

test: $(VENV)/.installed-test
	$(BIN)/python -m pytest

test-slow: $(VENV)/.installed-test
	$(BIN)/python -m pytest -m slow

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

# How fast, about 25 minutes.
bench: $(VENV)/.installed-bench
	$(BIN)/timm-inject benchmark speed --full-recipe 73x2049 1000x1281 --update-readme docs/benchmarks.md README.md

# CUB: folder of res101.mat and att_splits.mat. IMAGES: ImageNet photos, a sub-folder a class or with labels.csv.
PAGES := --update-readme docs/benchmarks.md README.md
benchmark: $(VENV)/.installed-test
	$(BIN)/timm-inject benchmark cub --data-root $(CUB) --protocol both --plots docs/plots $(PAGES)
	$(BIN)/timm-inject benchmark imagenet-heldout --images $(IMAGES) --texts lemma words synset name --plots docs/plots $(PAGES)
	$(BIN)/timm-inject benchmark estimates --images $(IMAGES) --heads tf_efficientnet_lite0 --size 50 --num-random 6 --plots docs/plots $(PAGES)
	$(BIN)/timm-inject benchmark self-score out/benchmark/cub out/benchmark/imagenet-heldout --output docs/plots/self-score $(PAGES)

docs: $(VENV)/.installed-docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

# The outputs that pages show below their examples, anew.
docs-outputs: $(VENV)/.installed-test
	$(BIN)/python -m tools.docs_pages

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:
	rm -rf $(VENV) build dist *.egg-info

$(VENV)/.installed-%: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[$*]"
	touch $@
