PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: demo test test-all test-formats quick lint clean

demo: $(INSTALLED)  ## the main job on the embedded data: a generator goes in, a small one comes out
	$(BIN)/ganshrink compress recipes/cat/demo.toml run=runs/demo

# by file, so that what the tests of one share is made once
test: $(INSTALLED)  ## the suite: every fact, for the cases that tell most
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m "not exhaustive and not formats"

test-all: $(INSTALLED)  ## every fact for every case
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m "not formats"

test-formats: $(INSTALLED)  ## the page in a browser (fetches onnxruntime-web, needs Chromium), and files for other runtimes
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m formats

quick: $(INSTALLED)  ## the tests without those that take more than about half a second
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m "not slow and not exhaustive and not formats"

lint: $(INSTALLED)  ## style, form and types
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy

# torch comes first and alone: whatever is installed after it must take the pinned build that is already there
$(INSTALLED): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev]"
	touch $@

clean:
	rm -rf $(VENV) build dist
