# Every target does its own set-up; `make help` lists them.
PYTHON ?= python3
# More than the two processors of a small machine: many tests wait for what real servers do in their own time.
WORKERS ?= 3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.ready

.DEFAULT_GOAL := help
.PHONY: help demo drill test test-servers test-promtool test-browser check score mutate recordings render bench tools clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' Makefile

$(STAMP): pyproject.toml constraints.txt hatch_build.py
	@$(PYTHON) -c 'import sys; v = sys.version_info; v >= (3, 11) or sys.exit("herdwatch: $(PYTHON) is Python %d.%d; install Python 3.11 or later, or say which: make PYTHON=python3.11" % v[:2])'
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { echo "herdwatch: $(PYTHON) has no venv; install it (on Debian: apt-get install python3-venv)" >&2; exit 2; }
	@echo "setting up $(VENV)"
	@rm -rf $(VENV) && $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade -c constraints.txt pip
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt --group dev -e '.[all]'
	@touch $@

tools: $(STAMP) ## find or fetch promtool, prometheus, alertmanager, redis-server
	@$(BIN)/herdwatch tools

drill: tools ## the incident with and without the guards, on real servers, under five minutes (ARGS="--all")
	@$(BIN)/herdwatch drill $(ARGS)

demo: tools ## from a Redis restart to a delivered page (KEEP=1 leaves it running)
	@$(BIN)/herdwatch demo $(if $(KEEP),--keep)

# In the order of the folders: sorted by the number of tests, as xdist would, the files that take longest come last.
test: tools ## every test
	@$(BIN)/python -m pytest --numprocesses=$(WORKERS) --dist=loadfile --no-loadscope-reorder $(ARGS)

test-servers: tools ## the tests that face Redis, on every Redis and Valkey to be had
	@$(BIN)/python -m tests.every_server $(ARGS)

test-promtool: tools ## the rule tests and those of the wrapper, with promtool 2.42, 2.53 and 3
	@$(BIN)/python -m tests.every_promtool $(ARGS)

test-browser: tools ## the runbook pages in a real Chromium, which must be installed
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt --group browser
	@$(BIN)/python -m pytest tests/browser/runbook_pages.py $(ARGS)

check: tools ## lint, types, import contracts, rendered files in step
	@$(BIN)/ruff check . && $(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/herdwatch render --check
	@$(BIN)/herdwatch check

score: tools ## play the catalogue of incidents under the alerts, at every scrape interval
	@$(BIN)/herdwatch score --interval 5 --interval 15 --interval 30 --interval 60 --recorded $(ARGS)

mutate: tools ## break the rules one place at a time and see which breaks the tests notice
	@$(BIN)/herdwatch mutate $(ARGS)

recordings: tools ## record the incidents of proof/recordings from real servers anew, nine minutes
	@$(BIN)/python -m herdwatch.proof.recordings $(ARGS)

render: $(STAMP) ## render alerts/, dashboards/ and runbooks/ from their templates
	@$(BIN)/herdwatch render

bench: tools ## measure the exporter, and the guard beside its peers (ARGS="guard" for one)
	@$(BIN)/herdwatch bench $(ARGS)

clean: ## remove the virtual environment and the fetched tools
	rm -rf $(VENV) .tools
