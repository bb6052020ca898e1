.PHONY: help setup run secrets check test test-compose test-faults audit bench benchmark-quality benchmark-specialise clean
.DEFAULT_GOAL := help
GAME ?= doom/my_way_home
SESSIONS ?= 8
MINUTES ?= 1 5 20
QUALITY_GAMES ?= doom/my_way_home doom/freedoom2-map01 doom/deathmatch doom/health_gathering_supreme \
	atari/pong atari/breakout atari/seaquest atari/space_invaders
PY := .venv/bin/python
# Folders whose tests run two at a time; those of tests/faults measure times, and run alone afterwards.
TRAINING := tests/training
DEPLOYING := tests/compose
COMPUTING := tests/unit
CHECKING := tests/unity tests/monitoring tests/kubernetes tests/hostile
SHOWING := tests/e2e
BROWSING := tests/browser
TALKING := tests/contract tests/integration
LANES := DEPLOYING TRAINING TALKING SHOWING BROWSING COMPUTING CHECKING
COMMA := ,
SERVICES := gateway reconstructor sampler recorder trainer
PACKAGES := -e shared[model,recording,site,tracing] $(patsubst %,-e services/%,$(SERVICES:trainer=trainer[evaluate$(COMMA)perceptual$(COMMA)wandb])) -e clients/python[atari,doom] -e cli[profile$(COMMA)replay]
# A capture that was cut off does not pass for a whole one.
captured = { [ -d $(3) ] || { rm -rf $(3).part && .venv/bin/sgaps capture $(1) $(2) --out $(3).part >&2 && mv $(3).part $(3); }; }
DECLARATIONS := constraints.txt requirements-dev.txt $(wildcard */pyproject.toml */*/pyproject.toml)

help:  ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/'

setup: .venv/.stamp  ## a virtual environment in .venv with everything, from pinned versions

.venv/.stamp: $(DECLARATIONS)
	python3 -m venv .venv
	$(PY) -m pip install --disable-pip-version-check -q -c constraints.txt $(PACKAGES) -r requirements-dev.txt
	touch $@

run: setup  ## the whole system and a game: make run GAME=atari/pong
	.venv/bin/sgaps up --play $(GAME)

# Docker would make the folder as root. Its owner writes in it: in that container root has no rights that others lack.
secrets:  ## passwords and a token in secrets/, before the first docker compose up
	-@chmod -R a+rX monitoring 2>/dev/null  # a checkout may be readable for its owner alone; containers have other users
	@folder=$$(docker compose --profile setup config --format json secrets | sed -n 's/.*"source": *"\([^"]*\)".*/\1/p') && \
	  mkdir -p "$$folder" && docker compose run --rm --build --user "$$(stat -c %u:%g "$$folder")" secrets

check: setup  ## lint and types
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy

test-faults: setup  ## real processes killed, frozen, cut off, flooded: the long form, half an hour on two cores
	.venv/bin/pytest tests/faults --long -o faulthandler_exit_on_timeout=false  # a million inputs take their time

test: setup  ## everything that CI runs
	@$(MAKE) --no-print-directory --jobs 2 check $(addprefix .test-,$(LANES))
	.venv/bin/pytest $(addprefix --ignore=,$(foreach lane,$(LANES),$($(lane))))

.test-TRAINING:
	OMP_NUM_THREADS=1 .venv/bin/pytest $(TRAINING)

.test-%:  # told when it is over: two at a time cannot be read; services of one name keep their health in TMPDIR
	@folder=$$(mktemp -d); trap 'cat $$folder/log; rm -rf $$folder' EXIT; trap 'exit 130' INT TERM; \
	  TMPDIR=$$folder OMP_NUM_THREADS=1 .venv/bin/pytest -p no:cacheprovider $($*) >$$folder/log 2>&1

.test-BROWSING: .test-DEPLOYING  # an engine makes networks, and Chromium drops its connections whenever one comes

test-compose: setup  ## the deployment on a Docker engine, which root gets installed and started
	CI=1 .venv/bin/pytest tests/compose

benchmark-quality: setup  ## the shipped checkpoint on held-out play: PSNR and SSIM beside every baseline
	@for game in $(QUALITY_GAMES); do key=$${game%%/*}-$${game#*/}; \
	  $(call captured,$$game,--seed 500 --sessions 8 --frames 31,data/held-out/$$key) && \
	  .venv/bin/sgaps evaluate --key $$key "data.test=[data/held-out/$$key]" --frames 31 \
	    --picture data/held-out/$$key.png data.checkpoints_dir=data/held-out/none || exit 1; echo; done

benchmark-specialise: setup  ## what 1, 5 and 20 minutes of training on a level's own play are worth there; three quarters of an hour
	@key=$(subst /,-,$(GAME)); of=data/specialise/$$key/$(SESSIONS)-sessions; play=$$of/play; held_out=data/held-out/$$key; \
	  $(call captured,$(GAME),--seed 10 --sessions $(SESSIONS) --frames 300,$$play) && \
	  $(call captured,$(GAME),--seed 500 --sessions 8 --frames 31,$$held_out) && \
	  for minutes in $(MINUTES); do root=$$of/after-$$minutes-minutes; rm -rf $$root; \
	  .venv/bin/sgaps train --key $$key training=specialise training.max_secs=$$((60 * minutes)) \
	    data.recordings_dir=$$play data.checkpoints_dir=$$root && \
	  .venv/bin/sgaps evaluate --key $$key "data.test=[$$held_out]" --frames 31 data.checkpoints_dir=$$root || exit 1; echo; done

bench: setup  ## speed of every part as a ratio to a floor, what a frame costs, how many can play: ten minutes on two quiet cores
	@for part in gateway bus pipeline recorder model scaling sessions alternatives stages; do \
	  .venv/bin/sgaps bench $$part || exit 1; echo; done

audit:  ## known vulnerabilities of the pinned versions; asks an advisory service, so no part of test
	@python3 -m venv .venv-audit && .venv-audit/bin/pip install --disable-pip-version-check -q pip-audit==2.10.1
	@.venv-audit/bin/pip-audit --strict --progress-spinner off --disable-pip --no-deps -r constraints.txt \
	  || { echo "audit: not clean, or not complete where the advisory service does not know a package; the lines above say which" >&2; exit 1; }

clean:  ## remove the environment and all caches, never data/
	rm -rf .venv .venv-audit .pytest_cache .mypy_cache .ruff_cache .hypothesis
