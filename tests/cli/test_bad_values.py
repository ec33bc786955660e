"""Values that a model cannot take, on the command line: one sentence that names the row of the file, status 2."""

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from dbn.cli.program import main

RNG = np.random.default_rng(0)
ROWS, BAD = 120, 90
FRACTIONS = RNG.random((ROWS, 4)).round(3)
COUNTS = RNG.integers(0, 5, (ROWS, 4)).astype(float)
SPINS = RNG.choice([-1.0, 1.0], (ROWS, 4))
LABELS = RNG.integers(0, 2, ROWS)
NAMES = [*"abcd", "label"]
LINE = f"line {BAD + 2}, column 'c'"

Call = Callable[..., str]


def save(path: Path, x: NDArray, bad: float | None = None, columns: int = 4) -> None:
    """A CSV file; `bad` stands in row BAD, column c."""
    x = x.copy()
    if bad is not None:
        x[BAD, 2] = bad
    lines = [",".join([*(f"{each:g}" for each in row[:columns]), str(y)]) for row, y in zip(x, LABELS, strict=True)]
    path.write_text("\n".join([",".join(NAMES[:columns] + NAMES[-1:]), *lines]) + "\n")


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """A command in a folder with the files; what it says in the end, after "error: " where it is refused."""
    save(tmp_path / "fractions.csv", FRACTIONS)
    save(tmp_path / "fractions-bad.csv", FRACTIONS, 1.75)
    save(tmp_path / "counts.csv", COUNTS)
    save(tmp_path / "counts-bad.csv", COUNTS, 9)
    save(tmp_path / "counts-half.csv", COUNTS, 2.5)
    save(tmp_path / "spins.csv", SPINS)
    monkeypatch.chdir(tmp_path)

    def said(words: str, *more: str) -> str:
        monkeypatch.setattr(sys, "argv", ["torch-dbn", *words.split(), *more])
        try:
            main()
        except SystemExit as end:
            status = end.code
        else:
            return capsys.readouterr().out
        (sentence,) = capsys.readouterr().err.splitlines()
        assert status == 2
        return sentence.partition("error: ")[2]

    return said


PRETRAIN = "pretrain --label-column label --hidden 3 --epochs 1 --device cpu --run run"
FINETUNE = "finetune --label-column label --epochs 1 --seeds 1 --device cpu --run tuned"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            f"{PRETRAIN} --dataset fractions-bad.csv",
            f"fractions-bad.csv: test values go from 0 to 1.75, 1.75 in {LINE}, but Bernoulli",
        ),
        (f"{PRETRAIN} --dataset counts-bad.csv --visible binomial(trials=4)", f"0 to 9, 9 in {LINE}, but binomial"),
        (
            f"{PRETRAIN} --dataset counts-bad.csv --visible categorical(states=5)",
            f"counts-bad.csv has 9 in {LINE}, but",
        ),
        (
            f"{PRETRAIN} --dataset counts-half.csv --visible binomial(trials=4)",
            f"counts-half.csv has 2.5 in {LINE}, but",
        ),
        (f"{FINETUNE} --dataset fractions-bad.csv --init he_normal --hidden 3", f"1.75 in {LINE}, but fine-tuning"),
        (
            "study --dataset fractions-bad.csv --label-column label --init he_normal --hidden 3 --epochs 1 --seeds 1 "
            "--device cpu --run study",
            f"1.75 in {LINE}, but fine-tuning",
        ),
    ],
)
def test_the_row_is_that_of_the_file_not_of_a_cut(words: str, said: str, call: Call, tmp_path: Path) -> None:
    before = {*tmp_path.iterdir()}
    assert said in call(words)
    assert {*tmp_path.iterdir()} == before


PARTS = "2 binomial(trials=4) + 2 binomial(trials=4)"


@pytest.mark.parametrize("visible", ["binomial(trials=4)", "categorical(states=5)", PARTS])
def test_every_command_checks_every_row_that_meets_a_model(visible: str, call: Call) -> None:
    call(f"{PRETRAIN} --dataset counts.csv", "--visible", visible)
    for words in (
        f"{FINETUNE} --pretrained run --dataset counts-bad.csv",
        "evaluate --run run --device cpu --data counts-bad.csv --label-column label",
        "evaluate --run run --device cpu --dataset counts-bad.csv --label-column label",
        "features --run run --device cpu --data counts-bad.csv --label-column label --output features.csv",
    ):
        said = call(words)
        assert f"counts-bad.csv has 9 in {LINE}, but " in said
        assert len(said) < 200
        assert "bytes" not in said


@pytest.mark.parametrize(
    ("data", "units"),
    [
        ("spins.csv", ["spin"]),
        ("counts.csv", ["binomial(trials=4)", "categorical(states=5)", "gaussian"]),
    ],
)
def test_the_refusal_names_units_that_take_the_data(data: str, units: list[str], call: Call) -> None:
    said = call(f"{PRETRAIN} --dataset {data}")
    for each in units:
        assert f"--visible {each} for " in said
        call(f"{PRETRAIN} --dataset {data} --visible {each} --overwrite")
    assert "--visible categorical" not in call(f"{PRETRAIN} --dataset fractions-bad.csv --overwrite")
