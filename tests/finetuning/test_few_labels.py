"""Few labels among many rows: which rows are learned from, from the files to the table."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from dbn.cli.program import main
from dbn.config.finetuning import Finetuning
from dbn.data.cut import splits_from_arrays
from dbn.errors import InputError
from dbn.finetuning.compare import compare
from dbn.finetuning.problem import Problem
from dbn.models.scaling import Scaling
from dbn.runs.folder import CONFIG, RunFolder
from dbn.runs.training_data import splits_for, splits_of

ROWS, LABELED = 400, 100
CLASSES = np.array(["common", "rare"])


def table(seed: int = 0) -> tuple[Any, Any]:
    """x (400, 4) in [0, 1], and classes of which every fifth row is of the rare one."""
    y = (np.arange(ROWS) % 5 == 0).astype(int)
    return np.random.default_rng(seed).random((ROWS, 4)) * 0.5 + 0.5 * y[:, None], y


def save(path: Path, rows: range, n_labeled: int | None) -> None:
    """A .csv file of these rows, in which the first have their class; no column for it where None."""
    x, y = table()
    lines = ["a,b,c,d" + ",kind" * (n_labeled is not None)]
    for place, row in enumerate(rows):
        cells = [f"{value:.4f}" for value in x[row]]
        if n_labeled is not None:
            cells.append(CLASSES[y[row]] if place < n_labeled else "")
        lines.append(",".join(cells))
    path.write_text("\n".join(lines) + "\n")


def call(monkeypatch: pytest.MonkeyPatch, words: str) -> None:
    monkeypatch.setattr(sys, "argv", ["torch-dbn", *words.split()])
    main()


def refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: str) -> str:
    with pytest.raises(SystemExit) as ended:
        call(monkeypatch, words)
    assert ended.value.code == 2
    return capsys.readouterr().err


PRETRAIN = "pretrain --hidden 5 --epochs 1 --batch-size 50 "
FINETUNE = "finetune --init dbn he_normal --seeds 2 --epochs 2 --batch-size 10 "


def test_one_file_with_few_labels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    save(tmp_path / "all.csv", range(ROWS), LABELED)
    call(monkeypatch, PRETRAIN + "--dataset all.csv --label-column kind --run p")
    # Of 80 and 20 labels a fifth is tested, a tenth of the 80 left is for validation, as are 30 of 300 other rows.
    assert capsys.readouterr().out.startswith(
        "all.csv: 342 training, 38 validation and 20 test examples of 4 values in 2 classes, the test examples cut "
        "from the same rows; values are used as they are. 72 training and 8 validation examples have labels, the "
        "others have none.\n"
    )
    call(monkeypatch, FINETUNE + "--pretrained p --run f")
    out = capsys.readouterr().out
    assert out.startswith("72 training and 8 validation examples have labels, the others have none.\n")
    assert "all.csv: 72 training labels, 8 for validation" in out
    assert "--labels 73 is more than the 72 labeled training examples" in refused(
        monkeypatch, capsys, FINETUNE + "--pretrained p --labels 73 --run g"
    )
    save(tmp_path / "named.csv", range(LABELED), LABELED)
    call(monkeypatch, FINETUNE + "--pretrained p --dataset named.csv --label-column kind --labels-per-class 4 --run h")
    assert "named.csv: 8 training labels, 8 for validation" in capsys.readouterr().out


def test_a_file_without_labels_and_one_with_few(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    save(tmp_path / "rows.csv", range(LABELED, ROWS), None)
    save(tmp_path / "labels.csv", range(LABELED), LABELED)
    call(monkeypatch, PRETRAIN + "--dataset rows.csv --binarize sample --run p")
    assert "270 training, 30 validation and no test examples" in capsys.readouterr().out
    call(monkeypatch, "evaluate --run p --exact")  # which has something to score all the same
    out = capsys.readouterr().out
    assert "rows.csv has no test rows: validation rows stand in for them." in out
    scored = RunFolder(Path("p")).read_json("result.json")["parts"]
    assert {part: found["rows"] for part, found in scored.items()} == {"test": 30, "train": 270}
    assert "rows.csv has no labels, and fine-tuning needs them" in refused(
        monkeypatch, capsys, FINETUNE + "--pretrained p --run f"
    )
    call(monkeypatch, FINETUNE + "--pretrained p --dataset labels.csv --label-column kind --labels 20 --run f")
    assert "labels.csv: 20 training labels, 8 for validation" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "counts"),
    [({"labels": 10}, [8, 2]), ({"labels_per_class": 5}, [5, 5]), ({"labels": 30, "valid_labels": 5}, [24, 6]),
     ({}, [58, 14])],
)  # fmt: skip
def test_labels_drawn(options: dict[str, int], counts: list[int]) -> None:
    """72 labeled rows for training, 58 and 14, and 8 for validation, 6 and 2 (6.4 and 1.6)."""
    x, y = table()
    splits = splits_from_arrays(x, np.where(np.arange(ROWS) < LABELED, y, np.nan), cut_test=True)
    problem = Problem(splits, Scaling(1.0), (5,), (), Finetuning(init=("he_normal",), seeds=2, **options))
    train, valid = problem.labeled(1)
    assert train.y is not None
    assert valid.y is not None
    assert torch.bincount(train.y).tolist() == counts
    assert len(train) == problem.labels == sum(counts)
    assert len(valid) == problem.valid_labels == options.get("valid_labels", 8)
    assert torch.bincount(valid.y).min() >= 1
    assert torch.bincount(problem.test.y).tolist() == [16, 4]


def test_labels_that_cannot_be_drawn() -> None:
    x, y = table()
    with pytest.raises(InputError, match=r"^labels_per_class=60 needs 60 examples of class 1 .* which has 5"):
        compare(x, y, ["he_normal"], hidden=[3], seeds=1, labels_per_class=60)
    with pytest.raises(InputError, match=r"^labels does not go with labels_per_class"):
        compare(x, y, ["he_normal"], hidden=[3], labels=10, labels_per_class=5)
    with pytest.raises(InputError, match=r"^x: y holds 0.5 in row 1 .* real-valued targets"):
        compare(x, y + np.arange(ROWS) % 2 / 2, ["he_normal"], hidden=[3])


def test_one_hot_and_missing_labels_from_python_are_those_of_classes() -> None:
    x, y = table()
    options: dict[str, Any] = {"hidden": [3], "seeds": 1, "epochs": 1, "labels": 20}

    def errors(labels: Any) -> Any:
        return compare(x, labels, ["he_normal"], **options).arms["he_normal"]["test_error"]

    assert errors(np.eye(2)[y]) == errors(y[:, None]) == errors(y)
    three = np.where(np.arange(ROWS) % 3 == 0, 2, y)
    few = np.where(np.arange(ROWS) < LABELED, three, -1)
    assert errors(few) == errors(np.where(few < 0, np.nan, few)) == errors([None if each < 0 else each for each in few])


def test_runs_of_before_are_cut_as_they_were(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A configuration without `split` is of a version that knew balanced splits alone."""
    monkeypatch.chdir(tmp_path)
    save(tmp_path / "labels.csv", range(LABELED), LABELED)
    words = PRETRAIN + "--dataset labels.csv --label-column kind --run p "
    tuning = FINETUNE + "--dataset labels.csv --label-column kind --hidden 3 --init he_normal --seeds 1 --run f "
    for each in (words, tuning):
        call(monkeypatch, each + "--split balanced")
    x, y = table()
    options: dict[str, Any] = {"hidden": [3], "seeds": 1, "epochs": 1, "run": tmp_path / "c"}
    compare(x, y, ["he_normal"], split="balanced", **options)
    for name in "pfc":
        config = yaml.safe_load((tmp_path / name / CONFIG).read_text())
        assert config.pop("split") == "balanced"
        (tmp_path / name / CONFIG).write_text(yaml.safe_dump(config))
    for each in (words, tuning):
        call(monkeypatch, each + "--resume")
    compare(x, y, ["he_normal"], resume=True, **options)
    old = splits_of(tmp_path / "p")
    assert old.balanced
    assert old.fingerprint == RunFolder(tmp_path / "p").data
    reading = {"data_dir": None, "label_column": "kind", "unlabeled": None, "split": None}
    assert splits_for("labels.csv", [tmp_path / "p"], **reading).fingerprint == old.fingerprint
    assert not splits_for("labels.csv", [], **reading).balanced
    assert "was started with --split balanced (now proportional)" in refused(
        monkeypatch, capsys, words + "--split proportional --resume"
    )
