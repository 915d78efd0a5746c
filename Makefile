# `make demo` and `make test` each make the environment when it is missing.
PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3)
VENV ?= .venv
LOWEST ?= .venv-lowest
BIN = $(VENV)/bin
READY = $(VENV)/.ready

.DEFAULT_GOAL := demo
.PHONY: docs screenshots emulate help demo test test-services check unit flow lowest bench-prepare bench-tokens bench-models bench-serve bench-slurm bench-sweep bench-ab gpu clean

help:  ## print this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-14s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

demo: $(READY)  ## from raw data to a promotable model
	$(BIN)/snakemake --cores all
	@echo
	@$(BIN)/hisac-lab summary

test: check unit flow  ## what every change has to pass

check: $(READY) docs  ## format, lint, types, layers, documentation
	$(BIN)/ruff format --check src workflow tests benchmarks docs/site.py
	$(BIN)/ruff check src workflow tests benchmarks docs/site.py
	$(BIN)/snakefmt --check Snakefile
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

unit: $(READY)  ## every room on small data
	$(BIN)/pytest -n 2 tests --ignore tests/flow --ignore tests/services

flow: $(READY)  ## the real graph on a tiny configuration
	$(BIN)/pytest -n 2 --dist worksteal -m "not emulator" tests/flow

test-services: $(READY)  ## against real servers that the tests start (Debian's postgresql, Slurm); 20 minutes at most
	timeout 1200 $(BIN)/pytest -n 2 --dist loadfile tests/services

docs: $(READY)  ## the documentation site, in site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

screenshots: $(READY)  ## pictures of report, site and MLflow for the documentation (Debian's chromium), after demo and docs
	$(BIN)/python benchmarks/screenshots.py $(ARGS)
	$(BIN)/python benchmarks/screenshots_mlflow.py

emulate: $(READY)  ## the tiny graph on an emulated processor (Debian's qemu-user), to the same bytes; minutes
	$(BIN)/pytest -n 2 --dist worksteal -m emulator tests/flow

lowest:  ## unit tests with the lowest versions that pyproject.toml allows, in an environment of their own
	test -x $(LOWEST)/bin/python || $(PYTHON) -m venv $(LOWEST)
	$(LOWEST)/bin/python -m pip install --quiet --disable-pip-version-check uv
	$(LOWEST)/bin/uv pip install --quiet --python $(LOWEST)/bin/python --resolution lowest-direct -e '.[test]'
	$(LOWEST)/bin/pytest -n 2 tests/unit tests/contract

bench-prepare: $(READY)  ## data preparation side by side with FuxiCTR; minutes, the first time with PyPI
	@$(BIN)/python benchmarks/prepare.py $(ARGS)

bench-tokens: $(READY)  ## the tokenizer side by side with faiss and semantic-id; minutes, the first time with PyPI
	@$(BIN)/python benchmarks/tokens.py $(ARGS)

bench-models: $(READY)  ## training and serving side by side with deepctr-torch and torch-rechub; minutes, the first time with PyPI
	@$(BIN)/python benchmarks/models.py $(ARGS)

bench-serve: $(READY)  ## the server under load: times of requests, a change of version, restarts, skew; four minutes
	@$(BIN)/python benchmarks/serve.py $(ARGS)

bench-sweep: $(READY)  ## the sweep's study: overhead, resumed and parallel runs, stability of the choice
	@$(BIN)/python benchmarks/sweep.py $(ARGS)

bench-slurm: $(READY)  ## the tiny graph on a real Slurm (Debian's, as root) through disturbances, to the bytes of a local run
	@$(BIN)/python tests/services/disturbed.py

bench-ab: $(READY)  ## is the A/B test's instrument right, where every lift is known; minutes
	@$(BIN)/python benchmarks/ab.py $(ARGS)

gpu: $(READY)  ## what a GPU makes of it, eight minutes at most; ARGS=--rehearse tries all of it without one
	@$(BIN)/python benchmarks/gpu.py $(ARGS)

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] not in ((3, 11), (3, 12)))' || \
	  { echo "hisac-lab: error: $(PYTHON) is neither Python 3.11 nor 3.12; set PYTHON=/path/to/python3.11"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test]'
	@touch $@

clean:  ## remove everything that a run makes (dvc's cache stays)
	rm -rf site artifacts logs .work .snakemake mlruns mlflow.db reports/report.html reports/report.md reports/figures \
	  reports/plots reports/metrics.json reports/here.* reports/against.*
