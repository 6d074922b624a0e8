# `make train` and `make test` do all of their own set-up in .venv and reuse it.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: train test lint types unit docs docs-full bench install clean help

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/'

train: $(READY)  ## train a columnformer on handwritten digits and draw figures
	$(BIN)/python examples/imagenet100.py --data digits --out runs/make-train --overwrite $(ARGS)

test: lint types unit  ## lint, type-check and run the tests

lint: $(READY)  ## ruff, lint and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(READY)  ## mypy
	$(BIN)/mypy

unit: $(READY)  ## pytest
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile

docs: $(READY)  ## the documentation as a site, into site/
	$(BIN)/python docs/site/build.py

docs-full: $(READY)  ## the same, after running all notebooks anew
	$(BIN)/python notebooks/run.py
	$(BIN)/python docs/site/build.py

bench: $(READY)  ## side-by-side measurements, under ten minutes on two cores
	$(BIN)/python benchmarks/geometry.py
	$(BIN)/python benchmarks/attention.py
	$(BIN)/python benchmarks/training_step.py
	$(BIN)/python benchmarks/scaling.py

install: $(READY)  ## only make .venv

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "colgraph needs Python 3.11 or newer, $(PYTHON) is $$($(PYTHON) -V): make PYTHON=python3.12 ..."; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

clean:  ## remove .venv, caches and the site, but no runs
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis build site *.egg-info
