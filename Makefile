.DEFAULT_GOAL := help
.PHONY: help install lock demo check format format-check lint type test test-slow test-built test-lowest \
	test-newest soak mutants bench clean \
	pocket-data pocket-vae pocket-clip pocket-unet pocket-detectors pocket-assemble pocket-measure pocket

VENV ?= .venv
BIN := $(VENV)/bin
PYTHON ?= python3
LOCKED := --quiet --require-hashes --no-build-isolation --use-pep517
RESOLVE := $(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes \
	--no-annotate --custom-compile-command 'make lock'

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## */\t/' | expand -t 18

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "unlearn needs Python 3.11 or newer: make PYTHON=/path/to/python3.11")'
	$(PYTHON) -m venv $(VENV)

# The lock names what builds the others first, so that nothing is ever built with what it does not name.
$(BIN)/unlearn: pyproject.toml requirements/build.txt requirements/dev.txt | $(VENV)/bin/python
	$(BIN)/python -m pip install $(LOCKED) -r requirements/build.txt
	$(BIN)/python -m pip install $(LOCKED) -r requirements/dev.txt
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

install: $(BIN)/unlearn  ## a virtual environment in .venv with everything that tests and demo need, as it was locked

lock: $(BIN)/unlearn  ## renews requirements/: the newest versions that pyproject.toml allows, with their hashes
	$(RESOLVE) pyproject.toml --extra dev --output-file requirements/dev.txt
	echo setuptools | $(RESOLVE) - --constraints requirements/dev.txt --output-file requirements/build.txt

demo: install  ## installs if need be, erases nudity from the pocket model and reports (minutes, no GPU)
	$(BIN)/unlearn run eval=quick

check: format-check lint type test  ## all that a change must pass

format: install  ## lays the code out
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix-only --quiet .

format-check: install  ## whether the code is laid out
	$(BIN)/ruff format --check .

lint: install  ## looks for mistakes without running anything
	$(BIN)/ruff check .

type: install  ## mypy, strictly
	$(BIN)/mypy

test: install  ## the tests (on two cores, under twenty minutes)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2

test-slow: install  ## the tests that are left out otherwise, too
	$(BIN)/python -m pytest -m 'not gpu'

test-built: install  ## the demo from the wheel and the sdist outside of this folder; the example of a plug-in, installed
	$(BIN)/python -m pytest -m slow tests/test_packaging.py tests/plugins

test-lowest: install  ## the tests with the lowest versions that pyproject.toml declares, in .venv-lowest
	test -x .venv-lowest/bin/python || $(PYTHON) -m venv .venv-lowest
	$(BIN)/python -m scripts.lowest > .venv-lowest/requirements.txt
	.venv-lowest/bin/python -m pip install --quiet -r .venv-lowest/requirements.txt
	.venv-lowest/bin/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	OMP_NUM_THREADS=1 .venv-lowest/bin/python -m pytest -n 2

test-newest:  ## the tests with the newest versions there are, in .venv-newest
	test -x .venv-newest/bin/python || $(PYTHON) -m venv .venv-newest
	.venv-newest/bin/python -m pip install --quiet --upgrade --upgrade-strategy eager --editable '.[dev]'
	OMP_NUM_THREADS=1 .venv-newest/bin/python -m pytest -n 2

soak: install  ## kills 60 small runs at random moments; what each ends with must not change (20 minutes)
	$(BIN)/python -m scripts.soak --kills 60

mutants: install  ## puts 200 small mistakes into the code that scores; the tests must see 90 % (some minutes)
	$(BIN)/python -m scripts.mutants

pocket-data: install  ## renders the data set of the pocket model and trains its tokenizer (5 minutes)
	$(BIN)/python -m scripts.pocket.data
	$(BIN)/python -m scripts.pocket.tokenizer

pocket-vae: install  ## its autoencoder (15 minutes a core); this and the next go on where they were stopped
	$(BIN)/python -m scripts.pocket.vae

pocket-clip: install  ## its text tower (15 minutes a core)
	$(BIN)/python -m scripts.pocket.clip start

pocket-unet: install  ## its denoiser (hours a core)
	$(BIN)/python -m scripts.pocket.unet

pocket-detectors: install  ## its judge and its scoring CLIP (an hour a core)
	$(BIN)/python -m scripts.pocket.judge
	$(BIN)/python -m scripts.pocket.clip scorer

pocket-assemble: install  ## puts the parts into unlearn/data/pocket
	$(BIN)/python -m scripts.pocket.assemble

pocket-measure: install  ## the figures of its model card, and its judge's own errors
	$(BIN)/python -m scripts.pocket.measure
	$(BIN)/python -m scripts.pocket.judge_card

pocket: pocket-data pocket-vae pocket-clip pocket-unet pocket-detectors pocket-assemble  ## all of them

reproduce-closed-form: install  ## docs/results/closed_form.md: closed-form methods and guards on pocket (an hour or two)
	$(BIN)/python -m scripts.reproduce closed_form

reproduce-trained: install  ## docs/results/trained.md: trained methods on pocket (two or three hours)
	$(BIN)/python -m scripts.reproduce trained

reproduce-robustness: install  ## docs/results/robustness.md: attacks and resurgence on pocket (some hours)
	$(BIN)/python -m scripts.reproduce robustness

reproduce-%: install  ## one method's part of its table, such as reproduce-rece; prints it
	$(BIN)/python -m scripts.reproduce --methods $*

bench: install  ## how fast things are here
	$(BIN)/python -m scripts.bench.sampling
	$(BIN)/python -m scripts.bench.closed_form
	$(BIN)/python -m scripts.bench.multi_concept
	$(BIN)/python -m scripts.bench.guards
	$(BIN)/python -m scripts.bench.training
	$(BIN)/python -m scripts.bench.attacks

clean:  ## removes caches and builds; never outputs/
	rm -rf build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -not -path './.venv*/*' -prune -exec rm -rf {} +
