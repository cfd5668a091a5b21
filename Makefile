# Everything a person does with this repository. Each target sets up .venv by itself;
# what set-up has to say goes to stderr, so that `make run ARGS="--for 15s --json"` can be piped.

SHELL := /bin/bash
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

VENV := .venv
PY := $(VENV)/bin/python
READY := $(VENV)/.installed
# One uv, used for nothing but resolving: it locks for all supported Pythons at once, which pip cannot.
LOCK_VENV := .venv-lock
UV_VERSION := 0.13.8

# Folders that exist; benchmarks may be left out of a distribution.
CODE := $(wildcard synchub connectors workers clients/python docs/examples tests benchmarks)

.PHONY: help run test check lint types imports format docs bench campaign witness mutants lock clean

help:
	@echo 'make run [ARGS=…]   the whole hub with a demo merchant; ARGS="--for 15s --json" stops by itself'
	@echo 'make test           the suite, on a real Valkey of its own'
	@echo 'make check          lint, format, types, import contracts'
	@echo 'make bench          floors, peers and the hub, measured in one run'
	@echo 'make campaign       every fault, long'
	@echo 'make witness        checks by programs of other people (installs them through Debian and npm)'
	@echo 'make mutants        breaks the rules on purpose and counts which tests notice'
	@echo 'make format         formats the code'
	@echo 'make docs           writes the pages that repeat what the code says'
	@echo 'make lock           resolves the dependencies anew'
	@echo 'make clean          removes the environments, caches and .synchub'

run: $(READY)
	@exec $(PY) -m synchub up --demo $(ARGS)

# One test process per core of the smallest machine we promise to work on.
test: $(READY)
	@$(PY) -m pytest -n 2 --dist loadgroup $(ARGS)

# All three report even if the first finds something.
check: $(READY)
	@$(MAKE) --keep-going lint types imports

lint: $(READY)
	@$(PY) -m ruff check $(CODE)
	@$(PY) -m ruff format --check $(CODE)

types: $(READY)
	@$(PY) -m mypy $(CODE)

imports: $(READY)
	@$(VENV)/bin/lint-imports --no-cache

format: $(READY)
	@$(PY) -m ruff check --fix-only $(CODE)
	@$(PY) -m ruff format $(CODE)

docs: $(READY)
	@exec $(PY) -m tests.support.documents

bench: $(READY)
	@exec $(PY) -m benchmarks $(ARGS)

campaign: $(READY)
	@exec $(PY) -m tests.faults.campaign $(ARGS)

witness: $(READY)
	@exec $(PY) -m tests.witness $(ARGS)

mutants: $(READY)
	@exec $(PY) -m tests.mutants $(ARGS)

# The stamp is written last: an installation that failed is tried again.
$(READY): requirements.lock pyproject.toml
	@{ \
	  set -e; rm -f $@; \
	  if ! $(PY) -m pip --version >/dev/null 2>&1; then \
	    python=; \
	    for candidate in $(PYTHON) python3 python3.13 python3.12 python3.11; do \
	      if "$$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	        python=$$candidate; break; \
	      fi; \
	    done; \
	    if [ -z "$$python" ]; then \
	      echo 'Python 3.11 or newer is needed and none was found; name one with: make PYTHON=/path/to/python3'; \
	      exit 1; \
	    fi; \
	    if ! "$$python" -c 'import ensurepip, venv' 2>/dev/null; then \
	      echo "$$python has no venv module; on Debian and Ubuntu: apt-get install python3-venv"; \
	      exit 1; \
	    fi; \
	    echo "Creating $(VENV) with $$("$$python" --version)."; \
	    "$$python" -m venv --clear $(VENV); \
	  fi; \
	  echo 'Installing the locked dependencies; the first time takes about a minute.'; \
	  $(PY) -m pip install --quiet --disable-pip-version-check --no-input --require-hashes -r requirements.lock; \
	  $(PY) -m pip install --quiet --disable-pip-version-check --no-input --no-deps --no-build-isolation -e .; \
	} >&2 || { echo 'Set-up failed for the reason above; run the same command again once it is mended.' >&2; exit 1; }
	@touch $@

# Two files from one resolution: the second is the part of the first that the image needs.
LOCK = $(LOCK_VENV)/bin/uv pip compile pyproject.toml --quiet --universal --python-version 3.11 --generate-hashes \
  --no-header --no-annotate --no-emit-index-url --no-emit-find-links

lock:
	@test -x $(LOCK_VENV)/bin/uv || { python3 -m venv $(LOCK_VENV) && $(LOCK_VENV)/bin/pip install --quiet uv==$(UV_VERSION); }
	@$(LOCK) --group dev --upgrade --output-file requirements.lock
	@$(LOCK) --group build --constraint requirements.lock --output-file requirements-image.lock
	@echo 'requirements.lock and requirements-image.lock are up to date; look at the difference before you commit it.'

clean:
	@rm -rf $(VENV) $(LOCK_VENV) .synchub build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	@find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +
