# Everything a person or a machine runs here. `make help` explains the targets.
#
# demo, test and check each work alone on a fresh clone: they create .venv with PYTHON, install the
# exact versions of requirements/core.lock (hashes checked), and run.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
DESK ?= fx-demo

.DEFAULT_GOAL := help
# Tests start hundreds of processes: each would compile everything that it imports.
unexport PYTHONDONTWRITEBYTECODE
.PHONY: help install demo test test-long test-frameworks check registry-validate format bench lock proto clean

help: ## Show this list
	@echo "Usage: make TARGET"
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(READY) ## Create .venv from the lock (the other targets do it by themselves)

# pip checks every hash of the lock; the package itself is installed without touching any index.
# Compiling is done apart, by all processors; a few files are templates and no Python.
$(READY): requirements/core.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || \
		{ echo "$(PYTHON) is $$($(PYTHON) -V): expected Python 3.11 to 3.13; try: make PYTHON=python3.11 $(MAKECMDGOALS)"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile --require-hashes -r requirements/core.lock
	@$(BIN)/python -m compileall -q -j 0 $(VENV)/lib > /dev/null 2>&1 || true
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $(READY)

demo: $(READY) ## The main job on real FX rates, in the folder fx-demo (DESK=... for another)
	$(BIN)/assay demo --desk $(DESK)

test: $(READY) ## The quick test suite
	$(BIN)/python -m pytest -n 2 --dist loadfile

test-long: $(READY) ## Long property, fault and simulation runs as well (tens of minutes)
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "not frameworks"

# Each in an environment of its own: they are large, and their dependencies are not ours.
test-frameworks: ## Conversions of PyTorch and TensorFlow models (downloads a gigabyte)
	@for framework in torch tensorflow; do \
		$(PYTHON) -m venv $(VENV)-$$framework && \
		$(VENV)-$$framework/bin/python -m pip install --quiet --disable-pip-version-check \
			--editable ".[$$framework]" pytest hypothesis && \
		$(VENV)-$$framework/bin/python -m pytest -m frameworks tests/frameworks || exit 1; \
	done

check: $(READY) ## Lint, format, types and import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

registry-validate: $(READY) ## Check every version and the log of a desk (DESK=...); fails on any doubt
	$(BIN)/assay models validate --desk $(DESK)

format: $(READY) ## Format the code and apply safe lint fixes
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(READY) ## Benchmarks beside their references; writes benchmarks/results/<date>.json
	$(BIN)/python -m benchmarks

lock: ## Resolve requirements/core.lock again (needs uv)
	uv pip compile pyproject.toml --universal --python-version 3.11 --fork-strategy fewest \
		--extra demo --group test --group check --group build --generate-hashes \
		--no-emit-index-url --no-emit-find-links --no-annotate --quiet \
		--custom-compile-command "make lock" --output-file requirements/core.lock

proto: ## Make the Python of windows.proto again (needs grpcio-tools)
	$(PYTHON) -m grpc_tools.protoc -I src --python_out=src \
		src/assay/features/definition/windows.proto

clean: ## Remove the environment, caches and the demo's folder
	rm -rf $(VENV) $(VENV)-torch $(VENV)-tensorflow $(DESK) .pytest_cache .mypy_cache .ruff_cache .hypothesis dist build
