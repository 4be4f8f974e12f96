# Every target creates .venv when it is missing and installs from constraints.txt (exact pins).
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed
# The requirements of the build are pinned by the same file.
PIP := PIP_CONSTRAINT=constraints.txt PIP_BUILD_CONSTRAINT=constraints.txt PIP_DISABLE_PIP_VERSION_CHECK=1 $(BIN)/pip
NATIVE := $(wildcard src/native/*) CMakeLists.txt

.DEFAULT_GOAL := help
.PHONY: help demo test lint docs bench clean

help:
	@echo "make demo    install, then run the whole story into runs/demo (under 3 minutes)"
	@echo "make test    install, then run the tests"
	@echo "make lint    ruff, mypy and the import rules"
	@echo "make docs    build the documentation into site/"
	@echo "make bench   run the benchmarks into benchmarks/results/"
	@echo "make clean   remove everything that was built"

$(INSTALLED): pyproject.toml constraints.txt $(NATIVE)
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 10) else "python %d.%d: expected 3.10 or newer; pass PYTHON=python3.11" % sys.version_info[:2])'
	test -x $(BIN)/pip || $(PYTHON) -m venv .venv
	$(PIP) install --quiet pip
	$(PIP) install --quiet --editable '.[data]' --group test --group lint --group docs
	touch $@

demo: $(INSTALLED)
	$(BIN)/unknot demo --out runs/demo

test: $(INSTALLED)
	$(BIN)/pytest -n 2

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(INSTALLED)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

bench: $(INSTALLED)
	$(BIN)/python benchmarks/activation.py
	$(BIN)/python benchmarks/pruning.py

clean:
	rm -rf .venv build dist runs site .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find src tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
