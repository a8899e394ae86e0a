# `make run` does the main job on a fresh machine; `make test` passes the tests. Both are safe to repeat.

PYTHON ?= python3
BIN := .venv/bin
RUNS := runs/quickstart

.PHONY: help run test lint docs results clean

help:
	@echo "make run   install, get Fashion-MNIST, train ERM and mixup, evaluate both, write report/index.html"
	@echo "make test  install and run the tests"
	@echo "make lint  style, types and shell scripts"
	@echo "make docs  write the documentation site to site/; a warning is an error"
	@echo "make results  write results.zip, the records of all runs that this repository keeps"
	@echo "make clean remove what the above made, except the data; other runs stay"

run: .venv/run
	$(BIN)/python -m mixup_jax.data fashion_mnist mnist
	$(BIN)/python -m mixup_jax.main --config=configs/quickstart.py:erm --workdir=$(RUNS)/erm
	$(BIN)/python -m mixup_jax.main --config=configs/quickstart.py:mixup --workdir=$(RUNS)/mixup
	$(BIN)/python -m mixup_jax.evaluate --workdir=$(RUNS)/erm
	$(BIN)/python -m mixup_jax.evaluate --workdir=$(RUNS)/mixup
	$(BIN)/python -m mixup_jax.report $(RUNS)/erm $(RUNS)/mixup --output=report

test: .venv/dev
	$(BIN)/python -m pytest -n auto

lint: .venv/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/shellcheck .ci/audit .ci/run .ci/wheel launch/*.sh launch/*.sbatch

docs: .venv/dev
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build
	@echo "to read and search it: $(BIN)/python -m http.server --directory site"

# The commit stands in the archive's comment.
results:
	git archive --format=zip --output=results.zip HEAD docs/results
	@ls -l results.zip

clean:
	rm -rf .venv $(RUNS) report build site results.zip *.egg-info

# Installing again only when what is to be installed has changed.
.venv/run: setup.cfg pyproject.toml | .venv/bin/python
	@echo "Installing; about 2 minutes and 2.5 GB, most of it TensorFlow, which prepares the data."
	$(BIN)/python -m pip install --editable '.[tensorflow]'
	@touch $@

.venv/dev: setup.cfg pyproject.toml | .venv/bin/python
	@echo "Installing; about 1 minute."
	$(BIN)/python -m pip install --editable '.[dev]'
	@touch $@

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(0 if (3, 11) <= sys.version_info[:2] <= (3, 13) else \
	    "error: $(PYTHON) is Python " + sys.version.split()[0] + "; expected 3.11, 3.12 or 3.13: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv .venv
