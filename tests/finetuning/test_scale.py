"""One scale from training to use: the same pictures as bytes and as floats, and tables with names."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tiny import pictures, result

import dbn
from dbn.cli.commands import finetune, predict, sample
from dbn.cli.commands import pretrain as pretraining
from dbn.config.common import DataConfig
from dbn.config.evaluation import EvaluateConfig
from dbn.config.finetuning import FinetuneConfig, Finetuning
from dbn.config.inference import PredictConfig, SampleConfig
from dbn.config.pretraining import PretrainConfig, Pretraining
from dbn.config.study import StudyConfig, StudyTraining
from dbn.data.cut import splits_from_arrays
from dbn.errors import InputError
from dbn.evaluation.sources import load_evaluation_data
from dbn.finetuning.loading import load_problem
from dbn.models.scaling import Scaling
from dbn.pretraining.pretrain import unlabeled
from dbn.runs.weights import load
from dbn.storage.tensors import read_tensors
from dbn.study.study import Study

X, Y = pictures()
QUICK: dict[str, Any] = {"seeds": 1, "epochs": 2, "batch_size": 20}
STORED = {"bytes": X, "floats": (X / 255).astype(np.float32)}
RNG = np.random.default_rng(0)
DIGITS = RNG.integers(0, 17, (120, 4)).astype(np.uint8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same pictures as bytes.npz and floats.npz, and a stack trained on each."""
    path = tmp_path_factory.mktemp("scale")
    for kind, x in STORED.items():
        np.savez(path / f"{kind}.npz", x=x, y=Y)
        dbn.pretrain(x, hidden=[6], epochs=2, batch_size=20, run=path / f"stack-{kind}")
    return path


def test_stacks_on_bytes_and_on_floats_have_the_same_weights_and_say_what_they_saw(folder: Path) -> None:
    on_bytes, on_floats = (load(folder / f"stack-{kind}") for kind in STORED)
    assert torch.equal(on_bytes.rbms[0].weight, on_floats.rbms[0].weight)  # type: ignore[arg-type]
    known = [(each.scaling.stored, each.scaling.divisor, each.scaling.values) for each in (on_bytes, on_floats)]
    greatest = X.max() / np.float32(255)
    assert known == [("bytes", 255.0, (0.0, greatest)), ("floats", 1.0, (0.0, greatest))]
    encoder = read_tensors(folder / "stack-floats" / "encoder.safetensors")[1]
    assert encoder["stored"] == "floats"


def test_the_table_and_the_predictions_are_the_same_for_every_pair(folder: Path) -> None:
    tables, predictions = [], []
    for stack in STORED:
        for x in STORED.values():
            found = dbn.compare(x, Y, ["dbn", "he_normal"], pretrained=folder / f"stack-{stack}", **QUICK)
            tables.append({name: {**arm, "seconds": 0} for name, arm in found.arms.items()})
            predictions += [found.best().predict_proba(each) for each in STORED.values()]
    assert all(table == tables[0] for table in tables)
    assert all(torch.equal(each, predictions[0]) for each in predictions)


def test_predictions_do_not_depend_on_the_rows_beside_them(folder: Path) -> None:
    """Bytes above 127 are of 0 … 255 for a classifier of floats; a 0-and-1 row beside them may be of another scale."""
    classifier = dbn.compare(STORED["floats"], Y, ["he_normal"], hidden=[6], **QUICK).best()
    bright, binary = X[:4], (X[4:8] > 127).astype(np.uint8)
    alone = classifier.predict_proba(bright)
    assert torch.equal(alone, classifier.predict_proba(STORED["floats"][:4]))
    for call in (classifier.predict_proba, classifier.predict_logits, classifier.predict):
        with pytest.raises(InputError, match="x has rows whose bytes are all 0 or 1 beside others"):
            call(np.concatenate([bright, binary]))


def test_cells_of_a_study_are_the_same_for_every_pair(folder: Path, tmp_path: Path) -> None:
    problems = []
    for stack, data in (("floats", "bytes"), ("bytes", "floats"), ("floats", "floats")):
        training = StudyTraining(init=("dbn", "he_normal"), seeds=(1,), epochs=(2,), batch_size=(20,), signals=(1,))
        options: dict[str, Any] = {"dataset": str(folder / f"{data}.npz"), "pretrained": (folder / f"stack-{stack}",)}
        made = Study(StudyConfig(run=tmp_path / "run", training=training, device="cpu", **options))
        made.check()
        problems.append(made.problem(made.cell_arms[0]))
    inputs = [torch.cat([each.scaling(part.x) for part in each.splits.parts.values()]) for each in problems]
    assert torch.equal(inputs[0], inputs[1])
    assert torch.equal(inputs[0], inputs[2])
    assert [each.scaling.stored for each in problems] == ["bytes", "floats", "floats"]


def test_what_is_evaluated_is_the_same_for_every_pair(folder: Path) -> None:
    found = [
        load_evaluation_data(
            load(folder / f"stack-{stack}"),
            EvaluateConfig(run=folder / f"stack-{stack}", data=folder / f"{data}.npz", binarize="threshold"),
        )
        for stack in STORED
        for data in STORED
    ]
    assert all(torch.equal(each.parts["test"], found[0].parts["test"]) for each in found)
    assert found[0].parts["test"].float().mean() == torch.from_numpy(X > 127).float().mean()


def test_chains_that_are_drawn_start_at_the_data_of_the_run(tmp_path: Path) -> None:
    np.savez(tmp_path / "digits.npz", x=DIGITS.reshape(-1, 2, 2))
    data, training = DataConfig(dataset=str(tmp_path / "digits.npz"), divisor=16), Pretraining(hidden=(4,), epochs=(1,))
    pretraining.main(PretrainConfig(run=tmp_path / "run", data=data, training=training, device="cpu"))
    assert load(tmp_path / "run").scaling.divisor == 16
    sample.main(SampleConfig(run=tmp_path / "run", output=tmp_path / "grid.png", count=4, steps=1, device="cpu"))
    assert (tmp_path / "grid.png").is_file()


# Without a stack


REAL = RNG.normal(size=(60, 4)).astype(np.float32) + 3 * np.eye(4, dtype=np.float32)[np.arange(60) % 3]
KIND = np.arange(60) % 3


def test_real_values_are_refused_or_standardized_on_request_and_then_predicted() -> None:
    with pytest.raises(InputError, match=r"fine-tuning needs values in \[0, 1\]: .* standardize for real values$"):
        dbn.compare(REAL, KIND, "he_normal", hidden=[8], **QUICK)
    found = dbn.compare(REAL, KIND, "he_normal", hidden=[8], standardize=True, **QUICK | {"epochs": 40})
    classifier = found.best()
    assert classifier.scaling.shift is not None
    assert np.mean([int(each) for each in classifier.predict(REAL)] == KIND) > 0.9
    with pytest.raises(InputError, match="another scale"):
        classifier.predict_proba(1000 * REAL)
    with pytest.raises(InputError, match="standardize does not go with pretrained"):
        dbn.compare(REAL, KIND, pretrained=dbn.pretrain(REAL, [3], epochs=1, visible="gaussian"), standardize=True)


def test_test_values_of_another_scale_are_refused() -> None:
    x, y = STORED["floats"], Y
    with pytest.raises(InputError, match=r"test values go from 0 to 2.*: divide them, with divisor"):
        dbn.compare(x, y, "he_normal", hidden=[4], x_test=255 * x[:30], y_test=y[:30], **QUICK)
    with pytest.raises(InputError, match=r"x: x_test has bytes from 0 to 1, .*divisor=1 or divisor=255"):
        dbn.compare(X, y, "he_normal", hidden=[4], x_test=X[:30] // 128, y_test=y[:30], **QUICK)
    options: dict[str, Any] = {"init": "he_normal", "hidden": [4], "standardize": True, "y_test": KIND[:30], **QUICK}
    for factor, shift in ((1000, 0), (0.001, REAL.mean(0))):
        test = (REAL[:30] - REAL.mean(0)) * factor + shift
        with pytest.raises(InputError, match="x_test is of another scale than the model was trained on"):
            dbn.compare(REAL, KIND, x_test=test, **options)
        assert dbn.compare(REAL, KIND, x_test=test, divisor=1, **options).arms  # said to be on that scale


def test_validation_values_of_another_scale_are_refused(tmp_path: Path) -> None:
    for name, x in (("train", REAL), ("valid", 1000 * REAL)):
        rows = [[*map(str, each), str(kind)] for each, kind in zip(x.tolist(), KIND, strict=True)]
        with (tmp_path / f"{name}.csv").open("w", newline="") as file:
            csv.writer(file).writerows([[*"abcd", "kind"], *rows])
    options: dict[str, Any] = {
        "dataset": str(tmp_path / "train.csv"),
        "valid_file": tmp_path / "valid.csv",
        "label_column": "kind",
    }
    words = "train.csv: x_valid is of another scale than the model was trained on"
    training = Pretraining(hidden=(4,), epochs=(1,), visible="gaussian")
    with pytest.raises(InputError, match=words):
        pretraining.main(
            PretrainConfig(run=tmp_path / "run", data=DataConfig(**options), training=training, device="cpu")
        )
    tuning = Finetuning(init=("he_normal",), standardize=True, **QUICK)
    with pytest.raises(InputError, match=words):
        load_problem(FinetuneConfig(hidden=(4,), training=tuning, device="cpu", **options))


# Bytes that are no pictures


@pytest.mark.parametrize("x", [DIGITS, DIGITS.astype(np.float32)])
@pytest.mark.parametrize("divisor", ["max", 16])
def test_one_option_names_the_divisor(x: NDArray, divisor: Any) -> None:
    options: dict[str, Any] = {"epochs": 1, "batch_size": 20}
    with pytest.raises(InputError, match=r"from 0 to 16, .*with divisor=16, or divisor='max' .*visible='gaussian'"):
        dbn.pretrain(x, [3], **options)
    stack = dbn.pretrain(x, [3], divisor=divisor, **options)
    wanted = dbn.pretrain((DIGITS / 16).astype(np.float32), [3], **options)
    assert torch.equal(stack.rbms[0].weight, wanted.rbms[0].weight)  # type: ignore[arg-type]
    assert torch.equal(stack.scale(torch.from_numpy(x)), torch.from_numpy(DIGITS) / 16)
    y = DIGITS[:, 0] > 8
    tables = [
        dbn.compare(each, y, ["dbn", "he_normal"], pretrained=stack, **QUICK).arms["dbn"]["test_error"]
        for each in (DIGITS, DIGITS / 16 if x is DIGITS else x)
    ]
    assert all(table == tables[0] for table in tables)


def test_bytes_that_are_numbers_are_standardized_as_they_are() -> None:
    stack = dbn.pretrain(DIGITS, [3], visible="gaussian", epochs=1, batch_size=20)
    assert (stack.scaling.divisor, stack.scaling.values) == (1.0, (0.0, 16.0))
    assert dbn.pretrain(X, [3], visible="gaussian", epochs=1, batch_size=20).scaling.divisor == 255.0


@pytest.mark.parametrize("divisor", [0, -1, "min", float("nan"), float("inf")])
def test_a_divisor_is_a_number_above_0_or_max(divisor: Any) -> None:
    with pytest.raises(InputError, match="divisor must be a number above 0 or max, not"):
        dbn.pretrain(DIGITS, [3], divisor=divisor, epochs=1)


def test_a_fixed_draw_of_divided_values_is_of_0_and_1() -> None:
    config = Pretraining(hidden=(3,), binarize="fixed", batch_size=20)
    for divisor, kind in ((16, np.float32), (1000.5, np.float32), (16, np.uint8), (300, np.uint8), (20.5, np.uint8)):
        x = (DIGITS / 16 * min(divisor, 255)).astype(kind)
        splits = splits_from_arrays(x, divisor=divisor)
        data = unlabeled(splits, config, torch.device("cpu"))
        assert set(data.scaling(data.train).unique().tolist()) == {0.0, 1.0}


# Files and their columns


def write_table(path: Path, columns: list[int], *, labels: bool) -> Path:
    names = ["vib", "rpm", "temp", "volt"]
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([names[column] for column in columns] + ["kind"] * labels)
        for row, kind in zip(REAL * [1, 50, 1, 0.01], KIND, strict=True):
            writer.writerow([f"{row[column]:.4f}" for column in columns] + [f"k{kind}"] * labels)
    return path


def test_columns_of_files_are_matched_by_their_names(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train = write_table(tmp_path / "train.csv", [0, 1, 2, 3], labels=True)
    other = write_table(tmp_path / "other.csv", [3, 0, 2, 1], labels=True)
    plain = write_table(tmp_path / "plain.csv", [1, 2, 3, 0], labels=False)
    short = write_table(tmp_path / "short.csv", [1, 2, 3], labels=False)
    training = Finetuning(init=("he_normal",), seeds=1, epochs=20, batch_size=10, standardize=True)
    found = []
    for name, data in (("a", train), ("b", other)):
        config = FinetuneConfig(
            run=tmp_path / name, dataset=str(data), label_column="kind", hidden=(6,), training=training, device="cpu"
        )
        found.append(load_problem(config))
        finetune.main(config)
    assert [problem.scaling.columns for problem in found] == [
        ("vib", "rpm", "temp", "volt"),
        ("volt", "vib", "temp", "rpm"),
    ]
    tables = []
    for data, column in ((train, "kind"), (other, "kind"), (plain, None)):
        output = tmp_path / "p.csv"
        predict.main(PredictConfig(run=tmp_path / "a", data=data, output=output, label_column=column, device="cpu"))
        tables.append(output.read_text())
    assert tables[0] == tables[1] == tables[2]
    assert "plain.csv: columns are matched by their names." in capsys.readouterr().out
    with pytest.raises(InputError, match=r"short.csv lacks the column 'vib': give"):
        predict.main(PredictConfig(run=tmp_path / "a", data=short, output=tmp_path / "none.csv", device="cpu"))
    assert not (tmp_path / "none.csv").exists()


def test_columns_of_a_stack_are_those_of_what_is_fine_tuned(tmp_path: Path) -> None:
    train = write_table(tmp_path / "train.csv", [0, 1, 2, 3], labels=True)
    other = write_table(tmp_path / "other.csv", [3, 0, 2, 1], labels=True)
    run = tmp_path / "stack"
    pretraining.main(
        PretrainConfig(
            run=run,
            data=DataConfig(dataset=str(train), label_column="kind"),
            training=Pretraining(hidden=(5,), epochs=(3,), batch_size=10, visible="gaussian"),
            device="cpu",
        )
    )
    for name, data in (("a", train), ("b", other)):
        finetune.main(
            FinetuneConfig(
                run=tmp_path / name, dataset=str(data), label_column="kind", pretrained=(run,), device="cpu",
                training=Finetuning(init=("dbn", "he_normal"), seeds=1, epochs=3, batch_size=10),
            )
        )  # fmt: skip
    first, second = (result(tmp_path / name) for name in "ab")
    assert first["arms"] == second["arms"]


@pytest.mark.parametrize("config", [PredictConfig, EvaluateConfig])
def test_the_greatest_value_of_new_data_is_no_divisor(config: Any, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--divisor max is for training data"):
        config(run=tmp_path, data=tmp_path / "x.npz", output=tmp_path / "p", divisor="max")


def test_a_data_set_says_truthfully_what_is_done_to_its_values() -> None:
    def done(x: NDArray, *, standardized: bool = False, **options: Any) -> str:
        return splits_from_arrays(x, **options).describe(standardized=standardized).split("; ")[1]

    assert done(X) == "bytes are divided by 255."
    assert done(DIGITS) == "bytes are used as they are."
    assert done(DIGITS % 2) == "bytes are 0 or 1."
    assert done(DIGITS, divisor="max") == "bytes are divided by 16."
    assert done(X, standardized=True) == "bytes are divided by 255 and standardized."
    assert done(REAL) == "values are used as they are."
    assert done(REAL, standardized=True) == "values are standardized."
    assert Scaling.fitted(torch.from_numpy(X[0]), 255.0).stored == "bytes"


def test_columns_of_data_frames_are_matched_by_their_names() -> None:
    x, other = STORED["floats"].reshape(len(X), -1)[:, 12:16], [3, 1, 0, 2]
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(x, columns=list("abcd"))
    shuffled, another = frame.iloc[:, other], frame.rename(columns={"d": "e"})
    options: dict[str, Any] = {"hidden": [6], **QUICK}
    first = dbn.compare(frame, Y, "he_normal", **options)
    assert first.best().scaling.columns == tuple("abcd")
    assert torch.equal(first.best().predict_proba(shuffled), first.best().predict_proba(frame))
    with pytest.raises(InputError, match="x lacks the column 'd' and has the column 'e' that the classifier"):
        first.best().predict_proba(another)
    tests = [dbn.compare(frame, Y, "he_normal", x_test=each, y_test=Y, **options) for each in (frame, shuffled)]
    assert tests[0].arms["he_normal"]["test_error"] == tests[1].arms["he_normal"]["test_error"]
    with pytest.raises(InputError, match="x_test lacks the column 'd' that x has"):
        dbn.compare(frame, Y, "he_normal", x_test=another, y_test=Y, **options)


def test_a_stack_whose_activation_no_network_has_is_refused_with_one_that_works() -> None:
    stack = dbn.pretrain(X, [6], hidden_units="categorical(states=3)", epochs=1, batch_size=20)
    words = r"has theirs, softmax\(states=3\): write dbn:sigmoid for their weights"
    with pytest.raises(InputError, match=words) as refusal:
        dbn.compare(X, Y, "dbn", pretrained=stack, **QUICK)
    assert "such as" not in str(refusal.value)
    assert dbn.compare(X, Y, "dbn:sigmoid", pretrained=stack, **QUICK).arms
