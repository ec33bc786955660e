"""Training of a label model, its run folder, its commands, and what is refused."""

import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_iris
from torch import Tensor

import dbn
from dbn.cli.program import main
from dbn.config.label_model import LabelTraining
from dbn.errors import InputError
from dbn.runs.weights import LABEL_MODEL
from tests import tiny

QUICK: dict[str, Any] = {"hidden": 8, "epochs": 2, "batch_size": 10}


def data(n: int = 150) -> tuple[Any, Any]:
    return tiny.pictures(n)


def train(**options: Any) -> dbn.models.LabelModel:
    x, y = data()
    return dbn.train_label_model(x, y, **QUICK | options)


def weights(model: dbn.models.LabelModel) -> list[Tensor]:
    return list(model.state_dict().values())


def alike(one: dbn.models.LabelModel, other: dbn.models.LabelModel) -> bool:
    return all(a.equal(b) for a, b in zip(weights(one), weights(other), strict=True))


@pytest.mark.parametrize("gradient", ["generative", "discriminative", "hybrid"])
def test_every_gradient_learns_the_classes(gradient: Any) -> None:
    x, y = data()
    model = dbn.train_label_model(x, y, hidden=12, epochs=12, batch_size=10, gradient=gradient)
    new_x, new_y = tiny.pictures(300, seed=1)
    wrong = np.mean(np.array(model.predict(new_x), dtype=int) != new_y)
    assert wrong < 0.05, model.history[-1]
    assert model.history[-1]["valid_error"] < 5
    losses = [record["valid_log_loss"] for record in model.history if "valid_log_loss" in record]
    assert losses[-1] < losses[0]
    assert losses[-1] < np.log(tiny.CLASSES) / 2


def test_samples_of_a_class_are_of_that_class() -> None:
    x, y = data()
    model = dbn.train_label_model(x, y, hidden=12, epochs=15, batch_size=10, gradient="generative")
    for label in range(tiny.CLASSES):
        images = model.sample(40, label=label, steps=50).view(40, 6, 6)
        rows = images.sum(2).unflatten(1, (3, 2)).sum(2)  # the class says which two rows are bright
        assert (rows.argmax(1) == label).float().mean() > 0.9


def test_defaults_learn_a_small_table_of_numbers() -> None:
    """At a constant rate of 0.01 the error is 8 %."""
    x, y = load_iris(return_X_y=True)
    held_out = np.arange(len(x)) % 3 == 0
    model = dbn.train_label_model(x[~held_out], y[~held_out], visible="gaussian", hidden=20, device="cpu")
    assert 0 < model.history[0]["learning_rate"] < 1
    assert model.history[-1]["learning_rate"] < 0.1
    wrong = np.array(model.predict(x[held_out]), dtype=int) != y[held_out]
    assert wrong.mean() <= 0.04
    assert -model.log_proba(x[held_out])[np.arange(50), y[held_out]].mean() < 0.2
    for options, rate in (
        ({}, "1:0"),
        ({"estimator": "cd"}, "0.1:0"),
        ({"gradient": "generative"}, 0.01),
        ({"estimator": "pcd"}, "0.1:0"),
        ({"optimizer": "adam"}, 0.001),
    ):
        assert LabelTraining(visible="gaussian", **options).for_data(100, 4).learning_rate == (rate,)  # type: ignore[arg-type]


def test_a_model_of_classes_alone_has_nothing_to_sample(tmp_path: Path) -> None:
    for options in ({"gradient": "discriminative"}, {"generative_weight": 0.0}):
        for model in (train(run=tmp_path / "run", overwrite=True, **options), dbn.load_label_model(tmp_path / "run")):
            with pytest.raises(InputError, match=r"no distribution of rows to sample, .* hybrid or the generative"):
                model.sample(2, label=0)
    assert train().sample(2, steps=1).shape == (2, 36)


def test_a_hybrid_of_weight_0_is_discriminative() -> None:
    assert alike(train(gradient="hybrid", generative_weight=0), train(gradient="discriminative"))
    assert not alike(train(gradient="hybrid", generative_weight=0.1), train(gradient="discriminative"))


def test_rows_without_a_label_are_learned_from() -> None:
    x, y = data()
    some = [str(label) if number % 5 == 0 else None for number, label in enumerate(y)]
    model = dbn.train_label_model(x, some, **QUICK, gradient="generative")
    alone = [number for number, label in enumerate(some) if label is not None]
    fewer = dbn.train_label_model(x[alone], y[alone], **QUICK, gradient="generative")
    assert model.classes == fewer.classes == ("0", "1", "2")
    assert not alike(model, fewer)
    marked = dbn.train_label_model(
        x, np.where(np.arange(len(y)) % 5, -1, y), no_label=-1, **QUICK, gradient="generative"
    )
    assert alike(model, marked)


@pytest.mark.parametrize("estimator", ["pcd", "lagged-pcd", "pt"])
def test_other_estimators_and_options_go_with_it(estimator: str) -> None:
    options: dict[str, Any] = {"centered": True, "l1": 0.001, "average": 0.9, "max_norm": 2.0}
    model = train(estimator=estimator, gradient="hybrid", generative_weight=0.5, **options)
    assert all(each.isfinite().all() for each in weights(model))


def test_the_features_of_a_stack_stand_in_for_the_rows() -> None:
    x, y = data()
    stack = dbn.pretrain(x, hidden=[12, 9], epochs=2, batch_size=10)
    before = [each.clone() for each in stack.parameters()]
    model = dbn.train_label_model(x, y, stack=stack, **QUICK)
    assert [rbm.visible.size for rbm in model.layers] == [36, 12, 9 + tiny.CLASSES]
    assert all(a.equal(b) for a, b in zip(before, stack.parameters(), strict=True))
    assert model.sample(3, label=1, steps=2).shape == (3, 36)
    assert model.rbm.visible.spec == "9 bernoulli + 3 categorical(states=3)"
    on_features = dbn.models.LabelModel(model.rbm, model.classes)
    torch.testing.assert_close(model.predict_proba(x), on_features.predict_proba(stack.up(stack.scale(x))))


def test_real_values_are_standardized() -> None:
    x, y = data()
    real = x.reshape(len(x), -1) * 3.0 - 7
    model = dbn.train_label_model(real, y, visible="gaussian", **QUICK | {"epochs": 8, "learning_rate": 0.1})
    assert model.history[-1]["valid_error"] < 10
    assert model.sample(3, label=0, steps=2).shape == (3, 36)


def test_a_loaded_model_is_the_same_and_writes_the_same_bytes(tmp_path: Path) -> None:
    x, _ = data()
    model = train(run=tmp_path / "run")
    loaded = dbn.load_label_model(tmp_path / "run")
    assert alike(model, loaded)
    assert loaded.description() == model.description()
    assert loaded.predict_proba(x).equal(model.predict_proba(x))
    assert loaded.image_shape == (1, 6, 6)
    train(run=tmp_path / "again")
    first, second = ((tmp_path / name / LABEL_MODEL).read_bytes() for name in ("run", "again"))
    assert first == second
    dbn.runs.label_model.save_label_model(tmp_path / "again", loaded)
    assert (tmp_path / "again" / LABEL_MODEL).read_bytes() == first


@pytest.mark.parametrize("estimator", ["cd", "pcd"])
def test_a_run_that_was_stopped_ends_with_the_same_weights(estimator: str, tmp_path: Path) -> None:
    whole = train(run=tmp_path / "whole", epochs=3, estimator=estimator, generative_weight=0.2)

    def stop(record: dict[str, Any]) -> None:
        if record["epoch"] == 2:
            raise RuntimeError("stop here")

    with pytest.raises(RuntimeError, match="stop here"):
        train(run=tmp_path / "run", epochs=3, estimator=estimator, generative_weight=0.2, callback=stop)
    resumed = train(run=tmp_path / "run", epochs=3, estimator=estimator, generative_weight=0.2, resume=True)
    assert alike(whole, resumed)
    assert tiny.metrics(tmp_path / "run") == tiny.metrics(tmp_path / "whole") == without_times(resumed.history)
    again = train(run=tmp_path / "run", epochs=3, estimator=estimator, generative_weight=0.2, resume=True)
    assert alike(whole, again)


def test_the_hybrid_gradient_has_chains_by_class_and_a_run_without_them_is_resumed_as_it_was(tmp_path: Path) -> None:
    assert alike(train(), train(estimator="class-pcd"))
    before = train(estimator="cd", run=tmp_path / "run")
    assert not alike(before, train())
    assert alike(before, train(run=tmp_path / "run", resume=True))
    for gradient, estimator in (("hybrid", "class-pcd"), ("generative", "cd"), ("discriminative", "cd")):
        assert LabelTraining(gradient=gradient).for_data(100, 9).estimator == estimator  # type: ignore[arg-type]
    with pytest.raises(InputError, match="class-pcd is for label models"):
        dbn.train_rbm(torch.rand(20, 4), hidden=3, estimator="class-pcd")


def without_times(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: value for name, value in record.items() if name not in tiny.TIMES} for record in records]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"y": [0, 1]}, "y has shape"),
        ({"y": None}, "there are no labels: add y"),
        ({"y": [0] * 150}, "all labels are '0', but at least two classes are needed"),
        ({"y": [None] * 150}, "no row has a label"),
        ({"hidden": [8, 8]}, "hidden takes one number of units for a label model, not 2"),
        ({"gradient": "both"}, "gradient"),
        (
            {"gradient": "generative", "generative_weight": 0.5},
            "generative_weight=0.5 does not go with|generative_weight",
        ),
        ({"generative_weight": -1}, "generative_weight"),
        ({"gradient": "discriminative", "estimator": "pcd"}, "leave it out"),
        ({"gradient": "generative", "estimator": "class-pcd"}, "learns p\\(x | y\\), not how often a class is"),
        ({"tied": True}, "tied"),
        ({"features": "sample"}, "features"),
        ({"epoch": 3}, "epochs"),
        ({"resume": True}, "needs a run folder"),
    ],
)
def test_what_cannot_be_trained_is_refused_in_a_sentence(options: dict[str, Any], said: str) -> None:
    x, y = data()
    with pytest.raises(InputError, match=said) as caught:
        dbn.train_label_model(**{"x": x, "y": y} | QUICK | options)
    assert "\n" not in str(caught.value)
    assert "--" not in str(caught.value)


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no label model"):
        dbn.load_label_model(tmp_path)
    train(run=tmp_path / "run")
    file = tmp_path / "run" / LABEL_MODEL
    file.write_bytes(file.read_bytes()[:-8])
    with pytest.raises(InputError, match="label_model"):
        dbn.load_label_model(tmp_path / "run")


def call(monkeypatch: pytest.MonkeyPatch, *words: object) -> None:
    monkeypatch.setattr(sys, "argv", ["torch-dbn", *map(str, words)])
    main()


def test_the_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    file = tiny.save_pictures(tmp_path / "tiny.npz")
    quick = ["--epochs", 2, "--batch-size", 10]
    call(monkeypatch, "pretrain", "--dataset", file, "--hidden", 9, "--run", tmp_path / "stack", *quick)
    stack = ["--pretrained", tmp_path / "stack"]
    for number, words in enumerate((["--dataset", file], stack, ["--dataset", file, *stack])):
        run = tmp_path / f"run{number}"
        call(monkeypatch, "label-model", *words, "--hidden", 8, "--run", run, *quick)
        said = capsys.readouterr().out
        assert "Validation error" in said
        assert f"sample --run {run} --label 0" in said.splitlines()[-1]
        picture, table = tmp_path / "a.png", tmp_path / "a.csv"
        call(monkeypatch, "sample", "--run", run, "--label", 2, "--steps", 3, "--output", picture, "--count", 4)
        call(monkeypatch, "predict", "--run", run, "--data", file, "--output", table)
        said = capsys.readouterr().out
        assert re.search(r"4 images after 3 Gibbs steps from data, \d+% of them 2 by the model itself: ", said)
        assert "classified by the label model" in said
        assert "error" in said
        assert table.read_text().splitlines()[0] == "0,1,2"
        assert picture.stat().st_size > 0
        call(monkeypatch, "label-model", *words, "--hidden", 8, "--run", run, *quick, "--resume")
        capsys.readouterr()
        with pytest.raises(SystemExit):
            call(monkeypatch, "sample", "--run", run, "--label", 2, "--output", picture, "--count", 1000)
        assert "ask for as many, or --start noise" in capsys.readouterr().err
    without = ["--gradient", "discriminative", "--run", tmp_path / "classes"]
    call(monkeypatch, "label-model", "--dataset", file, "--hidden", 8, *without, *quick)
    assert "predict --run" in capsys.readouterr().out.splitlines()[-1]  # it has no samples
    for words, said in (
        (["sample", "--run", run, "--label", 7, "--output", picture], "there is no class '7'"),
        (
            ["sample", "--run", tmp_path / "stack", "--label", 1, "--output", picture],
            "--label needs a model with labels",
        ),
        (["predict", "--run", run, "--init", "dbn", "--data", file, "--output", table], "leave it out"),
    ):
        with pytest.raises(SystemExit) as ended:
            call(monkeypatch, *words)
        assert ended.value.code == 2
        assert said in capsys.readouterr().err


def test_a_table_of_categories_and_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(0)
    kind = rng.integers(0, 2, 200)
    rows = [
        f"{size:.3f},{'red' if red else 'blue'},{'cat' if each else 'dog'}"
        for each, size, red in zip(kind, rng.normal(3 * kind, 0.5), rng.random(200) < 0.2 + 0.6 * kind, strict=True)
    ]
    file = tmp_path / "pets.csv"
    file.write_text("\n".join(["size,color,pet", *rows]))
    for words in (
        ["--dataset", file, "--label-column", "pet", "--visible", "auto"],
        ["--pretrained", tmp_path / "stack"],
    ):
        if "--pretrained" in words:
            read = ["--dataset", file, "--label-column", "pet", "--visible", "auto"]
            call(monkeypatch, "pretrain", *read, "--hidden", 6, "--epochs", 2, "--run", tmp_path / "stack")
        run, table = tmp_path / f"run{len(words)}", tmp_path / "out.csv"
        quick = ["--hidden", 8, "--epochs", 20, "--learning-rate", 0.1]
        call(monkeypatch, "label-model", *words, *quick, "--run", run)
        call(
            monkeypatch,
            "sample",
            "--run",
            run,
            "--draws",
            "--label",
            "cat",
            "--steps",
            20,
            "--count",
            10,
            "--output",
            table,
        )
        head, *drawn = table.read_text().splitlines()
        assert head == "size,color"
        assert len(drawn) == 10
        assert {row.split(",")[1] for row in drawn} <= {"red", "blue"}
        is_direct = "--dataset" in words  # a stack of so few units learns little in so few epochs
        assert not is_direct or np.mean([float(row.split(",")[0]) for row in drawn]) > 1.5
        capsys.readouterr()
        call(monkeypatch, "predict", "--run", run, "--data", file, "--label-column", "pet", "--output", table)
        said = capsys.readouterr().out
        assert float(said.split("error ")[1].split(" %")[0]) < (10 if is_direct else 60), said
    model = dbn.load_label_model(tmp_path / "run6")
    assert model.predict([[3.0, "red"], [0.0, "blue"]]) == ["cat", "dog"]
