# Everything a newcomer needs: `make demo` and `make test` set up what they use.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
TORCH := torch==2.13.0
# Two files of tests at a time, each process with one thread.
PARALLEL := -n 2 --dist loadfile
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.PHONY: help setup demo test quick check format cov docs bench clean

help: ## Show this help
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

setup: $(VENV)/.done ## Make .venv with every package pinned by hash

$(VENV)/.done: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed: make PYTHON=python3.11 …"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --no-deps --require-hashes -r requirements.lock
	$(BIN)/pip install --quiet $(TORCH)
	$(BIN)/pip install --quiet --no-deps --no-build-isolation -e .
	touch $@

demo: setup ## Run the whole loop on the example shop: about ten minutes on two cores
	$(BIN)/vivace demo

test: setup check ## Everything CI runs: check, unit, journey and docs tests
	$(BIN)/python -m pytest $(PARALLEL)

quick: setup ## The quick tests: about a minute
	$(BIN)/python -m pytest $(PARALLEL) -m "not slow and not real"

check: setup ## Format, lint, types, import contract, spelling
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/codespell src docs scripts README.md CHANGELOG.md CONTRIBUTING.md

format: setup ## Format and sort imports
	$(BIN)/ruff check --fix --select I .
	$(BIN)/ruff format .

cov: setup ## Tests with coverage
	$(BIN)/coverage run -m pytest -m "not real"
	$(BIN)/coverage report --skip-covered

docs: setup ## Write the generated pages (docs/configuration.md, docs/cli.md)
	$(BIN)/python scripts/make_docs.py

bench: setup ## Measure the demo's release again
	$(BIN)/vivace bench .demo

clean: ## Remove what was made here
	rm -rf .demo .pytest_cache .mypy_cache .ruff_cache .hypothesis htmlcov .coverage dist build
