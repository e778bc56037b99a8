# The words people say. Everything needs only Python >= 3.11 and make; the tests also Java + Maven or Docker.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: help .venv demo dev test lint bench bench-debezium docs faults soak crashes k8s k8s-check clean
.DEFAULT_GOAL := help

help: ## This list
	@grep -E '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

.venv: .venv/installed

# A stamp and not the directory, which is there as soon as an installation that may fail has begun.
.venv/installed: requirements.lock requirements-dev.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "sre-domain needs Python 3.11 or newer")'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes --requirement requirements-dev.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps --editable .
	@touch $@

demo: .venv/installed ## The main job on real traffic: embedded stack, error budgets, every outcome checked
	$(BIN)/sre-domain demo

dev: .venv/installed ## The embedded stack, until Ctrl-C
	$(BIN)/sre-domain dev

test: .venv/installed ## All tests, on a real PostgreSQL and a real Apache Kafka
	$(BIN)/python -m pytest -n 3 --dist worksteal

lint: .venv/installed ## ruff, mypy --strict, import-linter
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: .venv/installed ## One table: an empty Faust agent, this worker end to end, the textbook worker
	$(BIN)/python -m bench
	$(BIN)/python -m bench.per_intent

docs: .venv/installed ## The documentation as a site that needs no network: build/site/index.html
	$(BIN)/python -m handbook

bench-debezium: .venv/installed ## The relay beside a real Debezium: throughput, processor, latency, memory
	$(BIN)/python -m bench.debezium

SEEDS ?= 1 2 3
faults: .venv/installed ## Workers, relays, Kafka and PostgreSQL broken by schedule, a run a seed: SEEDS="1 2 3"
	$(BIN)/python -m tests.faults.harness faults --seeds "$(SEEDS)"

HOURS ?= 1
RATE ?= 2000
soak: .venv/installed ## The same in one long run, a fault every 10 s: HOURS=1 RATE=2000
	$(BIN)/python -m tests.faults.harness soak --hours $(HOURS) --rate $(RATE)

N ?= 20
crashes: .venv/installed ## The crash tests N times in a row
	CRASH_RUNS=$(N) $(BIN)/python -m pytest tests/faults -k crash

SECONDS ?= 60
fuzz: .venv/installed ## Hostile input for every parser, guided by coverage, each for SECONDS=60
	$(BIN)/python -m tests.fuzz --seconds $(SECONDS)

k8s: .venv/installed ## Write the manifests that follow from the code: topics, users, alerts, dashboard
	$(BIN)/python k8s/generate.py

k8s-check: .venv/installed ## kustomize, schemas, our own rules, promtool: what is under k8s/ and the Dockerfile's steps
	$(BIN)/python -m pytest tests/k8s

clean: ## Remove what was built
	rm -rf .venv build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
