# Everything a developer types. `make` alone lists it.
PYTHON ?= python3.11
# 0: do without the C++ kernels (slower, pure torch) where there is no compiler
POINT_OPS_BUILD ?= require
WORKERS ?= 2
# of `make ui` and `make stack`, which take 4200 and 5000 where these are empty
PREFECT_PORT ?=
MLFLOW_PORT ?=
STACK_PORTS = $(if $(PREFECT_PORT),--prefect-port $(PREFECT_PORT)) $(if $(MLFLOW_PORT),--mlflow-port $(MLFLOW_PORT))

# Relative to this folder, where recipes run: its full path may hold spaces, and make and the
# shell would take the parts for names of their own.
VENV := .venv
STAMP := $(VENV)/.installed
# `value`: a $ inside PATH or CURDIR stands for itself
export PATH := $(CURDIR)/$(VENV)/bin:$(value PATH)
export PYTHON
export DVC_NO_ANALYTICS := 1
PIP := $(VENV)/bin/python -m pip install -q -q --no-input --disable-pip-version-check
# what, once changed, has to be installed again; a shell command
INSTALLED = find requirements.txt constraints.txt pyproject.toml extensions \
  -name build -prune -o -name '*.egg-info' -prune -o -type f \( -name '*.txt' -o -name '*.py' \
  -o -name '*.cpp' -o -name '*.h' -o -name '*.cu' -o -name '*.toml' \) -print0
# `dvc config` cannot write a path that is not ASCII
DVC_CONFIG = from configobj import ConfigObj; from pathlib import Path; \
  config = ConfigObj(".dvc/config.local", encoding="utf-8", interpolation=False); \
  config.setdefault("core", {})["site_cache_dir"] = str(Path(".dvc/tmp/site").resolve()); \
  config.write()

.DEFAULT_GOAL := help
.PHONY: help place setup check test test-stack test-faults bench demo docs docs-serve ui stack wheels secrets audit

help: ## show this list
	@awk -F ':[^#]*## ' '/^[a-z-]+:.*##/ { printf "%-12s %s\n", $$1, $$2 }' Makefile

# Refuses, before anything is touched, characters in this folder's path: a colon separates the
# folders of PATH; the scripts of a virtual environment hold the path between double quotes, where
# the shell reads " $ ` and \; DVC takes { } and %( for placeholders.
place:
	@here="$$(pwd -P; echo .)"; newline="$$(printf '\n.')"; newline="$${newline%.}"; \
	for bad in "$$newline" ':' '"' '$$' '`' '\' '{' '}' '%('; do \
	  case "$${here%?.}" in *"$$bad"*) ;; *) continue ;; esac; \
	  [ "$$bad" != "$$newline" ] || bad='a line break'; \
	  printf 'setup: %s in the path of this folder: the tools here cannot take it; move the folder and run make again\n' "$$bad" >&2; \
	  exit 2; \
	done

setup: place ## make .venv with everything in it; does nothing when it is up to date
	@set -eu; \
	wanted="$$($(INSTALLED) | LC_ALL=C sort -z | xargs -0 sha256sum | sha256sum | cut -c1-64) $(POINT_OPS_BUILD)"; \
	if [ "$$(cat $(STAMP) 2>/dev/null || true)" = "$$wanted" ]; then exit 0; fi; \
	if ! [ -x $(VENV)/bin/pip ]; then \
	  "$$PYTHON" -c 'import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null \
	    || { echo "setup: no working $$PYTHON with venv; install Python 3.11 (Debian: apt-get install python3.11-venv) or give make PYTHON=/path/to/python3" >&2; exit 2; }; \
	fi; \
	if [ "$(POINT_OPS_BUILD)" = require ]; then \
	  echo 'int main() {}' | $${CXX:-c++} -x c++ -o /dev/null - 2>/dev/null \
	    || { echo "setup: no C++ compiler; install one (Debian: apt-get install g++), or use the slower torch kernels: make $(MAKECMDGOALS) POINT_OPS_BUILD=0" >&2; exit 2; }; \
	fi; \
	rm -f $(STAMP); \
	[ -x $(VENV)/bin/pip ] || "$$PYTHON" -m venv --clear $(VENV); \
	echo "setup: installing requirements into .venv (about 7 GB the first time: 4 to 8 minutes without another line)"; \
	$(PIP) -r requirements.txt; \
	echo "setup: installing point_ops and sa3d"; \
	POINT_OPS_BUILD=$(POINT_OPS_BUILD) $(PIP) --no-build-isolation --no-deps --force-reinstall ./extensions ./extensions/compat; \
	$(PIP) --no-build-isolation --no-deps -e .; \
	$(VENV)/bin/python -c '$(DVC_CONFIG)'; \
	echo "$$wanted" > $(STAMP); \
	echo "setup: done"

check: setup ## lint, types, architecture, fast tests: some minutes
	$(PIP) -r requirements-test.txt
	ruff check
	ruff format --check
	mypy
	mypy --strict extensions/point_ops
	lint-imports --no-logo
	python -m flows.dvc_pipeline --check
	python -m flows.prefect_yaml --check
	OMP_NUM_THREADS=1 pytest -m "not slow" -n $(WORKERS)

# --dist loadfile: tests of one file share a project or servers, some of them in their order. Groups by
# xdist_group have no effect with these versions of pytest and xdist.
test: check ## slow tests too, but for those of the next two
	OMP_NUM_THREADS=1 pytest -m "slow and not faults and not stack" -n $(WORKERS) --dist loadfile

test-stack: setup ## servers on PostgreSQL and S3, pages in a browser, published recipes: many minutes
	$(PIP) -r requirements-test.txt
	OMP_NUM_THREADS=1 pytest -m stack

test-faults: setup ## kills, outages, a full disk: all of tests/faults, under 20 minutes
	rm -f .local/faults.jsonl
	mkdir -p .local
	SA3D_FAULT_RECORD=.local/faults.jsonl OMP_NUM_THREADS=1 pytest tests/faults -n $(WORKERS) --dist loadfile

bench: setup ## steps, batches and point operators beside others; fails where a lead is lost: some minutes, on an idle machine
	@status=0; \
	python benchmarks/training.py --check --rounds 3 || status=1; \
	python benchmarks/loader.py --check --peer --clouds 1024 --epochs 7 || status=1; \
	python benchmarks/point_ops.py --check --peers .local/peers || status=1; \
	exit $$status

demo: setup ## the whole experiment on generated objects, to reports/demo/report.html
	dvc repro experiment@demo

docs: setup ## the documentation as a site, to build/site/index.html; needs no internet once installed
	$(PIP) -r requirements-docs.txt
	NO_MKDOCS_2_WARNING=1 mkdocs build --strict
	@echo "docs: build/site/index.html; make docs-serve shows it, with the search"

docs-serve: docs ## the site at http://127.0.0.1:8000, made anew whenever a page changes
	NO_MKDOCS_2_WARNING=1 mkdocs serve --strict

ui: setup ## Prefect and MLflow on this folder's runs; `python -m flows.stack down` ends them
	python -m flows.stack up --servers-only $(STACK_PORTS)

stack: setup ## likewise, with the flows deployed and a worker for each GPU: start runs in the browser
	python -m flows.stack up $(STACK_PORTS)

wheels: setup ## the wheels of sa3d and point_ops, for a machine without this checkout, to dist/
	POINT_OPS_BUILD=$(POINT_OPS_BUILD) $(VENV)/bin/python -m pip wheel -q --no-build-isolation --no-deps -w dist . ./extensions

secrets: ## random passwords for docker/compose.yaml, those that are not there yet
	@docker/secrets.sh

audit: ## known vulnerabilities in the pinned packages; asks PyPI's advisories, so needs the internet
	@set -e; [ -x .local/audit/bin/pip-audit ] || { "$$PYTHON" -m venv .local/audit; \
	  .local/audit/bin/pip install -q --disable-pip-version-check pip-audit==2.10.1; }; \
	.local/audit/bin/pip-audit --strict --disable-pip --no-deps -r constraints.txt
