"""The Python of the documents runs, block after block, and the README's commands for one's own data do."""

import ast
import csv
import re
import runpy
import shlex
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from documents import COMMAND, DOCUMENTS, GUIDES, ROOT, blocks, commands, name_of, steps

from dbn.data import DATASETS
from dbn.initializers import INITIALIZERS
from dbn.models.units import UNITS
from dbn.pretraining import PENALTIES
from dbn.sampling import CHAINS
from dbn.training import OPTIMIZERS

WITH_PYTHON = [path for path in DOCUMENTS if blocks(path, "python") and path not in GUIDES]
PROMISE = re.compile(r"^(\w+)\b.* = .*#.*?(\(\d[\d, ]*\))", re.MULTILINE)
"""An assignment with a shape in its comment."""


@pytest.fixture
def tables() -> Any:
    """What a document adds to the tables is taken out again."""
    all_tables: list[Any] = [CHAINS, DATASETS, INITIALIZERS, OPTIMIZERS, PENALTIES, UNITS]
    before = [list(table) for table in all_tables]
    yield
    for table, names in zip(all_tables, before, strict=True):
        for name in set(table) - set(names):
            del table[name]


def test_there_is_something_to_test() -> None:
    assert {name_of(path) for path in WITH_PYTHON} == {
        "CONTRIBUTING.md",
        "README.md",
        "docs/label-model.md",
        "docs/large-data.md",
        "docs/likelihood.md",
        "docs/missing-values.md",
        "docs/python.md",
        "docs/scikit-learn.md",
        "docs/tasks.md",
    }


@pytest.mark.usefixtures("tables")
@pytest.mark.parametrize("path", WITH_PYTHON, ids=name_of)
def test_the_python_of_a_document_runs(path: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    names: dict[str, Any] = {"__name__": "document"}
    again = blocks(path, "python") if path.name in ("README.md", "python.md") else []  # as a reader does
    for block in [*blocks(path, "python"), *again]:
        exec(compile(block, str(path), "exec"), names)
        for name, shape in PROMISE.findall(block):
            assert tuple(names[name].shape) == ast.literal_eval(shape)
    if path.name == "README.md":
        assert len(PROMISE.findall("\n".join(blocks(path, "python")))) >= 2
        x = torch.rand(9, 64)
        torch.testing.assert_close(names["encoder"](x), names["stack"].up(x), rtol=0, atol=1e-6)
    if path.name == "CONTRIBUTING.md":
        assert names["stack"].layers[0].hidden.kind == "sign"
        assert {*names["comparison"].to_dict()["arms"]} == {"identity(gain=0.9):tanh", "he_normal"}


def run(verb: str, words: list[str]) -> None:
    """The command in this process; SystemExit unless it succeeds."""
    sys.argv = ["dbn", verb, *words] if (ROOT / "dbn" / "__main__.py").is_file() else [f"{verb}.py", *words]
    try:
        if (ROOT / "dbn" / "__main__.py").is_file():
            runpy.run_module("dbn", run_name="__main__")
        else:
            runpy.run_path(str(ROOT / "scripts" / f"{verb}.py"), run_name="__main__")
    except SystemExit as end:
        if end.code:
            raise


def test_the_commands_for_ones_own_data_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As in the README but for the epochs: unlabeled rows in one file, labeled ones in another, new ones in a third."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", sys.argv)
    generator = np.random.default_rng(0)
    x = generator.normal(size=(300, 8)).astype(np.float32)
    np.savez(tmp_path / "unlabeled.npz", x=x)
    header = [f"c{number}" for number in range(8)]
    with (tmp_path / "labeled.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["kind", *header], *(["ab"[row[0] > 0], *row] for row in x[:100].tolist())])
    with (tmp_path / "new.csv").open("w", newline="") as file:
        csv.writer(file).writerows([header, *x[:7].tolist()])
    wanted = [
        (verb, words) for verb, words in commands(ROOT / "README.md") if any("runs/mine" in word for word in words)
    ]
    assert [verb for verb, _ in wanted[:3]] == ["pretrain", "finetune", "predict"]
    for verb, words in wanted[:3]:
        fewer = {"pretrain": ["--epochs", "1", "--hidden", "5"], "finetune": ["--epochs", "2", "--seeds", "2"]}
        run(verb, [*words, *fewer.get(verb, [])])
    with (tmp_path / "predictions.csv").open(newline="") as file:
        first, *rows = csv.reader(file)
    assert first == ["a", "b"]
    assert len(rows) == 7
    np.testing.assert_allclose(np.array(rows, dtype=float).sum(1), 1, atol=1e-5)


FEWER = {
    "pretrain": ["--epochs", "1", "--hidden", "5"],
    "finetune": ["--epochs", "2", "--seeds", "2"],
    "study": ["--epochs", "2", "--seeds", "2", "--hidden", "5"],
}
"""Options that are added to a command, so that it takes a moment."""


def shortened(block: str) -> str:
    """Python of which epochs and steps are fewer, since their number is no part of what is tested."""
    return re.sub(r"\b(epochs|steps|seeds)=\d+", lambda m: f"{m[1]}={1 + (m[1] == 'seeds')}", block)


@pytest.mark.parametrize("path", GUIDES, ids=name_of)
def test_a_guide_can_be_followed(path: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Its Python and its commands in order, with fewer epochs; a batch script is tested elsewhere."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", sys.argv)
    torch.manual_seed(0)
    names: dict[str, Any] = {"__name__": "document"}
    for language, block in steps(path):
        if language == "python":
            try:
                exec(compile(shortened(block), str(path), "exec"), names)
            except ModuleNotFoundError as error:
                if str(error.name).startswith("dbn"):
                    raise
                pytest.skip(f"{error.name} is not installed")
            for name, shape in PROMISE.findall(block):
                assert tuple(names[name].shape) == ast.literal_eval(shape)
        for line in block.splitlines() if language == "sh" else ():
            if (match := COMMAND.match(line)) and not line.startswith("torchrun"):
                run(match[1], [*shlex.split(line[match.end() :], comments=True), *FEWER.get(match[1], [])])
