# `make help` lists the targets. Each installs what it needs: virtual environment, packages, data.
PYTHON      ?= python3
# PyTorch's CPU index for Linux without a GPU, e.g. TORCH_INDEX=https://download.pytorch.org/whl/cpu
TORCH_INDEX ?=
# Task of train, eval, decode, profile and sweep, e.g. make train TASK=micro
TASK        ?= shakespeare
ENGINE      ?= docker
VENV        := .venv
PY          := $(VENV)/bin/python
POT         := micro_transformer/locale/micro_transformer.pot
PIP_INDEX   := $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX))

.DEFAULT_GOAL := help
.PHONY: help setup data train eval decode profile sweep report readme messages test bench lint types image docker-check lock clean

help:  ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

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

data/.%: | $(VENV)/.ready
	$(PY) -m micro_transformer.data prepare task=$*
	@touch $@

train: setup data/.$(TASK)  ## Train and measure the default (option A, quick recipe)
	$(PY) run.py task=$(TASK)

eval: setup data/.$(TASK)  ## Score the default's trained model over the whole validation split
	$(PY) run.py task=$(TASK) bench=none eval=quality

decode: setup data/.$(TASK)  ## Write 10 samples per decoding strategy under samples/
	$(PY) run.py task=$(TASK) sweep=decode

profile: setup data/.$(TASK)  ## Write profile/trace.json and a Markdown table
	$(PY) run.py task=$(TASK) bench=profile hydra.run.dir=profile

sweep: setup data/.$(TASK)  ## Positions x seeds on real text, with the table
	$(PY) run.py task=$(TASK) sweep=demo

bench: setup  ## Print speed and memory of kernels and patterns, against what they must reach
	$(PY) benchmarks/attention_speed.py --slopes
	$(PY) benchmarks/kernel_grid.py --points 110
	$(PY) benchmarks/cache_speed.py --parts decode --rounds 60

readme: setup  ## Make the results in the READMEs and docs/findings.md from results/
	$(PY) -m micro_transformer.report.readme

messages:  ## Collect the text to translate (needs GNU gettext)
	@command -v xgettext >/dev/null || { echo "make messages: needs xgettext of GNU gettext"; exit 1; }
	@mkdir -p $(dir $(POT))
	@find micro_transformer -name '*.py' | sort | xgettext --files-from=- --language=Python --from-code=UTF-8 \
	  --keyword --keyword=_ --keyword=N_ --keyword=plural:2,3 --keyword=Display:1 --sort-by-file --no-wrap \
	  --package-name=micro-transformer --output=$(POT)
	@awk 'FNR == 1 {seen = 0} /^# [^@]/ && !seen++ {gsub(/["\\]/, "\\\\&"); printf "_(\"%s\")\n", substr($$0, 3)}' \
	  conf/*/*.yaml | xgettext --language=Python --from-code=UTF-8 --keyword --keyword=_ --no-wrap --no-location \
	  --join-existing --output=$(POT) -
	@echo "$(POT): $$(grep -c '^msgid ' $(POT)) messages"

report: setup  ## Make the report of the demo sweep again from its records
	$(PY) -m micro_transformer.report multirun/demo

test: $(VENV)/.ready-dev  ## Run the tests; those on a real Slurm: pytest -m slurm
	$(PY) -m pytest -n 2 -m "not slurm"

lint: $(VENV)/.ready-dev  ## Check style
	$(VENV)/bin/ruff check . && $(VENV)/bin/ruff format --check .

types: $(VENV)/.ready-dev  ## Check types
	$(VENV)/bin/mypy

image:  ## Build the image; TORCH_INDEX chooses the torch wheel, ENGINE=podman works too
	$(ENGINE) build $(if $(TORCH_INDEX),--build-arg TORCH_INDEX=$(TORCH_INDEX)) -t micro-transformer .

docker-check:  ## Build and try the image without an engine: root, buildah and debootstrap
	scripts/docker_check.sh

lock: setup  ## Compile requirements.txt from requirements.in
	uv pip compile requirements.in --python-version 3.11 --no-header --no-annotate -q | sed 's/+cpu//' > requirements.txt

clean:  ## Remove caches; trained models, records and data stay
	rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +
