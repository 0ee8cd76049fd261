# Two commands are the contract: `make demo` and `make test` work on a fresh clone.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RUNPOD := .venv-runpod
PEERS := .venv-peers
DOCS := .venv-docs
WHEEL := .venv-wheel
RACE ?= --write
IN_PARALLEL := --numprocesses 2 --dist loadfile --no-loadscope-reorder

.PHONY: demo install test test-fast coverage check docs notebooks wheel docs-generated figures format bench-peers clean

demo: $(VENV)/.installed
	$(BIN)/headwater demo

install: $(VENV)/.installed

test: check $(RUNPOD)/.installed
	$(BIN)/python -m pytest $(IN_PARALLEL)

# For the edit loop: what neither trains, serves, kills nor opens a browser.
test-fast: $(VENV)/.installed-dev
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile -m 'not slow'

# Lines and branches of src that the tests reach; `htmlcov/index.html` shows them.
coverage: $(VENV)/.installed-dev $(RUNPOD)/.installed
	$(BIN)/python -m pytest $(IN_PARALLEL) --cov --cov-report=term --cov-report=html

check: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/pyright
	$(BIN)/python scripts/write_cli_help.py --check
	$(BIN)/python scripts/write_options.py --check
	$(BIN)/python scripts/write_schema.py --check
	$(BIN)/python scripts/write_openapi.py --check
	$(BIN)/python scripts/write_tree.py --check
	$(BIN)/python scripts/check_prose.py --check

format: $(VENV)/.installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Pages in site/; they read the source without running it, so that nothing else need be installed.
docs: $(DOCS)/.installed
	NO_MKDOCS_2_WARNING=1 $(DOCS)/bin/mkdocs build --strict --quiet

docs-generated: $(VENV)/.installed-dev
	$(BIN)/python scripts/write_cli_help.py
	$(BIN)/python scripts/write_options.py
	$(BIN)/python scripts/write_schema.py
	$(BIN)/python scripts/write_openapi.py
	$(BIN)/python scripts/write_tree.py

# docs/pictures/how-*.svg from runs/demo; half an hour where that must be made first.
figures: $(VENV)/.installed-dev
	$(BIN)/python scripts/make_figures.py

# Runs the notebooks of docs/guides and writes their outputs into them; `make notebooks ONLY="poison chat"` only these.
notebooks: $(VENV)/.installed-dev
	$(BIN)/python scripts/write_notebooks.py $(ONLY)

# An evening on two cores; `make bench-peers RACE=--quick` takes five minutes and writes nothing.
bench-peers: $(PEERS)/.installed
	$(PEERS)/bin/python -m benchmarks.peers.race $(RACE)

# The source distribution, and from it the wheel, in an environment that has nothing else, far from the source.
wheel:
	rm -rf dist $(WHEEL)
	$(PYTHON) -m venv $(WHEEL)/build
	$(WHEEL)/build/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt build
	$(WHEEL)/build/bin/python -m build --outdir dist . > $(WHEEL)/build.log || { cat $(WHEEL)/build.log; exit 1; }
	$(WHEEL)/build/bin/python scripts/check_wheel.py dist
	$(PYTHON) -m venv $(WHEEL)/new
	$(WHEEL)/new/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt dist/*.whl
	sh scripts/try_wheel.sh $(WHEEL)/new

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Headwater needs Python 3.11 or later: make PYTHON=python3.11")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch==2.13.0
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[serve]'
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

# Runpod's SDK needs other versions of a few packages than the rest does.
$(RUNPOD)/.installed: $(VENV)/.installed-dev deploy/runpod/constraints.txt deploy/runpod/venv.sh
	sh deploy/runpod/venv.sh $(PYTHON)

$(PEERS)/.installed: pyproject.toml constraints.txt benchmarks/peers/install.sh
	sh benchmarks/peers/install.sh $(PYTHON)

$(DOCS)/.installed: constraints.txt
	test -x $(DOCS)/bin/python || $(PYTHON) -m venv $(DOCS)
	$(DOCS)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt mkdocs-material 'mkdocstrings[python]' ruff
	touch $@

clean:
	rm -rf $(VENV) $(RUNPOD) $(PEERS) $(DOCS) $(WHEEL) dist site .pytest_cache .ruff_cache .hypothesis htmlcov .coverage*
