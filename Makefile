# Zerotide. `make help` lists the targets; nothing has to be installed by hand before them.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv/bin
RUNTIME := .venv-runtime/bin
export PYTHONDONTWRITEBYTECODE :=

.PHONY: help up down env test check fix unit runtime e2e soak images pin-images crds tools tools-from-source setup clean lock

help: ## List the targets
	@awk -F':.*## ' '/^[a-z0-9-]+:.*## /{printf "  \033[1m%-18s\033[0m %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo; echo "  Benchmarks, each ends with one line RESULT {json}:"
	@ls bench/bench_*.py 2>/dev/null | sed -E 's#.*/bench_(.*)\.py#    make bench-\1#; s#_#-#g' || true

up: ## Start everything on this machine (or on $$KUBECONFIG's cluster) and talk to a sleeping model
	@$(PYTHON) -m e2e.up

down: ## Remove every process, mount, interface, cgroup and file that `up` made
	@$(PYTHON) -m e2e.up down

env: ## Print shell exports for kubectl, helm, KUBECONFIG and zerotide: eval "$$(make -s env)"
	@$(PYTHON) -m e2e.up env

test: ## Install what is needed, then run all checks and tests
	@$(PYTHON) -m e2e.setup.testrun

setup: ## Make the virtual environments only
	@$(PYTHON) e2e/setup/venvs.py

check: .venv/.stamp .venv-runtime/.stamp ## Static checks: ruff, mypy, import-linter, generated files
	$(VENV)/ruff check .
	$(VENV)/ruff format --check .
	$(VENV)/mypy
	$(RUNTIME)/mypy --cache-dir .mypy_cache/runtime runtime-image tests/runtime/*.py bench/runtime/*.py
	$(VENV)/lint-imports
	$(VENV)/python -m pytest -q tests/repository

fix: .venv/.stamp ## Mend what ruff can mend
	$(VENV)/ruff check --fix .
	$(VENV)/ruff format .

unit: .venv/.stamp ## Unit, property and loopback tests; no root needed
	$(VENV)/python -m pytest -q -n auto --dist loadfile tests -m "not cluster and not soak" --ignore=tests/runtime

runtime: .venv-runtime/.stamp ## The runtime's tests, with torch and a real model
	$(RUNTIME)/python -m pytest -q tests/runtime -m "not soak"

e2e: .venv/.stamp ## Integration and end-to-end tests on a real cluster
	$(VENV)/python -m pytest -q tests e2e -m "cluster and not soak" --ignore=tests/runtime

soak: .venv/.stamp .venv-runtime/.stamp ## Long runs and fault storms: the runtime for half an hour, then a real cluster
	$(RUNTIME)/python -m pytest -q -s tests/runtime -m soak
	$(VENV)/python -m pytest -q tests e2e -m soak --ignore=tests/runtime

images: ## Build all images and load them into the local cluster, if one runs
	@$(PYTHON) -m e2e.images build all --load zerotide

pin-images: ## Write the digests of the base images into the Dockerfiles, as their registry gives them
	@$(PYTHON) -m e2e.images.pin

crds: .venv/.stamp ## Generate crds/ from the Python types
	$(VENV)/python -m zerotide.api.crd crds/
	cp crds/*.yaml charts/zerotide/files/crds/

tools: ## Fetch or build the cluster's programs into the cache
	@$(PYTHON) -m e2e.tools ensure

tools-from-source: ## Prove that every program of the cluster builds from source, into an empty folder
	@$(PYTHON) -m e2e.tools build all --into .build/tools

bench-%: .venv/.stamp ## Run one benchmark; flags in ARGS, as in: make bench-wire ARGS=--quick
	$(VENV)/python -m bench.bench_$(subst -,_,$*) $(ARGS)

lock: ## Lock the dependencies again, with hashes
	@$(PYTHON) -m e2e.setup.lock

clean: ## Remove environments and caches of this checkout
	rm -rf .venv .venv-runtime .venv-tgi .venv-peers .build .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

.venv/.stamp: tests/requirements.txt
	@$(PYTHON) e2e/setup/venvs.py dev

.venv-runtime/.stamp: runtime-image/requirements-test.txt
	@$(PYTHON) e2e/setup/venvs.py runtime tgi
