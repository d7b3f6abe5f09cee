# Everything happens in .venv, which the targets build. Needed beforehand: python 3.10 or later with venv, make, git.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check
STAMPS := $(VENV)/.stamps
DEMO := output/demo.mp4
PROMPT ?= a hammer strikes an iron anvil three times

# Images of containers set it. Modules that are never kept compiled are compiled anew in every process: twice the time.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test test-slow lint surface bench card clean
.DEFAULT_GOAL := demo

# Make a sounding clip with the bundled pocket model, and a picture that shows what coincides.
demo: $(STAMPS)/eval
	$(BIN)/sounding-video generate "$(PROMPT)" --models pocket --seed 7 --output $(DEMO)
	@$(BIN)/sounding-video probe $(DEMO) --picture $(DEMO:.mp4=.png)
	@echo "The clip is in $(CURDIR)/$(DEMO)"

# Every test that takes less than a minute. A file's tests stay in one process, which share what the file builds.
PARALLEL ?= --numprocesses auto --maxprocesses 4 --dist loadfile
test: $(STAMPS)/dev
	$(BIN)/python -m pytest -q -m "not slow" $(PARALLEL)

# The slow ones too.
test-slow: $(STAMPS)/dev
	$(BIN)/python -m pytest -q

lint: $(STAMPS)/lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# Nodes and inputs against the last release: what saved workflows depend on.
surface:
	$(PYTHON) .ci/surface.py

# Each benchmark prints its own table. These want no folder for their state, no server and no card, and end within minutes.
BENCHMARKS := compiled convolutions joint_step lexicon_speed metrics_on_truth peak_memory roofline same_bytes startup thread_counts world_detectors
bench: $(STAMPS)/dev
	@set -e; for name in $(BENCHMARKS); do echo "== $$name"; $(BIN)/python benchmarks/$$name.py; done

# Every way in which a CUDA card is used, in at most eight minutes; nothing is downloaded. Writes benchmarks/card.md.
card: $(STAMPS)/run
	$(BIN)/python benchmarks/card.py --write

clean:
	rm -rf $(VENV) output build dist *.egg-info .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

# The package itself, editable, with what a machine without ComfyUI needs. Modules are compiled when they are first
# imported: most of what is installed never is.
$(STAMPS)/run: requirements-standalone.txt pyproject.toml setup.py | $(BIN)/python
	$(PIP) install --no-compile -r requirements-standalone.txt
	$(PIP) install --no-deps -e .
	@mkdir -p $(@D) && touch $@

# What measures and draws.
$(STAMPS)/eval: requirements/eval.txt $(STAMPS)/run
	$(PIP) install --no-compile -r requirements/eval.txt
	@touch $@

$(STAMPS)/dev: requirements/dev.txt requirements/eval.txt requirements/llm.txt requirements/train.txt $(STAMPS)/run
	$(PIP) install --no-compile -r requirements/dev.txt -r requirements/eval.txt -r requirements/llm.txt -r requirements/train.txt
	@touch $@

# Linting needs nothing of the models: ruff alone, in the version that the tests use.
$(STAMPS)/lint: requirements/dev.txt | $(BIN)/python
	$(PIP) install "$$(grep '^ruff' requirements/dev.txt)"
	@mkdir -p $(@D) && touch $@
