# Everything a newcomer needs: `make quickstart`, `make test-fast`, `make test`. Needs Python 3.12 and nothing else.
PYTHON ?= python3.12
VENV := .venv
BIN := $(VENV)/bin
export HF_HUB_OFFLINE ?= 1
# Learner and actor share the cores: with more threads than free cores, waiting threads cost more than they bring.
export OMP_NUM_THREADS ?= 1

.PHONY: setup test test-fast lint quickstart clean

setup: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml
	@echo "Setting up $(VENV) (about 6.5 GB with PyTorch) ..."
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python --editable '.[dev]'
	touch $@

test: setup
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

# Every test that needs at most 3 s; one that needs more and is not marked slow fails.
test-fast: setup
	$(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder -m "not slow" --limit_s 3

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

quickstart: setup
	$(BIN)/python examples/quickstart.py

clean:
	rm -rf outputs/quickstart
