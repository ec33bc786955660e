# make demo   pre-train on the shipped digits, fine-tune on 300 labels, print the table (offline)
# make test   format check, lint, types and tests
# make proofs the long proofs: kills, failing disks, damaged files (over an hour)
# make docs   the documentation site, in docs/_build/html
# make bench  time training against bare matrix products and other packages: a few minutes on a machine that is idle

PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test proofs docs bench clean

demo: .venv/installed
	$(BIN)/python -m dbn pretrain --config demo-pretrain --overwrite
	$(BIN)/python -m dbn finetune --config demo-finetune --overwrite
	@echo "Curves, images and weights:  $(BIN)/tensorboard --logdir runs --samples_per_plugin images=100"

# One thread per test process: two processes of two threads each on two cores are several times slower than one.
test: .venv/installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
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

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "dbn needs Python 3.11 or newer: make PYTHON=/path/to/python3.11")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@

# The others are timed where they can be had, and named as left out where they cannot.
.venv/installed-bench: .venv/installed
	-$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[bench]' && touch $@

clean:
	rm -rf .venv
