# make demo   pre-train on the shipped digits, fine-tune on 300 labels, print the table (offline)
# make test   format check, lint, types and tests

PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test clean

demo: .venv/installed
	$(BIN)/python scripts/pretrain.py --config scripts/recipes/demo-pretrain.yaml --overwrite
	$(BIN)/python scripts/finetune.py --config scripts/recipes/demo-finetune.yaml --overwrite
	@echo "Curves, pictures and weights:  $(BIN)/tensorboard --logdir runs --samples_per_plugin images=100"

test: .venv/installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "dbn needs Python 3.11 or newer: make PYTHON=/path/to/python3.11")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@

clean:
	rm -rf .venv
