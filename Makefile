# The same commands for people and for CI. Each target does its own set-up.
# python3 where it is new enough, else the newest there is by name.
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
VENV := .venv
PY := $(VENV)/bin/python
PHOTOS ?= ../shared/photos
export PYTHONDONTWRITEBYTECODE := 1

.DEFAULT_GOAL := help
.PHONY: help run test test-server check format lock bench-real bench-freshness bench-first-answer bench-fingerprints bench-flat bench-compat bench-detect bench-quota clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-20s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: $(VENV)/.run  ## start the whole service on $HOST:$PORT (127.0.0.1:8000), data under $DATA_DIR (./data)
	@exec $(PY) manage.py serve

test: $(VENV)/.dev  ## run the test suite on the embedded Postgres, or on $DATABASE_URL
	@$(PY) -m pytest

test-server: $(VENV)/.dev  ## run the test suite on a Postgres server of its own, reached over TCP with a password
	@$(PY) -m tests.server_postgres $(PY) -m pytest

check: $(VENV)/.dev  ## format, lint, types, import contracts, migrations
	@$(PY) -m ruff format --check .
	@$(PY) -m ruff check .
	@$(PY) -m mypy
	@$(VENV)/bin/lint-imports

format: $(VENV)/.dev  ## format the code and mend what the linter can mend
	@$(PY) -m ruff format .
	@$(PY) -m ruff check --fix .

lock: $(VENV)/.venv  ## renew the hash-locked requirements from the .in files
	@$(PY) -m uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header requirements.in -o requirements.txt
	@$(PY) -m uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header requirements-dev.in -o requirements-dev.txt

bench-real: $(VENV)/.dev  ## index $PHOTOS over HTTP and find edited copies again
	@$(PY) -m benchmarks.real $(PHOTOS)

bench-freshness: $(VENV)/.dev  ## write in one process, search in another, count stale answers
	@$(PY) -m benchmarks.freshness

bench-first-answer: $(VENV)/.dev  ## from a clone with an empty home folder to the first right answer, in seconds
	@$(PY) -m benchmarks.first_answer

bench-fingerprints: $(VENV)/.dev  ## compare our fingerprints with imagehash and pdqhash on $PHOTOS
	@$(PY) -m benchmarks.fingerprints $(PHOTOS)

bench-flat: $(VENV)/.dev  ## the exact index: put, remove, search at 10,000 to 1,000,000 codes
	@$(PY) -m benchmarks.flat

bench-compat: $(VENV)/.dev  ## the documented hashes beside OpenCV's contrib build, SIFT_difference of edits and strangers
	@$(PY) -m benchmarks.compat $(PHOTOS)

bench-detect: $(VENV)/.dev  ## what the object detector finds on 20 of $PHOTOS, and its processor time
	@$(PY) -m benchmarks.detect $(PHOTOS)

bench-quota: $(VENV)/.dev  ## limits under 8 processes, and what key check and quota cost a call
	@$(PY) -m benchmarks.quota

clean:  ## remove the virtual environment and caches; data stays
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis

$(VENV)/.venv: requirements-uv.txt
	@test -n "$(PYTHON)" || { echo "imgindex needs Python 3.11 or newer: make PYTHON=/path/to/python3.11 run"; exit 1; }
	@$(PY) -m pip --version >/dev/null 2>&1 || { rm -rf $(VENV); $(PYTHON) -m venv $(VENV); } || { rm -rf $(VENV); echo "This Python cannot make virtual environments; on Debian: apt install python3-venv"; exit 1; }
	@$(PY) -m pip install -q --disable-pip-version-check --require-hashes -r requirements-uv.txt || echo "uv is not to be had here; pip installs instead"
	@touch $@

# uv is ten times faster; pip serves where uv cannot reach the package index.
install = $(PY) -m uv pip install -q --python $(PY) --require-hashes -r $(1) || $(PY) -m pip install -q --disable-pip-version-check --require-hashes -r $(1)

$(VENV)/.run: requirements.txt requirements-detector.txt $(VENV)/.venv
	@echo "Installing what imgindex needs into $(VENV) ..."
	@$(call install,requirements.txt)
	@$(call install,requirements-detector.txt --no-deps)
	@touch $@

$(VENV)/.dev: requirements-dev.txt $(VENV)/.run
	@$(call install,requirements-dev.txt)
	@touch $@
