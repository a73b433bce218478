# The only entry point. `make` lists what there is; `make run` and `make test` set up what they need.
.DEFAULT_GOAL := help
SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.ONESHELL:
MAKEFLAGS += --no-print-directory

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.tickring-setup
# The newest supported Python that really starts (a version manager's shim may not), or PYTHON=...
PYTHON ?= $(shell for name in python3.13 python3.12 python3.11 python3; do \
	"$$name" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' 2>/dev/null \
	&& { echo "$$name"; break; }; done)
# First compilation fills it, later runs read it; keep it over runs.
export TICKRING_CACHE_DIR ?= $(HOME)/.cache/tickring

.PHONY: help setup run test quick fmt lint type bench check wheel clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-7s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMP) ## make .venv with everything that run, test and check need
	@:

# Progress goes to standard error: standard output belongs to `run`, whose last line is a contract.
$(STAMP): pyproject.toml
	@{
	if [ -z "$(PYTHON)" ]; then
		echo "tickring wants Python 3.11, 3.12 or 3.13: none found on PATH; install one or give PYTHON=/path/to/python3"
		exit 1
	fi
	echo "setup 1/3: making $(VENV) with $$($(PYTHON) --version)"
	if ! "$(PYTHON)" -c 'import ensurepip, venv' 2>/dev/null; then
		echo "$(PYTHON) must be able to make virtual environments: install them first, on Debian with: apt-get install -y python3-venv"
		exit 1
	fi
	[ -x $(BIN)/python ] || "$(PYTHON)" -m venv $(VENV)
	echo "setup 2/3: installing tickring and its tools, about 250 MB the first time"
	$(BIN)/python -m pip install --disable-pip-version-check --progress-bar off -e '.[test,dev]' \
		| awk '/^Collecting|^Installing|^Successfully/ { print "  " substr($$0, 1, 96); fflush() }'
	echo "setup 3/3: checking that it starts"
	$(BIN)/python -c 'import config.load, engine, shm, workers'
	touch $(STAMP)
	echo "setup done"
	} >&2

# At a terminal the engine gets a process group of its own (`set -m`), so that Ctrl-C ends the
# engine, which then exits 0, and not make, which would report an interrupt.
run: $(STAMP) ## start the engine: make run ARGS="--for 15s --json"
	@if [ -t 0 ]; then set -m; $(BIN)/tickring run $(ARGS); else exec $(BIN)/tickring run $(ARGS); fi

test: $(STAMP) ## every test this machine can run; ARGS="-k ring" narrows it
	@echo "compiling what the cache lacks: a minute or two the first time" >&2
	$(BIN)/python -m workers.warm >/dev/null
	exec $(BIN)/python -m pytest -rs $(ARGS)

quick: $(STAMP) ## unit tests only
	@HYPOTHESIS_PROFILE=$${HYPOTHESIS_PROFILE:-quick} exec $(BIN)/python -m pytest \
		-m "not race and not services and not slow and not multiprocess" $(ARGS)

fmt: $(STAMP) ## format the code
	@$(BIN)/ruff format .
	$(BIN)/ruff check --fix --exit-zero --quiet .

lint: $(STAMP) ## format, rules and spelling, changing nothing
	@$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/codespell

type: $(STAMP) ## mypy, strict
	@exec $(BIN)/mypy

bench: $(STAMP) ## one benchmark: make bench NAME=tick-to-order ARGS="--json"
	@exec $(BIN)/tickring bench $(NAME) $(ARGS)

wheel: $(STAMP) ## build the wheel into dist/
	@rm -rf dist
	$(BIN)/python -m pip wheel --quiet --disable-pip-version-check --no-deps --no-build-isolation -w dist .

check: lint type test wheel ## everything that CI asks

clean: ## remove what was built here; leaves recorded runs in var/
	@rm -rf $(VENV) .venvs dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis *.egg-info
	find shm engine config workers tests bench -name __pycache__ -type d -prune -exec rm -rf {} +
