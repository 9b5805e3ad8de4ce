# All that is needed is python3 (3.11 or newer), make and git: every target first makes `.venv`.
#
#   make demo     a teacher, a student with and without it, a verdict and a report, in about a minute
#   make test     every test; those marked `browser` want Chromium on the PATH
#   make check    ruff, format, mypy --strict, import-linter
#   make bench    side-by-side benchmarks, one table each
#   make docs     the documentation into site/
#
# Variables: PYTHON (which Python makes .venv), VENV (where it lies), DEMO_ARGS, PYTEST_ARGS.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# Rivals live apart from Potstill's own tools.
BENCH_VENV ?= .venv-bench

QUIET := $(if $(CI),--quiet)
INSTALL := $(BIN)/uv pip install $(QUIET) --python $(BIN)/python \
	--constraints constraints.txt --build-constraints constraints.txt
# Several processes share the cores, so each one gets a single thread.
ONE_THREAD := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1

# Where Python keeps no compiled files, every process compiles thousands of modules anew.
unexport PYTHONDONTWRITEBYTECODE

.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
.PHONY: help demo test check bench docs constraints clean

help:
	@sed -n '/^#/!q;s/^# \{0,1\}//p' Makefile

demo: $(VENV)/.made-base
	$(BIN)/potstill demo $(DEMO_ARGS)

test: $(VENV)/.made-dev
	$(ONE_THREAD) $(BIN)/python -m pytest -n auto --dist loadscope --no-loadscope-reorder \
		-m "not bench" $(PYTEST_ARGS)

check: $(VENV)/.made-dev
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m mypy
	$(BIN)/lint-imports

bench: $(BENCH_VENV)/.made-bench
	@set -e; for file in bench/[!_]*.py; do \
		if [ -e "$$file" ]; then echo "== $$file"; $(BENCH_VENV)/bin/python "$$file"; fi; \
	done

docs: $(VENV)/.made-dev
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --clean

# The newest versions that go together, for every platform and with every extra; commit the result.
constraints: $(VENV)/.made-uv
	$(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 \
		--fork-strategy fewest --extra all --extra track --group dev --no-annotate --no-header \
		--output-file constraints.txt pyproject.toml

clean:
	rm -rf $(VENV) $(BENCH_VENV) build dist site .pytest_cache .mypy_cache .ruff_cache .import_linter_cache

# Stamps: what was installed from these files is not installed again until they change.
$(VENV)/.made-uv:
	@command -v $(PYTHON) >/dev/null 2>&1 || { \
		echo "Potstill needs Python 3.11 or newer and found no '$(PYTHON)'; install one," \
			"or name it:  make $(MAKECMDGOALS) PYTHON=/path/to/python3"; exit 1; } >&2
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "Potstill needs Python 3.11 or newer and '$(PYTHON)' is" \
			"$$($(PYTHON) -c 'import platform; print(platform.python_version())');" \
			"name a newer one:  make $(MAKECMDGOALS) PYTHON=python3.12"; exit 1; } >&2
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv $(VENV)
	@test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet --disable-pip-version-check \
		--constraint constraints.txt uv
	@touch $@

$(VENV)/.made-base: pyproject.toml constraints.txt | $(VENV)/.made-uv
	@echo "Installing Potstill into $(VENV); the first time this fetches PyTorch, some gigabytes."
	@$(INSTALL) --editable .
	@touch $@

$(VENV)/.made-dev: $(VENV)/.made-base
	@echo "Installing the extras and the development tools into $(VENV)."
	@$(INSTALL) --editable '.[all]' --group dev
	@touch $@

$(BENCH_VENV)/.made-bench: pyproject.toml constraints.txt bench/requirements.txt | $(VENV)/.made-uv
	@echo "Installing Potstill and its rivals into $(BENCH_VENV)."
	@test -x $(BENCH_VENV)/bin/python || $(BIN)/python -m venv --without-pip $(BENCH_VENV)
	@$(BIN)/uv pip install $(QUIET) --python $(BENCH_VENV)/bin/python \
		--constraints constraints.txt --build-constraints constraints.txt \
		--editable '.[all]' --requirements bench/requirements.txt
	@touch $@
