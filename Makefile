# make demo   pre-train on the shipped digits, fine-tune on 300 labels, print the table (offline)
# make test   format check, lint, types and tests: `make lint` and `make unit`
# make format write all files as `make lint` wants them
# make proofs the long proofs: kills, failing disks, damaged files (over an hour)
# make docs   the documentation site, in docs/_build/html
# make bench  time training against bare matrix products and other packages: a few minutes on a machine that is idle

PYTHON ?= python3
CONSTRAINTS ?= constraints.txt
ifeq ($(OS),Windows_NT)
BIN := .venv/Scripts
else
BIN := .venv/bin
endif

.PHONY: demo test format lint unit proofs docs bench clean

demo: .venv/installed
	$(BIN)/python -m dbn pretrain --config demo-pretrain --overwrite
	$(BIN)/python -m dbn finetune --config demo-finetune --overwrite
	@echo "Curves, images and weights:  $(BIN)/tensorboard --logdir runs --samples_per_plugin images=100"

test: lint unit

format: .venv/installed
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lint: .venv/installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

# One thread per test process: two processes of two threads each on two cores are several times slower than one.
unit: .venv/installed
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto

proofs: .venv/installed
	$(BIN)/python -m pytest -m slow tests/faults
	DBN_EVERY_PAIR=1 $(BIN)/python -m pytest tests/models tests/sampling tests/likelihood

docs: .venv/installed
	$(BIN)/python -m sphinx -W --keep-going -n -q docs docs/_build/html
	@echo "The site is docs/_build/html/index.html"

bench: .venv/installed-bench
	mkdir -p runs
	$(BIN)/python -m dbn benchmark --output runs/benchmark.json

.venv/installed: pyproject.toml $(CONSTRAINTS)
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "dbn needs Python 3.11 or newer: make PYTHON=/path/to/python3.11")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint $(CONSTRAINTS) --editable '.[dev]'
	@touch $@

# The others are timed where they can be had, and named as left out where they cannot.
.venv/installed-bench: .venv/installed
	-$(BIN)/python -m pip install --quiet --constraint $(CONSTRAINTS) --editable '.[bench]' && touch $@

clean:
	rm -rf .venv
