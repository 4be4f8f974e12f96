# Every target creates .venv when it is missing and installs from constraints.txt (exact pins).
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed
# The requirements of the build are pinned by the same file.
PIP := PIP_CONSTRAINT=constraints.txt PIP_BUILD_CONSTRAINT=constraints.txt PIP_DISABLE_PIP_VERSION_CHECK=1 $(BIN)/pip
NATIVE := $(wildcard src/native/*) CMakeLists.txt

.DEFAULT_GOAL := help
.PHONY: help demo test test-numeric lint docs axe notebooks figures wheel wheel-test bench bench-engine fuzz fuzz-readers \
  mutants sanitize coverage coverage-python clean
CASES ?= 20000
RUNS ?= 20000
NATIVE_TOOLS := .venv/.native-tools
SITE = $(shell $(BIN)/python -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])')
# A build of the extension alone; -S keeps the editable install of .venv from standing in for it.
define build_native
	mkdir -p build/$(1)/unknot && touch build/$(1)/unknot/__init__.py
	PATH="$(CURDIR)/$(BIN):$$PATH" cmake -S . -B build/$(1) -G Ninja -DCMAKE_BUILD_TYPE=Debug -D$(2)=ON \
	  -DPython_EXECUTABLE="$(CURDIR)/$(BIN)/python" \
	  -DCMAKE_LIBRARY_OUTPUT_DIRECTORY="$(CURDIR)/build/$(1)/unknot" >/dev/null
	PATH="$(CURDIR)/$(BIN):$$PATH" cmake --build build/$(1)
endef

help:
	@echo "make demo    install, then run the whole story into runs/demo (under 3 minutes)"
	@echo "make test    install, then run the tests"
	@echo "make test-numeric  those that hang on rounding, with the instructions of an older processor"
	@echo "make lint    ruff, mypy, the contracts of imports and the spelling"
	@echo "make docs    build the documentation into site/"
	@echo "make axe     then look at each page, and at the demo's report, in Chromium; needs node and npm"
	@echo "make wheel   build the sdist, and from it the wheel, into dist/, and check both"
	@echo "make wheel-test  the wheel in a new environment without a compiler: doctor, demo --quick, the README"
	@echo "make notebooks, make figures  run the tutorials, draw the pictures of the pages"
	@echo "make bench   run the benchmarks into benchmarks/results/"
	@echo "make bench-engine  the engine against ripser.py, RedZeD, giotto-ph and GUDHI"
	@echo "make fuzz    the engine against ripser and GUDHI on CASES=20000 random cases; resumable"
	@echo "make fuzz-readers  the file readers under atheris, RUNS=20000 inputs"
	@echo "make mutants  the tests against faults put into the code, by mutmut; resumable"
	@echo "make sanitize, make coverage  the engine's tests under ASan and UBSan, or with gcov"
	@echo "make coverage-python  the lines and branches that the tests run, other processes included"
	@echo "make clean   remove everything that was built"

$(INSTALLED): pyproject.toml constraints.txt $(NATIVE)
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 10) else "python %d.%d: expected 3.10 or newer; pass PYTHON=python3.11" % sys.version_info[:2])'
	test -x $(BIN)/pip || $(PYTHON) -m venv .venv
	$(PIP) install --quiet pip
	$(PIP) install --quiet --editable '.[all]' --group test --group lint --group docs
	touch $@

demo: $(INSTALLED)
	$(BIN)/unknot demo --out runs/demo

test: $(INSTALLED)
	$(BIN)/pytest -n 2

# Without AVX-512, and torch's own loops without AVX2: other sums, rounded otherwise.
test-numeric: $(INSTALLED)
	ATEN_CPU_CAPABILITY=default ONEDNN_MAX_CPU_ISA=AVX2 MKL_ENABLE_INSTRUCTIONS=AVX2 \
	  $(BIN)/pytest -n 2 -m numeric

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml
	$(BIN)/check-jsonschema --builtin-schema vendor.github-issue-forms .github/ISSUE_TEMPLATE/*.yml
	$(BIN)/check-jsonschema --builtin-schema vendor.citation-file-format CITATION.cff
	$(BIN)/python tests/install/version.py
	$(BIN)/typos

docs: $(INSTALLED)
	$(BIN)/python docs/pages.py
	$(BIN)/zensical build --clean --strict

axe: docs
	npm install --silent --prefix build/axe axe-core@4 puppeteer-core@24
	node docs/accessibility.mjs $(wildcard runs/demo/report.html)

wheel: $(INSTALLED)
	$(PIP) install --quiet --group wheel
	rm -rf dist
	PIP_CONSTRAINT=constraints.txt $(BIN)/python -m build --outdir dist .
	$(BIN)/twine check --strict dist/*
	$(BIN)/check-wheel-contents dist
	$(BIN)/python tests/install/contents.py dist

wheel-test: wheel
	$(BIN)/python tests/install/wheel.py --constraint constraints.txt dist

notebooks: $(INSTALLED)
	OMP_NUM_THREADS=1 $(BIN)/python docs/notebooks.py

figures: $(INSTALLED)
	$(BIN)/python docs/figures/engine.py
	$(BIN)/python docs/figures/islands.py
	$(BIN)/python docs/figures/front_page.py

bench: $(INSTALLED)
	$(BIN)/python benchmarks/topology/scale.py
	$(BIN)/python benchmarks/topology/islands.py
	$(BIN)/python benchmarks/profiles/see.py
	$(BIN)/python benchmarks/profiles/jmlr.py --jobs 2
	$(BIN)/python benchmarks/profiles/jmlr_docs.py
	$(BIN)/python benchmarks/profiles/real_data.py
	$(BIN)/python benchmarks/profiles/real_data_docs.py
	$(BIN)/python benchmarks/activations/activation.py
	$(BIN)/python benchmarks/pruning/pruning.py
	$(BIN)/python benchmarks/pruning/pruning_digits.py
	$(BIN)/python benchmarks/pruning/refit.py
	$(BIN)/python benchmarks/activations/activation_cost.py

bench-engine: $(INSTALLED)
	$(PIP) install --quiet --group bench
	$(BIN)/python benchmarks/topology/engine.py
	$(BIN)/python benchmarks/topology/engine_docs.py

fuzz: $(INSTALLED)
	mkdir -p build
	$(BIN)/python fuzz/fuzz.py --cases $(CASES) --state build/fuzz.json

fuzz-readers: $(INSTALLED)
	$(PIP) install --quiet --group fuzz
	$(BIN)/python fuzz/readers.py build/corpus -runs=$(RUNS)

# Without -S the editable install would stand in for the mutants. One after the other, as time is a verdict.
# What was run stays as it is, except for the MODULES that are named: MODULES="calibration plan".
MODULES ?=
MUTMUT = PYTHONPATH="$(abspath $(SITE))" OMP_NUM_THREADS=1 $(BIN)/python -S
mutants: $(INSTALLED)
	$(PIP) install --quiet --group mutants
	mkdir -p mutants/src/unknot && cp $(SITE)/unknot/_native*.so mutants/src/unknot/
	$(MUTMUT) $(BIN)/mutmut run --max-children 1 $(MODULES:%='*.%.*')
	$(MUTMUT) fuzz/mutants.py

$(NATIVE_TOOLS): $(INSTALLED)
	$(PIP) install --quiet --group native
	touch $@

# Python leaks by design at exit, hence detect_leaks=0.
sanitize: $(NATIVE_TOOLS)
	$(call build_native,asan,UNKNOT_SANITIZE)
	PYTHONPATH=build/asan:$(SITE) ASAN_OPTIONS=detect_leaks=0 \
	  LD_PRELOAD="$$(gcc -print-file-name=libasan.so) $$(gcc -print-file-name=libubsan.so) $$(gcc -print-file-name=libstdc++.so)" \
	  $(BIN)/python -S -m pytest -q -p no:cacheprovider tests/topology/test_engine.py

coverage: $(NATIVE_TOOLS)
	$(call build_native,coverage,UNKNOT_COVERAGE)
	cp -r src/unknot/. build/coverage/unknot/
	PYTHONPATH=build/coverage:$(SITE) $(BIN)/python -S -m pytest -q -p no:cacheprovider \
	  tests/topology/test_engine.py tests/activations/test_functions.py -k "not onnx and not compiles"
	# gcov 12 counts some inlined branches below zero (GCC bug 68080).
	$(BIN)/gcovr --root . --filter src/native --object-directory build/coverage --gcov-ignore-parse-errors negative_hits.warn_once_per_file \
	  --gcov-ignore-parse-errors suspicious_hits.warn_once_per_file --merge-lines --exclude-throw-branches --print-summary --sort uncovered-percent

# The test that is left out leaves no room on the disk, also not for what coverage writes.
coverage-python: $(INSTALLED)
	$(BIN)/pytest -n 2 --cov --cov-report=term-missing:skip-covered --deselect \
	  tests/system/test_faults.py::test_the_command_on_a_full_disk_says_so_and_leaves_nothing

clean:
	rm -rf .venv .cache .coverage* build dist mutants runs site .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find src tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
