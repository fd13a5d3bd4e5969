# `make demo` and `make test` do their own set-up, in .venv, on a machine that has nothing but Python 3.11 or newer.
# Another interpreter: make test PYTHON=python3.12. Another folder: make test VENV=/tmp/env.

VENV ?= .venv
PYTHON ?= $(shell for python in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && exit; done; echo python3)
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --disable-pip-version-check --constraint constraints.txt
TORCH := $(shell grep '^torch==' constraints.txt)

.PHONY: help demo test lint types docs tests clean
.DELETE_ON_ERROR:

help:
	@echo "make demo   find the knowledge neurons of facts and the salient neurons of linguistic labels in the model in the"
	@echo "            package, prove them, write an atlas and a report of each: neuronatlas-demo/facts, .../language"
	@echo "make test   check style and types, build the docs, run all tests"
	@echo "make docs   build the documentation: docs/_build/html/index.html"
	@echo "make clean  remove $(VENV) and what tools leave behind"

demo: $(VENV)/.package
	$(BIN)/neuronatlas demo

test: lint types docs tests

lint: $(VENV)/.dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check

types: $(VENV)/.dev
	$(BIN)/mypy

# A new build each time: pages are made from the code. A warning is an error.
docs: $(VENV)/.dev
	$(BIN)/sphinx-build --builder html --fresh-env --write-all --nitpicky --fail-on-warning --quiet docs docs/_build/html

# A file stays in one process: the examples of a page follow each other, and what a module's tests share is made once.
tests: $(VENV)/.dev
	$(BIN)/pytest -n 2 --dist loadfile

# The stamps stand for what is installed: touching a file that decides on it installs again, anything else does not.
$(VENV)/.torch: constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Python 3.11 or newer expected, $(PYTHON) is not: make PYTHON=python3.12 ..." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(PIP) $(TORCH)
	@touch $@

$(VENV)/.package: $(VENV)/.torch pyproject.toml
	$(PIP) --editable .
	@touch $@

$(VENV)/.dev: $(VENV)/.package
	$(PIP) --editable '.[dev,docs]'
	@touch $@

clean:
	rm -rf $(VENV) docs/_build .hypothesis .mypy_cache .pytest_cache .ruff_cache build dist
