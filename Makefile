# Two commands do all the set-up on a fresh machine: `make demo` and `make test`.
VENV ?= .venv
JOBS ?= 2
BIN = $(VENV)/bin

# As typed: make would expand a dollar sign in the text.
export GENRL_PROMPT := $(value PROMPT)
# Second threads on busy cores cost far more than they gain.
test pytest: export OMP_NUM_THREADS = 1

.DEFAULT_GOAL := help
.PHONY: help demo test check pytest format clean setup setup-dev

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## */make \1\t/' | expand -t 16

# Only a PROMPT given to make counts: some shells have a variable of that name for other ends.
demo: setup  ## a prompt becomes a behaviour: make demo PROMPT="standing up straight"
ifeq ($(origin PROMPT),command line)
	$(BIN)/genrl demo --prompt "$$GENRL_PROMPT"
else
	$(BIN)/genrl demo
endif

test: check pytest  ## checks and tests, as CI runs them

check: setup-dev  ## ruff, ruff format, mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

pytest: setup-dev
	$(BIN)/python -m pytest -n $(JOBS) -q

format: setup-dev  ## mend what ruff can mend
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

setup:
	@sh scripts/setup.sh "$(VENV)"

setup-dev:
	@sh scripts/setup.sh "$(VENV)" dev

clean:  ## remove caches and the virtual environment, never runs or data
	rm -rf .venv build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
