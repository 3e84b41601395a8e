# Everything a user or the continuous integration calls. PYTHON may name another 3.11 or 3.12.
PYTHON ?= python3
BIN := .venv/bin
WORKERS ?= 2

# The demo's input and output: DUMP=folder of site archives, EVAL_DATA=folder of benchmark files.
DUMP ?=
EVAL_DATA ?=
OUT ?= demo

export OMP_NUM_THREADS ?= 1

.PHONY: setup test lint demo test-slow test-compat test-integrations

setup: .venv/.ready ## a virtual environment with pinned versions

.venv/.ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if v in {(3, 11), (3, 12)} else \
	  f"error: Python {v[0]}.{v[1]} found; 3.11 or 3.12 is needed: make setup PYTHON=python3.12")'
	$(PYTHON) -m venv .venv
	@# torch alone first: another package's range must not choose a build with CUDA.
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

test: setup ## the tests, in under ten minutes on two cores
	$(BIN)/pytest -n $(WORKERS) --dist worksteal -m "not slow"

lint: setup ## formatting, lint, types, the dependency rule
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright
	$(BIN)/lint-imports

demo: setup ## the main job from nothing, or from DUMP=folder
	@PATH="$(CURDIR)/$(BIN):$$PATH" bash configs/demo.sh "$(OUT)" "$(DUMP)" "$(EVAL_DATA)"

test-slow: setup ## tests that take minutes each
	$(BIN)/pytest -m slow

test-compat: setup ## our checkpoints in older transformers, in an environment of its own
	$(BIN)/python tests/compat/run.py

test-integrations: setup ## the real packages of other systems, each in an environment of its own
	$(BIN)/python tests/integrations/run.py
