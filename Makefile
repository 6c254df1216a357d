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

.PHONY: release demo test test-all checked unit lint bench bench-read bench-live bench-peers faults chaos recovery fuzz docs constraints clean

demo: $(VENV)/.local  ## Install, then replay a week of departures through the whole pipeline.
	$(BIN)/neverstale demo

# Most tests wait more than they work, so there are more workers than cores, each with servers of its own. A worker that
# has nothing left takes over half of what another one still has; so the long ones come first.
WORKERS ?= 4
PYTEST = $(BIN)/python -m pytest --no-header -n $(WORKERS) --dist worksteal

test: checked  ## All that CI runs, in the short form: ten to fourteen minutes on two cores.
	$(PYTEST)

test-all: checked  ## The same with every search and machine in its long form; many minutes, 1 GB. And: make faults.
	NEVERSTALE_TEST_SEARCH=full $(PYTEST)

# Neither needs more than one core. Without the second every worker would compile all tests by itself.
checked: $(VENV)/.dev
	@$(MAKE) --no-print-directory --jobs=2 lint $(VENV)/.compiled

$(VENV)/.compiled: $(VENV)/.dev $(shell find tests -name '*.py')
	@{ $(BIN)/python -m pytest --collect-only --quiet >/dev/null && touch $@; } || true  # the tests will say why

unit: WORKERS = 2
unit: $(VENV)/.dev  ## What needs no server; under a minute.
	$(PYTEST) tests/unit

lint: $(VENV)/.dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/.dev  ## Speed and memory, as ratios within one run.
	$(BIN)/python -m benchmarks

bench-read: $(VENV)/.bench  ## Reads a second beside other ways to write them; wants wrk, and nginx for its row.
	$(BIN)/python -m benchmarks.read

bench-peers: $(VENV)/.bench  ## Stale answers, speed and cost beside other caches, also after each failure; wants Java, Maven.
	$(BIN)/python -m benchmarks.stale --docs

bench-live: $(VENV)/.dev  ## 5,000 live reads of one key: how soon each has a change, reads for it, memory of a stream.
	$(BIN)/python -m benchmarks.live

faults: $(VENV)/.dev  ## Every fault experiment in full and its negative control; SEED=1 ROUNDS=1.
	$(BIN)/python -m tests.faults --seed $(or $(SEED),1) --rounds $(or $(ROUNDS),1) --json faults.json

release: $(VENV)/.dev  ## Build wheel, source archive, SBOM and checksums into dist/, and check them; publishes nothing.
	$(PIP) install --quiet 'twine>=6.2'
	$(BIN)/python deploy/release.py

chaos: $(VENV)/.dev  ## One seeded storm of all faults with an auditor beside it; ends with chaos.html. HOURS=1 SEED=1.
	$(BIN)/python -m tests.faults.chaos --hours $(or $(HOURS),1) --seed $(or $(SEED),1) --html chaos.html

recovery: $(VENV)/.dev  ## For each single fault: seconds until all state at most a second again; ROUNDS=5; into the docs.
	$(BIN)/python -m tests.faults.recovery --rounds $(or $(ROUNDS),5) --json docs/recovery.json
	$(BIN)/python -m neverstale.ops.docs

fuzz: $(VENV)/.dev  ## Fuzz all that decodes bytes from outside, and the fast path against the routes; SECONDS=60 SEED=1.
	$(BIN)/python -m pip --disable-pip-version-check install --quiet atheris || echo 'without atheris: mutations only'
	$(BIN)/python -m tests.fuzz --seconds $(or $(SECONDS),60) --seed $(or $(SEED),1)
	NEVERSTALE_TEST_DIFFERENCES=10000 NEVERSTALE_TEST_SEED=$(or $(SEED),1) \
		$(BIN)/python -m pytest --no-header tests/integration/api/test_fast_path_fuzz.py

docs: $(VENV)/.dev  ## Write the tables of the docs that are generated.
	$(BIN)/python -m neverstale.ops.docs

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
