# Nothing but Python >= 3.11, make and the package registry is needed.
VENV := .venv
BIN := $(VENV)/bin
# The first Python that is new enough; 3.11 and 3.12 first, for which every dependency has a wheel. A name on PATH may
# be a shim that cannot run, so each is tried.
PYTHON ?= $(shell for python in python3.11 python3.12 python3 python3.13 python3.14; do \
	"$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo "$$python" && break; done)
PIP := $(BIN)/python -m pip --disable-pip-version-check
# Most of what is installed is never imported; the rest is compiled when it is.
INSTALL := $(PIP) install --quiet --no-compile --constraint constraints.txt --editable
WANTED := pyproject.toml constraints.txt

# Tests start hundreds of processes. Each would compile all that it imports if it could not find it compiled.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: demo test unit lint search bench bench-read faults docs constraints clean

demo: $(VENV)/.local  ## Install, then replay a week of departures through the whole pipeline.
	$(BIN)/neverstale demo

# Two files at a time, each worker with servers of its own: most tests wait more than they work. In our order: fast ones
# first, then the longest file; by themselves the workers would leave files with few but long tests to the end.
test: lint  ## All that CI runs.
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

unit: $(VENV)/.dev  ## What needs no server; under a minute.
	$(BIN)/python -m pytest -n 2 --dist worksteal tests/unit

lint: $(VENV)/.dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

search: $(VENV)/.dev  ## Every reachable state of the protocol within the large bounds; many minutes, 1 GB.
	NEVERSTALE_TEST_SEARCH=full $(BIN)/python -m pytest -s tests/properties/test_protocol_search.py tests/properties/test_cache_machine.py

bench: $(VENV)/.dev  ## Speed and memory, as ratios within one run.
	$(BIN)/python -m benchmarks

bench-read: $(VENV)/.bench  ## Reads a second beside other ways to write them; wants wrk, and nginx for its row.
	$(BIN)/python -m benchmarks.read

faults: $(VENV)/.dev  ## Every fault experiment in full and its negative control; SEED=1 ROUNDS=1.
	$(BIN)/python -m tests.faults --seed $(or $(SEED),1) --rounds $(or $(ROUNDS),1) --json faults.json

docs: $(VENV)/.dev  ## Write the tables of the docs that are generated.
	$(BIN)/python -m ops.docs

constraints:  ## Renew constraints.txt with the newest versions that pyproject.toml allows.
	rm -rf $(VENV)
	$(MAKE) $(BIN)/python
	$(PIP) install --quiet --editable '.[dev,bench]'
	{ echo '# The versions that the tests ran with. Renew: make constraints'; \
		$(PIP) freeze --exclude-editable; } > constraints.txt

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	@test -n '$(PYTHON)' || { echo 'Python 3.11 or later is needed; name it: make PYTHON=/path/to/python' >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.local: $(WANTED) | $(BIN)/python
	$(INSTALL) '.[local]'
	touch $@

$(VENV)/.bench: $(WANTED) | $(BIN)/python
	$(INSTALL) '.[bench]'
	touch $@

$(VENV)/.dev: $(WANTED) | $(BIN)/python
	$(INSTALL) '.[dev]'
	touch $@ $(VENV)/.local
