# `make help` lists everything. Each target makes .venv first if it is missing or out of date.
.DEFAULT_GOAL := help
.PHONY: help install wheel demo redis test lint format types reference imports bench chaos up down clean

# The first that really runs: a version manager's shim may stand for nothing.
PYTHON  ?= $(shell for one in python3.11 python3; do $$one -c "" 2>/dev/null && echo $$one && break; done)
VENV    := .venv
PY      := $(VENV)/bin/python
STAMP   := $(VENV)/.installed
# Node, in which pyright runs, brings certificates of its own: those of this machine count too.
export NODE_EXTRA_CA_CERTS ?= $(if $(PYTHON),$(shell $(PYTHON) -c "import ssl; print(ssl.get_default_verify_paths().cafile or '')"))
# What pytest runs: make test TESTS=tests/unit
TESTS   ?= tests
# Test processes. Acceptance tests wait more than they work: two for each of two cores.
JOBS    ?= 4
# A file stays in one process, which makes its stack once; files start in order, since acceptance tests take longest.
DIST    := --dist loadfile --no-loadscope-reorder
# Rounds of the benchmarks, in which Postback and its rivals take turns.
ROUNDS  ?= 3
# Where the Redis for trying out listens.
PORT    ?= 6379
# How long the chaos run goes on.
MINUTES ?= 10

help: ## This list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(STAMP) ## Make .venv with everything; quick when nothing changed

# pip writes half an environment when it is interrupted: the stamp comes last.
$(STAMP): setup.cfg setup.py pyproject.toml
	@test -n "$(PYTHON)" || { echo "no python3.11 or python3 found; run make PYTHON=/path/to/python"; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "$(PYTHON) is older than Python 3.11; run make PYTHON=/path/to/python"; exit 1; }
	test -x $(PY) || "$(PYTHON)" -m venv $(VENV)
	$(PY) -m pip install --quiet --disable-pip-version-check --editable ".[worker,journal,dev]"
	@touch $@

# What an earlier build left in build/ would get into the wheel.
wheel: $(STAMP) ## The wheel that applications install, into dist/, and the lines that install it
	@rm -rf build dist/postback-*.whl
	@$(PY) -m pip wheel --quiet --disable-pip-version-check --no-deps --no-build-isolation --wheel-dir dist .
	@echo "In the environment of your application, one of:"
	@for extra in "" "[django]" "[flask]" "[journal]"; do echo "  pip install '$(CURDIR)/$$(ls dist/postback-*.whl)$$extra'"; done

demo: $(STAMP) ## A worker, the sandbox and some events, on this machine; KEEP=1 leaves it running
	KEEP=$(KEEP) $(PY) -m workers.demo

redis: $(STAMP) ## A Redis for trying out, until Ctrl-C; PORT=6379
	@$(PY) -m workers.devkit $(PORT)

test: lint types imports ## Everything CI runs; TESTS=tests/unit for a part, JOBS=0 for one at a time
	$(PY) -m pytest -n $(JOBS) $(DIST) $(TESTS)

lint: $(STAMP) ## Ruff: rules and format
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

format: $(STAMP) ## Ruff: put into format, mend what it can
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

types: $(STAMP) ## mypy, strict; pyright for the public interface
	$(VENV)/bin/mypy
	$(VENV)/bin/pyright

reference: $(STAMP) ## Write docs/reference/README.md from the code
	$(PY) -m docs.reference.generate

imports: $(STAMP) ## import-linter: workers -> tasks -> config -> postback
	$(VENV)/bin/lint-imports

bench: $(STAMP) ## Against its rivals, into benchmarks/RESULTS.md; ONLY=singles for one line, MILLION=1000000 for the long queue
	MILLION=$(MILLION) $(PY) -m benchmarks --rounds $(ROUNDS) $(if $(ONLY),--only $(ONLY))

chaos: $(STAMP) ## Kill workers and Redis for MINUTES=10 and count what is lost
	$(PY) -m tests.chaos --minutes $(MINUTES)

up: ## Redis, the workers of COMPOSE_PROFILES and Flower in containers; returns when they are healthy
	docker compose up --build --detach --wait
	@echo "Applications on this machine: POSTBACK_BROKER_URL=redis://:REDIS_PASSWORD@$$(docker compose port redis 6379)/0"

down: ## Stop the containers; the queues stay in their volume
	docker compose --profile '*' down

clean: ## Remove .venv, caches and build leftovers
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
