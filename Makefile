# make help lists the targets. Each one sets up what it needs: a virtual environment, packages, data.
PYTHON      ?= python3
# PyTorch's CPU index for Linux without a GPU, e.g. TORCH_INDEX=https://download.pytorch.org/whl/cpu
TORCH_INDEX ?=
VENV        := .venv
PY          := $(VENV)/bin/python
PIP_INDEX   := $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX))

.DEFAULT_GOAL := help
.PHONY: help setup data train eval decode profile sweep report readme test lint types lock clean

help:  ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(VENV)/.ready: requirements.txt pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --quiet $(PIP_INDEX) -r requirements.txt
	$(PY) -m pip install --quiet --no-deps -e .
	@touch $@

$(VENV)/.ready-dev: $(VENV)/.ready
	$(PY) -m pip install --quiet $(PIP_INDEX) -e '.[dev]'
	@touch $@

setup: $(VENV)/.ready  ## Make the virtual environment with pinned packages

data: setup  ## Fetch or build the data of every task
	$(PY) -m micro_transformer.data prepare

data/.shakespeare: | $(VENV)/.ready
	$(PY) -m micro_transformer.data prepare task=shakespeare
	@touch $@

train: setup data/.shakespeare  ## Train and measure the default (option A, quick recipe)
	$(PY) run.py

eval: setup data/.shakespeare  ## Score the default's trained model over the whole validation split
	$(PY) run.py bench=none eval=quality

decode: setup data/.shakespeare  ## Write 10 samples a decoding strategy under samples/
	$(PY) run.py sweep=decode

profile: setup data/.shakespeare  ## Write profile/trace.json and a Markdown table
	$(PY) run.py bench=profile hydra.run.dir=profile

sweep: setup data/.shakespeare  ## Positions x seeds on real text, with the table
	$(PY) run.py sweep=demo

readme: setup  ## Make the result tables of the READMEs from results/
	$(PY) -m micro_transformer.report.readme

report: setup  ## Make the report of the demo sweep again from its records
	$(PY) -m micro_transformer.report multirun/demo

test: $(VENV)/.ready-dev  ## Run the tests
	$(PY) -m pytest -n 2

lint: $(VENV)/.ready-dev  ## Check style
	$(VENV)/bin/ruff check . && $(VENV)/bin/ruff format --check .

types: $(VENV)/.ready-dev  ## Check types
	$(VENV)/bin/mypy

lock: setup  ## Compile requirements.txt from requirements.in
	uv pip compile requirements.in --python-version 3.11 --no-header --no-annotate -q | sed 's/+cpu//' > requirements.txt

clean:  ## Remove caches; trained models, records and data stay
	rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +
