# The whole developer interface. `make help` lists it.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
UV := $(BIN)/uv
UV_VERSION := 0.13.9
LOCK := requirements/dev.lock
STAMP := $(VENV)/.installed-$(shell cat $(LOCK) pyproject.toml 2>/dev/null | cksum | cut -d' ' -f1)

.DEFAULT_GOAL := help
.PHONY: help setup demo test unit lint format bench soak chaos chaos-cluster docs page screens bench-live cluster cluster-prepare cluster-down lock clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMP) ## make .venv with everything in locked versions

$(STAMP): $(LOCK) pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "spanyard: $(PYTHON) is older than 3.11. Install Python 3.11 or newer, or name one: make $(MAKECMDGOALS) PYTHON=python3.12" >&2; exit 1; }
	@test -x $(BIN)/pip || $(PYTHON) -m venv $(VENV) || { echo "spanyard: $(PYTHON) has no venv module. On Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	@echo "spanyard: installing locked dependencies into $(VENV) (once)"
	@$(BIN)/python -m pip install -q --disable-pip-version-check 'uv==$(UV_VERSION)'
	@$(UV) pip sync -q -p $(BIN)/python --require-hashes $(LOCK)
	@$(UV) pip install -q -p $(BIN)/python --no-deps -e .
	@rm -f $(VENV)/.installed-*
	@touch $@

demo: setup ## run the whole chain on this machine (ARGS=--once: run, check, exit)
	@$(BIN)/spanyard demo $(ARGS)

test: setup cluster-prepare lint ## everything, on real components, on all cores (ARGS='-n 0': one)
	@$(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 $(ARGS)

unit: setup ## the quick tier, on all cores
	@$(BIN)/python -m tests.unit $(ARGS)

lint: setup ## ruff, mypy --strict, import contracts
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache

format: setup ## let ruff tidy the code
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

bench: setup ## benchmarks; prints the tables of docs/benchmarks.md
	@$(BIN)/python -m benchmarks $(ARGS)

bench-live: setup ## live streams: latency and memory (part of bench)
	@$(BIN)/python -m benchmarks live live_spans

soak: setup ## kill the collector 1,000 times under load (half an hour; ARGS='--kills 50')
	@$(BIN)/python -m tests.limits.soak $(ARGS)

chaos: setup ## kill `spanyard up` again and again while it builds and serves (3 to 9 minutes)
	@$(BIN)/python -m tests.limits.chaos $(ARGS)

chaos-cluster: setup ## kill the operator again and again under 50 builds and 10 deployments on a real cluster
	@SPANYARD_REQUIRE_CLUSTER=1 SPANYARD_CHAOS_BUILDS=50 $(BIN)/python -m pytest tests/cluster/test_operator_kills.py $(ARGS)

docs: setup ## regenerate what the code says: docs/schema, docs/reference, tables in docs/configuration.md
	@$(BIN)/python -m spanyard_core.schema docs/schema
	@$(BIN)/python -m spanyard_core.settings_docs docs/configuration.md
	@$(BIN)/python -m spanyard_core.resources.reference_docs docs
	@$(BIN)/python -m spanyard_local.cli.reference docs/cli.md
	@$(BIN)/python -m spanyard_gateway.search.docs docs/search.md
	@$(BIN)/python charts/generate.py

page: ## build the page that the gateway serves, from gateway/ui (needs npm)
	@cd gateway/ui && npm ci --no-audit --no-fund && npm run build

screens: setup ## take the screenshots of the page in docs/images (needs chromium)
	@$(BIN)/python -m tests.e2e.screens

cluster: setup ## a Kubernetes for tests on this machine, with our images (ARGS=--fresh: a new one)
	@$(BIN)/python -m tests.cluster up $(ARGS)

cluster-prepare: setup # programs and images for a required cluster, beside lint and the other tests
	@$(BIN)/python -m tests.cluster prepare

cluster-down: setup ## end it; images are kept
	@$(BIN)/python -m tests.cluster down

COMPILE := $(UV) pip compile -q --universal --python-version 3.11 --generate-hashes --no-annotate --no-header
chart: setup ## regenerate what the chart says twice: schema, CRDs, dashboards, docs of values and alerts
	@$(BIN)/python charts/generate.py

lock: ## refresh requirements/*.lock; the images get the versions that were tested
	@$(COMPILE) --extra dev pyproject.toml -o $(LOCK)
	@$(COMPILE) -c $(LOCK) --extra sidecar pyproject.toml -o requirements/images-sidecar.lock
	@$(COMPILE) -c $(LOCK) --extra operator pyproject.toml -o requirements/images-operator.lock
	@$(COMPILE) -c $(LOCK) --extra local pyproject.toml -o requirements/images-server.lock
	@echo 'hatchling==1.33.0' | $(COMPILE) - -o requirements/images-build.lock

clean: ## remove what the targets made
	rm -rf $(VENV) .demo .spanyard .mypy_cache .ruff_cache .pytest_cache .hypothesis
