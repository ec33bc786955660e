"""Regression from targets to predictions, against least squares, scikit-learn and itself on another scale."""

import csv
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from sklearn import metrics as sklearn
from torch.testing import assert_close

import dbn
from dbn.cli.commands import COMMANDS
from dbn.cli.options import build, options_of, read_tokens
from dbn.config.finetuning import Finetuning
from dbn.config.study import StudyConfig, StudyTraining
from dbn.data.cut import splits_from_arrays
from dbn.data.examples import is_labeled, labels_of
from dbn.data.splits import Splits
from dbn.errors import InputError
from dbn.finetuning.problem import Problem
from dbn.finetuning.trainer import Trainer
from dbn.initializers.arms import parse_arm
from dbn.models.scaling import Scaling
from dbn.runs.classifier import read_classifier
from dbn.storage.tensors import read_tensors, write_tensors
from dbn.study.runner import run_study
from dbn.study.study import Study
from dbn.tasks import TASKS
from dbn.tasks.regress import Regress

QUICK: dict[str, Any] = {
    "task": "regress",
    "hidden": [6],
    "seeds": 2,
    "epochs": 3,
    "batch_size": 20,
    "learning_rate": 0.03,
}


def rows(n: int = 80, targets: int = 1, noise: float = 0.3) -> tuple[NDArray, NDArray]:
    rng = np.random.default_rng(5)
    x = rng.random((n, 4)).astype(np.float32)
    return x, x @ rng.normal(size=(4, targets)) * 10 + rng.normal(size=(n, targets)) * noise + 50


def split(x: NDArray, y: Any, **more: Any) -> Splits:
    return splits_from_arrays(x, y, cut_test=True, read_labels=TASKS["regress"].read, **more)


@pytest.mark.parametrize("targets", [1, 3])
def test_a_linear_network_finds_the_least_squares(targets: int) -> None:
    splits = split(*rows(targets=targets))
    config = Finetuning(
        task="regress", init=("he_normal",), epochs=1500, batch_size=1000, schedule="constant", learning_rate=0.2
    )
    problem = Problem(splits, Scaling.fitted(splits.train.x, 1.0, standardized=True), (), (), config)
    fit = Trainer(problem, parse_arm("he_normal"), 0.2, 0, refit_epochs=1500)
    for _ in fit.epochs():
        pass
    train, valid = problem.labeled(0)
    x, y = (torch.cat([getattr(train, part), getattr(valid, part)]).double().numpy() for part in ("x", "y"))
    solution = np.linalg.lstsq(np.c_[x, np.ones(len(x))], y, rcond=None)[0]
    test = problem.test
    expected = np.c_[test.tensor.double().numpy(), np.ones(len(test))] @ solution
    found = problem.task_of(0).answers(fit.network(problem.scaling(test.tensor))).reshape(len(test), -1)
    assert_close(found, torch.from_numpy(expected), rtol=0, atol=1e-3)


def test_scores_are_those_of_scikit_learn() -> None:
    generator = torch.Generator().manual_seed(0)
    y = torch.randn(50, 2, generator=generator, dtype=torch.float64) * torch.tensor([1.0, 100.0]) + 7
    outputs = torch.randn(50, 2, generator=generator)
    task = Regress(["a", "b"], [7.0, 8.0], [2.0, 50.0])
    found, predicted = task.scores(outputs, y), task.answers(outputs)
    assert found.rmse == pytest.approx(sklearn.root_mean_squared_error(y, predicted, multioutput="raw_values"))
    assert found.r2 == pytest.approx(sklearn.r2_score(y, predicted, multioutput="raw_values"))
    spreads = np.array([2.0, 50.0])
    assert found.error == pytest.approx(np.sqrt(np.mean((np.array(found.rmse) / spreads) ** 2)))
    alone = Regress(["a"], [7.0], [2.0])
    assert alone.scores(outputs[:, :1], y[:, :1]).error == pytest.approx(found.rmse[0])
    assert alone.error(outputs[:, :1], y[:, :1]) == pytest.approx(found.rmse[0])
    half = torch.nn.functional.mse_loss(outputs, task.targets(y)) * 2 / 2  # ½ · Σ over two targets
    assert_close(task.loss(outputs, task.targets(y)), half)
    assert_close(task.loss(outputs, task.targets(y), reduction="sum"), 50 * half)


def test_mean_and_spread_are_those_of_the_labeled_training_rows_of_the_seed() -> None:
    splits = split(*rows(targets=2))
    problem = Problem(splits, Scaling(), (3,), (), Finetuning(task="regress", init=("he_normal",), labels=20))
    scales = []
    for seed in (0, 1):
        y = labels_of(problem.labeled(seed)[0])
        task = problem.task_of(seed)
        assert isinstance(task, Regress)
        assert_close(task.shift, y.mean(0))
        assert_close(task.spread, y.std(0, correction=0))
        assert problem.description(parse_arm("he_normal"), seed)["target_spread"] == task.spread.tolist()
        scales.append(task.shift)
    assert not torch.equal(*scales)


def test_another_scale_of_the_targets_gives_the_same_predictions_on_it() -> None:
    x, y = rows()
    first, second = (dbn.compare(x, each, ["he_normal"], **QUICK) for each in (y, y * 1000 + 5))
    a, b = first.arms["he_normal"], second.arms["he_normal"]
    assert np.array(b["test_error"]) == pytest.approx(1000 * np.array(a["test_error"]), rel=1e-4)
    assert b["test_r2"] == pytest.approx(a["test_r2"], rel=1e-4)
    assert_close(second.best().predict(x), first.best().predict(x) * 1000 + 5, rtol=1e-5, atol=0.1)


def test_numbers_keep_the_digits_that_single_precision_lacks() -> None:
    x, y = rows()
    far = dbn.compare(x, y + 1e9, ["he_normal"], **QUICK)
    near = dbn.compare(x, y, ["he_normal"], **QUICK)
    assert far.arms["he_normal"]["test_error"] == pytest.approx(near.arms["he_normal"]["test_error"], rel=1e-3)


def test_whole_numbers_are_numbers_where_they_are_asked_for() -> None:
    x, y = rows()
    whole = y.round().astype(int)[:, 0]
    found = dbn.compare(x, whole, ["he_normal"], **QUICK)
    assert found.found["targets"] == ["y"]
    assert "classes" not in found.found
    with pytest.raises(InputError, match=r"task='regress'"):
        dbn.compare(x, y, ["he_normal"], hidden=[3])


def test_several_targets_are_reported_one_by_one() -> None:
    x, y = rows(targets=2)
    found = dbn.compare(x, y, ["he_normal", "xavier_uniform"], **QUICK)
    arm = found.arms["he_normal"]
    assert np.shape(arm["rmse"]) == np.shape(arm["r2"]) == (2, 2)
    assert "test RMSE/spread" in found.table()
    best = found.best("he_normal")
    assert best.predict(x).shape == (80, 2)
    assert best.targets == ("y1", "y2")
    assert best.classes == ()
    assert_close(best(torch.from_numpy(x)).double(), best.predict(x), rtol=1e-5, atol=1e-4)
    with pytest.raises(InputError, match="no probabilities"):
        best.predict_proba(x)


def test_rows_that_lack_a_target_serve_pretraining_alone() -> None:
    x, y = rows(targets=2)
    y[::4, 1] = np.nan
    splits = split(x, y)
    assert splits.test is not None
    assert is_labeled(labels_of(splits.test)).all()
    assert len(splits.train.labeled()) + len(splits.valid.labeled()) + len(splits.test) == 60
    assert len(splits.train) + len(splits.valid) + len(splits.test) == 80
    assert "have targets, the others lack one" in splits.describe()
    marked = split(x, np.nan_to_num(y, nan=-9.0), unlabeled=-9)
    assert torch.equal(labels_of(marked.train).nan_to_num(), labels_of(splits.train).nan_to_num())


def test_splits_and_draws_are_at_random() -> None:
    x, y = rows(200)
    splits = split(x, y)
    assert [len(part) for part in splits.parts.values()] == [144, 16, 40]
    problem = Problem(splits, Scaling(), (3,), (), Finetuning(task="regress", init=("he_normal",), labels=30))
    few, _ = problem.labeled(3)
    more, _ = Problem(splits, Scaling(), (3,), (), Finetuning(task="regress", init=("he_normal",), labels=60)).labeled(
        3
    )
    assert len(few) == 30
    assert torch.isin(labels_of(few), labels_of(more)).all()
    with pytest.raises(InputError, match="--split balanced is for classes"):
        split(x, y, split="balanced")


def test_an_interrupted_run_gives_the_bytes_of_a_whole_one(tmp_path: Path) -> None:
    x, y = rows()

    class Stop(Exception):
        pass

    def stop_after(n: int) -> Callable[[Any], None]:
        seen: list[Any] = []

        def called(record: Any) -> None:
            seen.append(record)
            if len(seen) == n:
                raise Stop

        return called

    whole = dbn.compare(x, y, ["he_normal"], run=tmp_path / "whole", **QUICK)
    with pytest.raises(Stop):
        dbn.compare(x, y, ["he_normal"], run=tmp_path / "parts", callback=stop_after(4), **QUICK)
    resumed = dbn.compare(x, y, ["he_normal"], run=tmp_path / "parts", resume=True, **QUICK)
    assert resumed.arms["he_normal"]["test_error"] == whole.arms["he_normal"]["test_error"]
    files = [next((tmp_path / name).rglob("classifier.safetensors")).read_bytes() for name in ("whole", "parts")]
    assert files[0] == files[1]
    again = dbn.compare(x, y, ["he_normal"], run=tmp_path / "parts", resume=True, **QUICK)
    assert torch.equal(again.best().predict(x), whole.best().predict(x))
    assert torch.equal(dbn.load_classifier(tmp_path / "whole").predict(x), whole.best().predict(x))


def test_the_scale_in_a_file_is_checked(tmp_path: Path) -> None:
    x, y = rows()
    dbn.compare(x, y, ["he_normal"], run=tmp_path / "run", **QUICK)
    file = next((tmp_path / "run").rglob("classifier.safetensors"))
    tensors, description = read_tensors(file)
    for wrong in ({"target_spread": [0.0]}, {"target_shift": [1.0, 2.0]}, {"targets": [3]}, {"task": "guess"}):
        write_tensors(file, tensors, description | wrong)
        with pytest.raises(InputError, match=r"is damaged|describes|not those"):
            read_classifier(file)


def test_files_of_classifiers_hold_what_they_did(tmp_path: Path) -> None:
    x, y = rows()
    options = QUICK | {"task": "classify"}
    found = dbn.compare(x, y[:, 0] > y.mean(), ["he_normal"], run=tmp_path / "run", **options)
    file = next((tmp_path / "run").rglob("classifier.safetensors"))
    _, description = read_tensors(file)
    assert description["classes"] == ["False", "True"]
    assert not {"task", "targets", "target_shift", "target_spread"} & set(description)
    assert "task" not in found.found
    assert "task" not in (tmp_path / "run" / "config.yaml").read_text()


X, Y = rows()
NASTY: list[tuple[Any, str]] = [
    (["a"] * 80, r"y holds 'a' in row 0, column 0 .*, but targets are numbers"),
    (np.full(80, 3.0), r"target 'y' is 3 in all rows"),
    (np.c_[Y, np.full(80, 3.0)], r"target 'y2' is 3 in all rows"),
    (np.where(np.arange(80) == 7, np.inf, Y[:, 0]), r"y holds inf in row 7"),
    (np.full(80, np.nan), r"no row has"),
    (Y[:70], r"y has shape \(70, 1\)"),
    (Y + 1j, r"y holds complex128"),
    (Y[:, :0], r"y has shape \(80, 0\)"),
]


@pytest.mark.parametrize(("y", "message"), NASTY)
def test_targets_that_are_none_are_refused_in_a_sentence(y: Any, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        dbn.compare(X, y, ["he_normal"], **QUICK)
    assert not str(caught.value).endswith(".")


def test_options_of_classes_are_refused() -> None:
    with pytest.raises(InputError, match="labels_per_class needs classes"):
        dbn.compare(X, Y, ["he_normal"], labels_per_class=2, **QUICK)
    with pytest.raises(InputError, match=r"task must be one of classify, regress, multilabel"):
        dbn.compare(X, Y, ["he_normal"], **QUICK | {"task": "guess"})


def run_program(*words: object) -> int:
    """The exit status of a command."""
    verb, *rest = map(str, words)
    command = COMMANDS[verb]
    try:
        command.main(build(command.config, read_tokens(rest, options_of(command.config))))
    except InputError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def test_a_table_from_pretraining_to_predictions(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    x, y = rows(targets=2)
    table, run, out = tmp_path / "t.csv", tmp_path / "run", tmp_path / "out.csv"
    with table.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["price", "a", "b", "c", "d", "size"])
        writer.writerows(
            [["" if n % 9 == 0 else p, *cells, s] for n, (cells, (p, s)) in enumerate(zip(x, y, strict=True))]
        )
    columns = ("--label-column", "price", "size")
    begun = ("--dataset", table, *columns, "--hidden", 5, "--epochs", 1, "--run", tmp_path / "stack")
    quick = ("--seeds", 1, "--epochs", 2, "--learning-rate", 0.01, "--run", run)
    assert run_program("pretrain", *begun) == 0
    assert run_program("finetune", "--pretrained", tmp_path / "stack", "--task", "regress", *quick) == 2
    assert "pre-train with --task regress" in capsys.readouterr().err
    assert run_program("pretrain", *begun, "--task", "regress", "--overwrite") == 0
    assert run_program("finetune", "--pretrained", tmp_path / "stack", "--task", "regress", *quick) == 0
    assert "test RMSE/spread" in capsys.readouterr().out
    with Image.open(run / "predictions.png") as picture:  # three arms × two targets
        assert picture.size[1] == 2 * 324 + 20
    assert json.loads((run / "result.json").read_text())["targets"] == ["price", "size"]
    data = ("--run", run, "--data", table, "--output", out)
    assert run_program("predict", *data, "--label-column", "size", "price") == 0
    assert "Scores on 71 examples: of price RMSE" in capsys.readouterr().out
    with out.open() as file:
        written = list(csv.DictReader(file))
    network = dbn.load_classifier(run)
    assert list(written[0]) == list(network.targets) == ["price", "size"]
    found = torch.tensor([[float(row[name]) for name in network.targets] for row in written], dtype=torch.float64)
    assert_close(found, network.predict(x), rtol=1e-6, atol=1e-6)
    assert run_program("predict", *data, *columns, "--columns", "class") == 2
    assert "--columns class is for classifiers" in capsys.readouterr().err


def test_a_study_compares_arms_by_their_error(tmp_path: Path) -> None:
    table = tmp_path / "t.npz"
    np.savez(table, x=X, y=Y)
    training = StudyTraining(
        task="regress", init=("he_normal", "zeros"), seeds=2, epochs=2, batch_size=10, labels=(20, 40), signals=(1,)
    )
    study = Study(StudyConfig(run=tmp_path / "study", dataset=str(table), hidden=(4,), training=training))
    (tmp_path / "study").mkdir()
    text = run_study(study, figures=False)
    assert "## Test RMSE" in text
    lines = [json.loads(line) for line in (tmp_path / "study" / "results.jsonl").read_text().splitlines()]
    assert len(lines) == 8
    assert {"test_error", "test_r2"} <= set(lines[0])
