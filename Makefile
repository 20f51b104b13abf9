# `make` lists the targets.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# A folder of wheels that is asked first, where it exists; nothing depends on it. WHEELS= switches it off.
WHEELS ?= $(wildcard ../shared/wheels)
PIP := $(BIN)/python -m pip install --disable-pip-version-check -q -c constraints.txt $(if $(WHEELS),--find-links $(WHEELS))

CLUSTER := WHEELS=$(WHEELS) PYTHONPATH=tests $(BIN)/python -m cluster

BUF := $(VENV)/buf/node_modules/.bin/buf

# Whether `make test` runs the tests in the kind cluster: yes, no, or keep (the cluster stays).
KIND ?= yes

# Two files of tests at once, for many wait more than they compute; in the order of their names, for long ones come first.
AT_ONCE ?= -n 2 --dist loadfile --no-loadscope-reorder

.DEFAULT_GOAL := help
.PHONY: help install install-dev up check format test test-long generate kube cluster kind kind-down test-e2e able clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

$(BIN)/python:
	@command -v $(PYTHON) >/dev/null || { echo "No $(PYTHON) here: install Python 3.11 or later (Debian: apt-get install python3 python3-venv), or say which with make PYTHON=..."; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "$(PYTHON) is older than 3.11: say which Python to use with make PYTHON=..."; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --disable-pip-version-check -q -U 'pip>=25'

# The CPU's kernels are compiled when the project is installed.
NATIVE := runtime/model/hatch_build.py $(wildcard runtime/model/glm5_model/kernels/native/source/*)

$(VENV)/installed: pyproject.toml constraints.txt $(NATIVE) | $(BIN)/python
	$(PIP) -e '.[gateway,runtime,cli]'
	@touch $@

$(VENV)/installed-dev: pyproject.toml constraints.txt $(NATIVE) | $(BIN)/python
	$(PIP) -e '.[dev]'
	@touch $(VENV)/installed $@

$(BUF): | $(BIN)/python
	@command -v npm >/dev/null || { echo "buf comes from npm, which is not here (Debian: apt-get install npm)"; exit 1; }
	npm install --prefix $(VENV)/buf --no-save --no-package-lock --silent @bufbuild/buf@1.75.0

install: $(VENV)/installed ## make .venv with what `glm5 up` needs

install-dev: $(VENV)/installed-dev ## the same and what tests and checks need

up: install ## start every role on the demo model and say how to ask
	@$(BIN)/glm5 up

check: install-dev $(BUF) ## ruff, mypy, lint-imports, buf, generated code current
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BUF) lint
	$(BUF) breaking --against '.git#ref=HEAD'
	$(BIN)/python tools/gen_protos.py --check
	$(BIN)/python tools/gen_crds.py --check
	$(BIN)/python tools/gen_resource_doc.py --check
	$(BIN)/python tools/gen_chart_values.py --check
	$(BIN)/python tools/gen_settings_doc.py --check
	$(BIN)/python tools/gen_metrics.py --check

format: install-dev ## let ruff rewrite the files
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

generate: install-dev ## protobuf modules, CRDs, what charts and docs say of the models
	$(BIN)/python tools/gen_protos.py
	$(BIN)/python tools/gen_crds.py
	$(BIN)/python tools/gen_resource_doc.py
	$(BIN)/python tools/gen_chart_values.py
	$(BIN)/python tools/gen_settings_doc.py
	$(BIN)/python tools/gen_metrics.py

able: install-dev
	@[ "$(KIND)" = no ] || $(CLUSTER) able

test: able check kube ## everything but the long repetitions; KIND=no leaves out the kind cluster, KIND=keep keeps it
	$(BIN)/python -m pytest -m "not long and not e2e" $(AT_ONCE) --reruns 1 --durations 15
	@if [ "$(KIND)" = no ]; then echo "KIND=no: the tests in the kind cluster were left out"; else $(MAKE) test-e2e; fi
	@[ "$(KIND)" != yes ] || $(MAKE) kind-down

test-long: install-dev ## the long repetitions alone
	$(BIN)/python -m pytest -m long -rP

kube: install-dev ## build Kubernetes, etcd and helm for the tests marked apiserver (10 minutes once)
	@$(CLUSTER) kube helm

cluster: install-dev ## make a kind cluster with the images on it (as root; builds what this machine lacks)
	@$(CLUSTER) up images load

kind: install-dev ## the same with the operator and a demo deployment, and say how to ask it
	@$(CLUSTER) up images load demo

kind-down: $(BIN)/python ## remove the cluster and what was started for it
	@$(CLUSTER) down

test-e2e: cluster ## the tests in the kind cluster
	WHEELS=$(WHEELS) $(BIN)/python -m pytest -m e2e --reruns 1 --durations 15

clean: ## remove .venv and caches
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis
