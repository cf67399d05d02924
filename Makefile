# One command runs it, one command tests it. `make` alone lists them.

PYTHON ?= python3
BROKER ?= auto
BIN    := .venv/bin
READY  := .venv/.installed

.DEFAULT_GOAL := help
.PHONY: help run demo env docs diagrams test test-embedded test-postman test-compose test-cluster test-infra faults faults-compose soak fuzz security lint clean

help:  ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: $(READY)  ## everything on this machine until Ctrl-C (BROKER=embedded: without RabbitMQ)
	@$(BIN)/python -m taskservice.local run --broker $(BROKER)

demo: $(READY)  ## the same, but ends by itself after nine real tasks
	@$(BIN)/python -m taskservice.local demo --broker $(BROKER)

env: | .venv/bin/python  ## write .env for docker-compose with fresh passwords (BIND_ADDRESS=… and other settings; FORCE=1 replaces one)
	@$(BIN)/python -m taskservice.local.env $(filter-out PYTHON=%,$(MAKEOVERRIDES))

docs: $(READY)  ## write DOC/api.md and the Postman collection from the OpenAPI document
	$(BIN)/python -m taskservice.describe

diagrams: | .venv/bin/python  ## draw the pictures of chapter 1 from DOC/diagrams
	$(BIN)/python -m DOC.diagrams

test: $(READY)  ## unit, integration and contract tests, then the acceptance suite on both brokers
	@$(BIN)/python -m taskservice.local.install
	$(BIN)/python -m pytest tests/unit tests/integration tests/contract
	$(BIN)/python test_tasks.py
	BROKER=embedded $(BIN)/python test_tasks.py

test-embedded: $(READY)  ## the acceptance suite on the embedded broker
	BROKER=embedded $(BIN)/python test_tasks.py

test-postman: $(READY)  ## every request of the Postman collection, with newman from npm
	@$(BIN)/python -m taskservice.local.install
	$(BIN)/python -m tests.postman

test-compose: $(READY)  ## the acceptance suite against docker-compose.yml, built and started for it
	bash tests/compose.sh

test-cluster: $(READY)  ## nodes of docker-compose.cluster.yml killed, cut off and restarted under load, every task counted
	bash tests/cluster.sh

test-infra: $(READY) .venv-infra/.installed  ## chapters 2 and 3: their commands, scripts and program (FLEET=1: and a fleet of containers), about 9 minutes
	@$(BIN)/python -m taskservice.local.install
	cd infra && ../.venv-infra/bin/python -m mypy
	cd infra && ../.venv-infra/bin/python -m pytest

faults: $(READY)  ## break everything on purpose and count every task: about 15 minutes
	@$(BIN)/python -m taskservice.local.install
	$(BIN)/python -m pytest tests/faults -m "not soak"

faults-compose: $(READY)  ## the same scenarios against docker-compose.yml, built and started for it
	bash tests/compose-faults.sh

soak: $(READY)  ## random faults every 10 s (MINUTES=10; SEED=… repeats a run)
	@$(BIN)/python -m taskservice.local.install
	SEED=$(SEED) MINUTES=$(MINUTES) $(BIN)/python -m pytest tests/faults/test_soak.py -s

fuzz: $(READY)  ## random requests after /openapi.json, every answer checked: 1 to 4 minutes (SEED=… repeats a run)
	@$(BIN)/python -m taskservice.local.install
	SEED=$(SEED) $(BIN)/python -m pytest tests/fuzz -s

security: $(READY)  ## bad input against the whole system, a search for secrets, known vulnerabilities where a database answers
	@$(BIN)/python -m taskservice.local.install
	$(BIN)/python -m pytest tests/security

lint: $(READY)  ## style, format and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:  ## remove the virtual environment, the local data and all caches
	rm -rf .venv .venv-infra .run .newman .pytest_cache .mypy_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Debian and Ubuntu ship python3 without ensurepip; python3-venv brings it.
.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "$(PYTHON) is older than 3.11; name another: make PYTHON=/path/to/python3.11"; exit 1; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || { \
	  [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null || { echo "Python's venv module is missing: apt-get install python3-venv"; exit 1; }; \
	  apt-get -q update && DEBIAN_FRONTEND=noninteractive apt-get -q install -y --no-install-recommends python3-venv; }
	$(PYTHON) -m venv .venv

$(READY): requirements.txt requirements-dev.txt | .venv/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	@touch $@

# A virtual environment of its own: what infra/ needs is large and nothing else here uses it.
.venv-infra/.installed: requirements-infra.txt | .venv/bin/python
	$(PYTHON) -m venv .venv-infra
	.venv-infra/bin/python -m pip install --quiet --disable-pip-version-check -r requirements-infra.txt
	@touch $@
