# Everything a developer types. `make` alone lists it.
PYTHON ?= python3.11
# 0: do without the C++ kernels (slower, pure torch) where there is no compiler
POINT_OPS_BUILD ?= require
WORKERS ?= 2
# of `make ui`
PORT ?= 5000

VENV := $(CURDIR)/.venv
STAMP := $(VENV)/.installed
export PATH := $(VENV)/bin:$(PATH)
export DVC_NO_ANALYTICS := 1
PIP := $(VENV)/bin/python -m pip install -q -q --no-input --disable-pip-version-check
# what, once changed, has to be installed again
INSTALLED = requirements.txt constraints.txt pyproject.toml \
  $(shell find extensions -name build -prune -o -name '*.egg-info' -prune -o -type f \
    \( -name '*.py' -o -name '*.cpp' -o -name '*.h' -o -name '*.cu' -o -name '*.toml' \) -print)

.DEFAULT_GOAL := help
.PHONY: help setup check test demo ui

help: ## show this list
	@awk -F ':[^#]*## ' '/^[a-z]+:.*##/ { printf "%-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## make .venv with everything in it; does nothing when it is up to date
	@set -eu; \
	wanted="$$(printf '%s\n' $(INSTALLED) | LC_ALL=C sort | xargs sha256sum | sha256sum | cut -c1-64) $(POINT_OPS_BUILD)"; \
	if [ "$$(cat $(STAMP) 2>/dev/null || true)" = "$$wanted" ]; then exit 0; fi; \
	if ! [ -x $(VENV)/bin/pip ]; then \
	  $(PYTHON) -c 'import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null \
	    || { echo "setup: no working $(PYTHON) with venv; install Python 3.11 (Debian: apt-get install python3.11-venv) or give make PYTHON=/path/to/python3" >&2; exit 2; }; \
	fi; \
	if [ "$(POINT_OPS_BUILD)" = require ]; then \
	  echo 'int main() {}' | $${CXX:-c++} -x c++ -o /dev/null - 2>/dev/null \
	    || { echo "setup: no C++ compiler; install one (Debian: apt-get install g++), or use the slower torch kernels: make $(MAKECMDGOALS) POINT_OPS_BUILD=0" >&2; exit 2; }; \
	fi; \
	rm -f $(STAMP); \
	[ -x $(VENV)/bin/pip ] || $(PYTHON) -m venv --clear $(VENV); \
	echo "setup: installing requirements into .venv (about 7 GB the first time: some minutes)"; \
	$(PIP) -r requirements.txt; \
	echo "setup: installing point_ops and sa3d"; \
	POINT_OPS_BUILD=$(POINT_OPS_BUILD) $(PIP) --no-build-isolation --no-deps --force-reinstall ./extensions ./extensions/compat; \
	$(PIP) --no-build-isolation --no-deps -e .; \
	$(VENV)/bin/dvc config -q --local core.site_cache_dir $(CURDIR)/.dvc/tmp/site; \
	echo "$$wanted" > $(STAMP); \
	echo "setup: done"

check: setup ## lint, types, architecture, fast tests: under 3 minutes
	ruff check
	ruff format --check
	mypy
	mypy --strict extensions/point_ops
	lint-imports --no-logo
	OMP_NUM_THREADS=1 pytest -m "not slow" -n $(WORKERS)

test: check ## everything, slow tests too
	OMP_NUM_THREADS=1 pytest -m slow -n $(WORKERS)

demo: setup ## the whole experiment on generated objects, to reports/demo/report.html
	dvc repro experiment@demo

ui: setup ## MLflow on this folder's runs, at http://127.0.0.1:5000
	@echo 'open http://127.0.0.1:$(PORT)/#/experiments?workflowType=machine_learning; Ctrl-C ends it'
	@set -a; . docker/quiet.env; set +a; \
	exec mlflow ui --workers 1 --port $(PORT) --backend-store-uri sqlite:///$(CURDIR)/mlflow.db
