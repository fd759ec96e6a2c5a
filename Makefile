PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# one thread for each worker; and what is compiled is kept, also where the environment says otherwise: a suite starts
# many processes
PYTEST := OMP_NUM_THREADS=1 PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest
TWO := -n 2 --dist loadfile --no-loadscope-reorder
INSTALLED := $(VENV)/.installed

.PHONY: demo test test-all test-formats quick lint docs clean

demo: $(INSTALLED)  ## the main job on the embedded data: a generator goes in, a small one comes out
	$(BIN)/ganshrink compress recipes/cat/demo.toml run=runs/demo

# by file, so that what the tests of one share is made once
test: $(INSTALLED)  ## the suite: every fact, for the cases that tell most
	$(PYTEST) $(TWO) -m "not exhaustive and not formats"

test-all: $(INSTALLED)  ## every fact for every case
	$(PYTEST) $(TWO) -m "not formats"

test-formats: $(INSTALLED) docs  ## the page in a browser (fetches onnxruntime-web, needs Chromium), files for other runtimes, the site
	$(PYTEST) -m formats

quick: $(INSTALLED)  ## the tests without those that take more than about half a second
	$(PYTEST) $(TWO) -m "not slow and not exhaustive and not formats"

lint: $(INSTALLED)  ## style, form and types
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy

# pages link to files beside docs/, so these lie beside it in the site too
docs: $(VENV)/.docs  ## the site of docs/, in site/: a warning is an error
	$(BIN)/zensical build --clean --strict
	git ls-files src recipes results benchmarks | tar -c -T - | tar -x -C site
	echo '<meta http-equiv="refresh" content="0; url=docs/">' > site/index.html

$(VENV)/.docs: $(INSTALLED)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[docs]"
	touch $@

# torch comes first and alone: whatever is installed after it must take the pinned build that is already there
$(INSTALLED): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev]"
	touch $@

clean:
	rm -rf $(VENV) build dist site
