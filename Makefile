# Everything that is done to this project by hand. `make help` lists it.
# VENV=folder and PYTHON=interpreter choose another environment; ARGS="..." is passed on to the program.

VENV ?= .venv
ARGS ?=
BIN := $(VENV)/bin
TEST_PROCESSES ?= 2
export VENV

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help demo install test test-all check format bench chaos simulate manifest lock clean

help:  ## list the targets
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "make %-10s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

demo:  ## from nothing to a map: install into .venv, start everything, run the sample workflow
	@tools/install.sh demo
	@$(BIN)/dagmaster demo $(ARGS)

install:  ## install what `make demo` needs into .venv, and start nothing
	@tools/install.sh demo

test:  ## run the default set of tests (ARGS="tests/db -k lock" for some)
	@tools/install.sh test
	@$(BIN)/python -m pytest -n $(TEST_PROCESSES) --dist loadfile $(ARGS)

test-all:  ## run the default set and the long tests
	@tools/install.sh test
	@$(BIN)/python -m pytest -n $(TEST_PROCESSES) --dist loadfile -m "not chaos" $(ARGS)

check:  ## lint, format, types and the import rule, without changing anything
	@tools/install.sh test
	@status=0; for tool in "ruff check ." "ruff format --check ." "mypy" "lint-imports --no-logo"; do \
		echo "== $$tool"; $(BIN)/$$tool || status=1; done; exit $$status

format:  ## put the code into the house format and mend what ruff can mend
	@tools/install.sh test
	@$(BIN)/ruff check --fix-only .
	@$(BIN)/ruff format .

bench:  ## measure, beside peers in the same run (ARGS=--quick for a few minutes)
	@tools/install.sh test
	@$(BIN)/python -m bench $(ARGS)

chaos:  ## kill processes under load, and simulate at length
	@tools/install.sh test
	@$(BIN)/python -m pytest -m chaos --timeout 7200 $(ARGS)

simulate:  ## run seeds of the simulation (ARGS="--seeds 7:8 --mode all")
	@tools/install.sh test
	@cd tests && ../$(BIN)/python -m simulation $(ARGS)

manifest:  ## write the list of handlers that processes without GDAL read
	@tools/install.sh demo
	@$(BIN)/python -m dagmaster.handlers.manifest $(ARGS)

lock:  ## make the lock files in requirements/ again (ARGS=--upgrade for newer versions)
	@tools/install.sh test
	@tools/lock.sh $(ARGS)

clean:  ## remove .venv and what tools leave behind; data folders stay
	@rm -rf $(VENV) $(VENV).lock .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis build dist
	@find src tests -name __pycache__ -type d -prune -exec rm -rf {} +
