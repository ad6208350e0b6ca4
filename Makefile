# `make demo` and `make test` need Python 3.11 or later and nothing else; both set up .venv first, once.

BIN := .venv/bin
# Tests at a time: more than cores, since most of them wait.
JOBS ?= 3

.DEFAULT_GOAL := help
.NOTPARALLEL: # two targets must not set up .venv at the same time
.PHONY: help setup demo test check unit everywhere test-newest coverage bench faults soak mutants format lock wheel clean

help: ## what there is
	@grep -hE '^[a-z-]+:.*##' Makefile | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 14

setup: ## make .venv with the locked requirements (does nothing when nothing changed)
	@sh tools/set-up dev

demo: ## run the main pipeline: no key, no account, no network
	@sh tools/set-up run
	$(BIN)/llmpipe run pipelines/tickets.yaml

test: check unit ## everything that must hold: checks, then tests

check: setup ## formatting, lint, types, import layers
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

unit: setup ## the tests alone
	$(BIN)/python -m pytest -n $(JOBS) $(ARGS)

everywhere: ## the tests on Python 3.12 and 3.13, where they are here
	@for version in 3.12 3.13; do JOBS=$(JOBS) sh tools/test-on $$version $(ARGS) || exit 1; done

test-newest: ## the tests with the newest versions that pyproject.toml allows
	JOBS=$(JOBS) sh tools/test-newest $(ARGS)

coverage: setup ## the tests with branch coverage, child processes included
	$(BIN)/coverage erase
	$(BIN)/python -m pytest -n $(JOBS) --cov --cov-report=term $(ARGS)

bench: setup ## what a call costs, beside a bare loop making the same requests
	$(BIN)/python benchmarks/calls.py

faults: setup ## run every fault against every wire and write docs/faults.md
	$(BIN)/python -m tests.faults.matrix > docs/faults.md.part && mv docs/faults.md.part docs/faults.md

soak: setup ## the tests that take minutes
	$(BIN)/python -m pytest -m soak $(ARGS)

mutants: setup ## change single lines that hold a promise, and see whether a test notices (an hour)
	$(BIN)/python tools/mutants.py $(ARGS)

format: setup ## rewrite the code in the house's form
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lock: ## write the lock files anew, at the newest versions
	sh tools/lock

wheel: setup ## build the wheel into dist/
	$(BIN)/python -m pip wheel -qq --disable-pip-version-check --no-build-isolation --no-deps --wheel-dir dist .

clean: ## remove what can be made again (not output/)
	rm -rf .venv .venv-* build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .coverage*
