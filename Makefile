# Every target installs what it needs into .venv by itself, once. `make` alone lists the targets.
PYTHON ?= python3
ARGS ?=
VENV := .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch -e

.DEFAULT_GOAL := help
.PHONY: help sample test browser check docs bench solvers pages core versions release clean

help:  ## list the targets
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 16

sample: $(VENV)/.run  ## draw 64 digits with 10 network evaluations into samples.png
	$(BIN)/dpmsolver sample digits --nfe 10 --num 64 --seed 0 --out samples.png

# One thread for each worker: several of each would take turns on the same cores. Each worker begins with a stretch of the tests of its own, so
# that files share their fixtures, and takes from the others at the end. Compiled files are kept whatever the environment says: the tests start
# Python many times.
test: $(VENV)/.dev  ## run the tests on all cores (options: make test ARGS="-m slow --cov")
	PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist worksteal $(ARGS)

browser:  ## install Debian's chromium, where there is none (as root or with sudo): the report's page is tested in it
	@command -v chromium >/dev/null || { \
		if [ "$$(id -u)" = 0 ]; then as_root=; else as_root="sudo -n"; fi; \
		$$as_root apt-get update -q && DEBIAN_FRONTEND=noninteractive $$as_root apt-get install -y -q --no-install-recommends chromium; }

check: $(VENV)/.dev  ## lint, format, types and import layers; changes nothing
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: $(VENV)/.dev  ## build the documentation into site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

bench: $(VENV)/.dev  ## measure the overhead of the sampling loop
	$(BIN)/python -m benchmarks.overhead $(ARGS)

solvers: $(VENV)/.dev  ## measure the table of solvers, docs/solvers.md (make solvers ARGS=ddim: one of them)
	$(BIN)/python -m benchmarks.solvers $(ARGS)

pages: $(VENV)/.dev  ## write the tables and figures of README and docs from the figures in benchmarks/results
	$(BIN)/python -m benchmarks.render
	$(BIN)/python -m benchmarks.choice --render
	$(BIN)/python benchmarks/names.py

core:  ## try the wheel in a clean environment with the core alone (options: PYTHON=python3.12)
	PYTHON=$(PYTHON) .ci/core

versions:  ## test every Python here, with the oldest and the newest NumPy (options: ARGS=3.12)
	.ci/versions $(ARGS)

release: $(VENV)/.release  ## build wheel and sdist into dist/, check them, and try both in clean environments
	rm -rf dist
	$(BIN)/python -m build --outdir dist
	$(BIN)/twine check --strict dist/*
	for made in dist/*; do PYTHON=$(PYTHON) .ci/core $$made || exit 1; done

clean:  ## remove what the other targets made (but not .venv)
	rm -rf dist site samples.png .coverage .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +

# The stamps. Both are one install with the pinned versions; the second holds everything the first does.
$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.run: pyproject.toml constraints.txt | $(BIN)/python
	$(INSTALL) ".[cli]"
	touch $@

$(VENV)/.release: constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt build twine
	touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(BIN)/python
	$(INSTALL) ".[dev]"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt --no-deps k-diffusion azula
	touch $(VENV)/.run $@
