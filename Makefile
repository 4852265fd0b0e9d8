# Each target is the only command needed: it makes .venv and installs what it needs, once.
VENV   := .venv
BIN    := $(VENV)/bin
UV     := uv==0.13.9
LOCK   := --quiet --universal --python-version 3.11 --no-annotate --custom-compile-command "make lock"
# Three tests at a time for two cores, since many wait for a process or a server; those of one file in turn, and files in
# the order of tests/conftest.py.
TOGETHER := --numprocesses 3 --dist loadfile --no-loadscope-reorder
# fairseq is built from source by `make test`, which needs a C++ compiler.
PYTHON ?= $(shell for p in python3 python3.11 python3.12 python3.13; do \
	command -v $$p >/dev/null && $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$p; exit; }; done)

export PATH := $(CURDIR)/$(BIN):$(PATH)
# Compiled packages are kept, or each of many processes would compile them anew, for eight seconds.
unexport PYTHONDONTWRITEBYTECODE
# Everything that is launched from here lands in one experiment.
export MLFLOW_EXPERIMENT_NAME ?= xlsr-sls

.DEFAULT_GOAL := help

.PHONY: help
help:  ## Show this list
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

.PHONY: demo
demo: $(VENV)/.run  ## Train, score, evaluate and register recipes v1 and v2 on the synthetic demo corpus
	@SLS_MORE_FOLLOWS=1 mlflow run . --env-manager local && mlflow run . -e epochs --env-manager local

.PHONY: ui
ui: $(VENV)/.run  ## Open the tracking UI on port 5000, light: one worker, no job runner
	@python -m entrypoints.ui

.PHONY: test
test: $(VENV)/.test lint  ## Everything: lint, types and the whole test suite (under 15 minutes on 2 cores)
	@pytest -q $(TOGETHER)

.PHONY: check
check: $(VENV)/.test lint  ## The fast part: lint, types and the tests not marked slow (under 2 minutes)
	@pytest -q $(TOGETHER) -m "not slow"

.PHONY: lint
lint: $(VENV)/.test  ## ruff and mypy
	@ruff check . && ruff format --check . && mypy

.PHONY: format
format: $(VENV)/.test  ## Format the code
	@ruff check --fix . ; ruff format .

.PHONY: lock
lock: $(VENV)/.uv  ## Write requirements.txt and requirements-test.txt anew from pyproject.toml
	@uv pip compile pyproject.toml $(LOCK) -o requirements.txt
	@uv pip compile pyproject.toml --extra test --extra fairseq -c requirements.txt $(LOCK) -o requirements-test.txt

.PHONY: clean
clean:  ## Remove .venv and caches; runs and corpora stay
	rm -rf $(VENV) .pytest_cache .ruff_cache .mypy_cache .hypothesis

$(VENV)/.uv: Makefile
	@test -n "$(PYTHON)" || { echo "make: found no Python 3.11 or newer on the PATH; expected python3"; exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check "$(UV)"
	@touch $@

$(VENV)/.run: requirements.txt $(VENV)/.uv
	@test -e $(VENV)/.test -a $(VENV)/.test -nt requirements.txt || uv pip install --quiet --python $(BIN)/python -r requirements.txt
	@touch $@

$(VENV)/.test: requirements-test.txt $(VENV)/.uv
	@echo "Installing the test environment (fairseq is built from source: some minutes, once)"
	@uv pip install --quiet --python $(BIN)/python -r requirements-test.txt
	@touch $@
