.PHONY: help setup run check test clean
.DEFAULT_GOAL := help
GAME ?= doom/my_way_home
PY := .venv/bin/python
SERVICES := gateway reconstructor sampler recorder trainer
PACKAGES := -e shared[model,recording] $(SERVICES:%=-e services/%) -e clients/python[atari,doom] -e cli
DECLARATIONS := constraints.txt requirements-dev.txt $(wildcard */pyproject.toml */*/pyproject.toml)

help:  ## this list
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/'

setup: .venv/.stamp  ## a virtual environment in .venv with everything, from pinned versions

.venv/.stamp: $(DECLARATIONS)
	python3 -m venv .venv
	$(PY) -m pip install --disable-pip-version-check -q -c constraints.txt $(PACKAGES) -r requirements-dev.txt
	touch $@

run: setup  ## the whole system and a game: make run GAME=atari/pong
	.venv/bin/sgaps up --play $(GAME)

check: setup  ## lint and types
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy

test: check  ## everything that CI runs
	.venv/bin/pytest

clean:  ## remove the environment and all caches, never data/
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .hypothesis
