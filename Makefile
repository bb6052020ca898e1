.PHONY: setup run test check clean
GAME ?= doom/my_way_home
PY := .venv/bin/python
PACKAGES := -e shared[model,recording] $(patsubst %,-e services/%,gateway reconstructor sampler recorder trainer) -e clients/python[atari,doom] -e cli

setup: .venv/.stamp  ## a virtual environment with everything, from pinned versions

.venv/.stamp: constraints.txt pyproject.toml $(wildcard */pyproject.toml */*/pyproject.toml)
	python3 -m venv .venv
	$(PY) -m pip install --disable-pip-version-check -q -c constraints.txt $(PACKAGES) -r requirements-dev.txt
	touch $@

run: setup  ## the whole system and a game: make run GAME=atari/pong
	.venv/bin/sgaps up --play $(GAME)
