# Two commands: `make demo` shows mailgate at work, `make test` checks everything. Both need python3 (3.11 or newer)
# with its venv module, and nothing else: what they use goes into .venv here.

PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check

# else each of the thousand commands that the tests run compiles everything anew
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help demo test clean

help:
	@echo "make demo    the whole life of some sample mail on this machine, then the commands to look at it"
	@echo "make test    every test, then the style, type and import checks"
	@echo "make clean   remove .venv and everything else that was made here"

demo: .venv/ready
	@$(BIN)/mailgate demo

test: .venv/ready-for-tests
	@echo "== pytest: the tests"
	@$(BIN)/python -m pytest -n auto --maxprocesses 2 --dist worksteal
	@echo "== ruff check: mistakes and style"
	@$(BIN)/ruff check
	@echo "== ruff format: layout"
	@$(BIN)/ruff format --check
	@echo "== mypy: types"
	@$(BIN)/mypy
	@echo "== lint-imports: who may import whom"
	@$(BIN)/lint-imports
	@echo "== all passed"

clean:
	rm -rf .venv build dist mailgate-demo *.egg-info
	rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/made:
	@command -v $(PYTHON) >/dev/null || \
	  { echo "mailgate needs Python 3.11 or newer: apt-get install python3 python3-venv" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "mailgate needs Python 3.11 or newer, and $(PYTHON) is $$($(PYTHON) -V 2>&1);" \
	         "say which one to use: make PYTHON=python3.12 ..." >&2; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || \
	  { echo "Python's venv module is missing: apt-get install python3-venv" >&2; exit 1; }
	@echo "== making .venv"
	@$(PYTHON) -m venv .venv
	@touch $@

.venv/ready: .venv/made pyproject.toml
	@echo "== installing mailgate into .venv"
	@$(PIP) install --quiet --editable .
	@touch $@

# uvloop makes things faster and is not to be had everywhere: without it everything works.
.venv/ready-for-tests: .venv/made pyproject.toml
	@echo "== installing mailgate and what tests it into .venv"
	@$(PIP) install --quiet --only-binary uvloop --editable '.[test,fast]' 2>.venv/with-uvloop.log || \
	  { echo "   not with uvloop (.venv/with-uvloop.log says why): going on without"; \
	    $(PIP) install --quiet --editable '.[test]'; }
	@touch .venv/ready $@
