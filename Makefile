PYTHON ?= python3.11
BIN := .venv/bin
READY := .venv/ready
export PATH := $(CURDIR)/$(BIN):$(PATH)

.DEFAULT_GOAL := help
.PHONY: help study laws test bill ui track benchmark coverage lock clean

help: ## these lines
	@grep -E '^[a-z]+:.*##' Makefile | sed 's/:.*##/\t/' | expand -t 11

study: $(READY) ## set up if needed, then run the study (dvc repro): corpus to report
	dvc repro

laws: $(READY) ## test the laws of learning mechanics alone, without the scaling study
	dvc repro prepare
	study laws --run

test: $(READY) ## set up if needed, then run the whole test suite
	ruff check .
	lint-imports --no-cache
	pytest

bill: $(READY) ## what the next study would train, and what it costs
	study bill

ui: $(READY) ## MLflow's pages, at http://127.0.0.1:5000
	study ui

track: $(READY) ## mirror everything on disk to MLflow again
	study track

benchmark: $(READY) ## all benchmarks side by side with their baselines (two hours); PARTS="training study": only these
	pip install --quiet --disable-pip-version-check --editable '.[bench]'
	python -m benchmarks $(PARTS)

coverage: $(READY) ## do the fits' 95 % intervals cover? (half an hour)
	python -m benchmarks.coverage

lock: ## resolve pyproject.toml anew into requirements.lock
	rm -rf .venv/lock && $(PYTHON) -m venv .venv/lock
	.venv/lock/bin/pip install --quiet --editable '.[test]'
	.venv/lock/bin/pip freeze --exclude-editable --exclude scaling-study > requirements.lock
	rm -rf .venv/lock

clean: ## remove the environment and everything that a study can make again, but keep finished runs
	rm -rf .venv scratch data/tokens plan mlflow.db mlartifacts .pytest_cache .ruff_cache

$(READY): requirements.lock pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --requirement requirements.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --editable .
	touch $@
