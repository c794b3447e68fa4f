# Everything a fresh machine needs is made by these targets: a virtual environment from pinned versions first.
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
TESTS := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal

.PHONY: demo test test-slow check bench docs clean

demo: .venv/ready
	$(BIN)/lessen demo -o runs/demo

test: .venv/ready-dev
	$(TESTS)

test-slow: .venv/ready-dev
	$(TESTS) -m slow

check: .venv/ready-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/lint-imports

bench: .venv/ready-dev
	@for file in benchmarks/*.py; do echo "== $$file"; $(BIN)/python $$file || failed=1; done; exit $${failed:-0}

docs: .venv/ready
	$(BIN)/lessen list --markdown > docs/techniques.md
	$(BIN)/lessen list models --markdown > docs/models.md
	$(BIN)/lessen list tasks --markdown > docs/tasks.md

clean:
	rm -rf .venv build dist *.egg-info

.venv/ready: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(PIP) -e .
	touch $@

.venv/ready-dev: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(PIP) -e '.[dev,openvino]'
	touch $@ .venv/ready
