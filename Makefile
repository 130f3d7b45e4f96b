# make demo: the whole line on generated videos.   make test: lint, types, tests.   make docs: the site, build/site.
# Needs Python 3.11+ and make.
PYTHON ?= python3
BIN := .venv/bin
CONSTRAINTS ?= constraints.txt

.PHONY: install demo test test-fast lint types tests coverage docs clean

install: .venv/installed

.venv/installed: pyproject.toml $(CONSTRAINTS)
	$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "keyframe needs Python 3.11 or newer: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(if $(CONSTRAINTS),--constraint $(CONSTRAINTS)) --editable '.[dev]'
	touch $@

demo: install
	$(BIN)/keyframe-train experiment=demo

test: lint types tests

lint: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: install
	$(BIN)/mypy

tests: install
	$(BIN)/python -m pytest -n 2 --dist worksteal

test-fast: install
	$(BIN)/python -m pytest -n 2 --dist worksteal -m fast

coverage: install
	$(BIN)/python -m pytest -n 2 --dist worksteal --cov --cov-report=term-missing:skip-covered

docs: install
	$(BIN)/mkdocs build --strict --quiet

clean:
	rm -rf build .venv .pytest_cache .mypy_cache .ruff_cache
