"""`dbn.compare`: the numbers of scripts/finetune.py, from arrays."""

import json
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tensorboard.plugins.custom_scalar.layout_pb2 import Layout
from tiny import curves, events, pictures, result, save_pictures, stack

from dbn.cli.commands.finetune import COMMAND
from dbn.config.finetuning import Finetuning
from dbn.errors import InputError
from dbn.finetuning.compare import ComparisonResult, FinetuningOptions, compare
from dbn.runs.classifier import load_classifier
from dbn.runs.folder import RunFolder
from dbn.runs.weights import save_stack

X, Y = pictures()
OPTIONS: dict[str, Any] = {"labels": 24, "seeds": 2, "seed": 5, "epochs": 3, "batch_size": 10,
                           "learning_rate": [0.3, 0.02]}  # fmt: skip
ARMS = ["dbn", "he_normal", "xavier_uniform:tanh"]
STACK = stack()


def script(words: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`scripts/finetune.py` in this process."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", ["finetune.py", *words.split()])
    COMMAND.run()


def timeless(found: dict[str, Any]) -> dict[str, Any]:
    arms = {name: {key: value for key, value in arm.items() if key != "seconds"} for name, arm in found["arms"].items()}
    return {**found, "arms": arms}


def test_the_result_is_that_of_the_script(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    save_pictures(tmp_path / "tiny.npz")
    run = RunFolder.create(tmp_path / "stack", overwrite=False)
    run.write_config({"dataset": "tiny.npz"})
    save_stack(run.path, STACK)
    script(
        "--pretrained stack --init dbn he_normal xavier_uniform:tanh --labels 24 --seeds 2 --seed 5 --epochs 3 "
        "--batch-size 10 --learning-rate 0.3 0.02 --run run",
        tmp_path,
        monkeypatch,
    )
    printed = capsys.readouterr().out
    before = sorted(tmp_path.rglob("*"))
    found = compare(X, Y, ARMS, pretrained=tmp_path / "stack", **OPTIONS)
    assert sorted(tmp_path.rglob("*")) == before
    assert capsys.readouterr().out == ""
    assert timeless(found.to_dict()) == result(tmp_path / "run") | {"dataset": "x"}

    def without_seconds(text: str) -> list[list[str]]:
        return [line.split()[:-1] for line in text.replace("tiny.npz:", "x:").strip().splitlines()]

    table, where, then = printed.strip().rsplit("\n", 2)
    assert without_seconds(found.table()) == without_seconds(table)
    assert where == (
        "All numbers are in run/result.json, confusion matrices in confusion.png beside it. "
        "Curves: tensorboard --logdir run"
    )
    assert then == "Next: python predict.py --run run --data FILE --output predictions.csv"
    assert (tmp_path / "run" / "confusion.png").is_file()
    # As many given stacks, tensors in place of arrays: the same.
    assert timeless(compare(torch.from_numpy(X), Y, ARMS, pretrained=[STACK], **OPTIONS).to_dict()) == timeless(
        found.to_dict()
    )


@pytest.fixture(scope="module")
def found() -> ComparisonResult:
    return compare(X, Y, ["he_normal", "zeros"], hidden=[7, 5], **OPTIONS)


def test_the_best_classifier_is_the_tested_one(found: ComparisonResult) -> None:
    arm = found.arms["he_normal"]
    seed = arm["valid_error"].index(min(arm["valid_error"]))
    best = found.best()
    assert best.classes == ("0", "1", "2")
    assert not best.training
    given = compare(X[:120], Y[:120], ["he_normal"], hidden=[7, 5], x_test=X[120:], y_test=Y[120:], **OPTIONS)
    arm = given.arms["he_normal"]
    seed = arm["valid_error"].index(min(arm["valid_error"]))
    p = given.best().predict_proba(torch.from_numpy(X[120:]))
    assert p.shape == (30, 3)
    torch.testing.assert_close(p.sum(1), torch.ones(30))
    wrong = (p.argmax(1) != torch.from_numpy(Y[120:])).double().mean().item()
    assert 100 * wrong == pytest.approx(arm["test_error"][seed])


def test_a_run_folder_holds_the_same_and_can_be_resumed(found: ComparisonResult, tmp_path: Path) -> None:
    class StopError(Exception):
        pass

    seen: list[dict[str, Any]] = []

    def stop(record: dict[str, Any]) -> None:
        seen.append(record)
        if len(seen) == 5:
            raise StopError

    options: dict[str, Any] = {"hidden": [7, 5], "run": tmp_path / "run", **OPTIONS}
    with pytest.raises(StopError):
        compare(X, Y, ["he_normal", "zeros"], callback=stop, **options)
    assert [(each["learning_rate"], each["seed"], each["epoch"]) for each in seen] == [
        (0.02, 5, 1), (0.02, 5, 2), (0.02, 5, 3), (0.02, 6, 1), (0.02, 6, 2)
    ]  # fmt: skip
    with pytest.raises(InputError, match="continue it with resume=True"):
        compare(X, Y, ["he_normal", "zeros"], **options)
    with pytest.raises(InputError, match=r"epochs=3 \(now 4\): resume it with the same"):
        compare(X, Y, ["he_normal", "zeros"], resume=True, **options | {"epochs": 4})
    again = compare(X, Y, ["he_normal", "zeros"], resume=True, **options)
    assert timeless(again.to_dict()) == timeless(found.to_dict())
    assert json.loads((tmp_path / "run" / "result.json").read_text()) == again.to_dict()
    check_board(tmp_path / "run", again)
    done = compare(X, Y, ["he_normal", "zeros"], resume=True, callback=stop, **options)
    assert (done.to_dict(), len(seen)) == (again.to_dict(), 5)
    x = torch.from_numpy(X)
    assert torch.equal(done.best().predict_proba(x), again.best().predict_proba(x))
    assert torch.equal(done.best().predict_proba(x), found.best().predict_proba(x))


def check_board(run: Path, found: ComparisonResult) -> None:
    """TensorBoard's card, charts and table of all arms, once though the run was interrupted; codes of the best nets."""
    log = events(run)
    ((about,),) = (event.tensor_proto.string_val for event in log.Tensors("about/text_summary"))
    for name in ("train_loss", "valid_loss", "valid_error", "seconds"):
        assert f"| `{name}` ".encode() in about
    ((table,),) = (event.tensor_proto.string_val for event in log.Tensors("result/text_summary"))
    assert [line.removeprefix("    ") for line in table.decode().splitlines()] == found.table().splitlines()
    layout = Layout.FromString(log.Tensors("custom_scalars__config__")[-1].tensor_proto.string_val[0])
    tags = [tag for category in layout.category for chart in category.chart for tag in chart.multiline.tag]
    assert {tag.partition("/")[0] for tag in tags} == {"finetune", "learning-rate-0.3", "learning-rate-0.02"}
    (place,) = (run / "he_normal").glob("seed-*/codes")
    assert {tag.removesuffix("$") for tag in tags} <= set(curves(place.parent))
    codes = [[float(word) for word in line.split("\t")] for line in (place / "tensors.tsv").read_text().splitlines()]
    labels = (place / "metadata.tsv").read_text().split()
    assert (len(codes), len(codes[0])) == (len(labels), 5)  # of the last hidden layer
    assert set(labels) == {"0", "1", "2"}


def test_any_arm_of_the_run_can_predict(tmp_path: Path) -> None:
    found = compare(X, Y, ["he_normal", "zeros"], hidden=[7], run=tmp_path / "run", **OPTIONS | {"seeds": 1})
    x = torch.from_numpy(X)
    for name in ("he_normal", "zeros"):
        loaded = load_classifier(tmp_path / "run", init=name)
        assert torch.equal(loaded.predict_proba(x), found.best(name).predict_proba(x))
        assert torch.equal(loaded.predict_proba(x), loaded.predict_logits(x).softmax(1))
    done = compare(
        X, Y, ["he_normal", "zeros"], hidden=[7], run=tmp_path / "run", resume=True, **OPTIONS | {"seeds": 1}
    )
    assert torch.equal(done.best("zeros").predict_proba(x), found.best("zeros").predict_proba(x))
    for best in (found.best, done.best):
        with pytest.raises(InputError, match="no arm 'zeross', did you mean 'zeros'"):
            best("zeross")
    (file,) = (tmp_path / "run" / "zeros").rglob("classifier.safetensors")
    with pytest.raises(InputError, match="is of one arm: leave init out"):
        load_classifier(file, init="zeros")


def test_given_stacks_stay_as_they_are() -> None:
    mine = stack().requires_grad_(True).train()
    compare(X, Y, ["dbn"], pretrained=mine, **OPTIONS | {"epochs": 1})
    assert mine.training
    assert all(parameter.requires_grad for parameter in mine.parameters())


def test_options_are_the_fields_of_the_configuration() -> None:
    arguments = {"init", "labels", "seeds"}
    assert {*FinetuningOptions.__annotations__, *arguments} == {each.name for each in fields(Finetuning)}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "^init dbn needs pretrained"),
        ({"init": "he_normal"}, "^hidden is needed where pretrained is not given"),
        ({"init": "he_normal", "hidden": [5], "epoch": 3}, "dbn.compare has no option 'epoch'"),
        ({"init": "he_normal", "hidden": [5], "batch_size": 0}, "^batch_size must be a whole number"),
        ({"init": "he_norml", "hidden": [5]}, "he_normal"),
        ({"pretrained": STACK, "hidden": [5]}, "^hidden does not go with pretrained"),
        ({"pretrained": [STACK] * 3, "seeds": 2}, "pretrained takes one value"),
        ({"pretrained": stack(sizes=(30, 7)), "init": "dbn"}, "x has 36 values an example, but the stack takes 30"),
        ({"pretrained": "nowhere"}, "nowhere holds no stack"),
        ({"init": "he_normal", "hidden": [5], "x_test": X}, "label both x and x_test or neither"),
        ({"init": "he_normal", "hidden": [5], "labels": 999}, "^labels=999 is more than"),
        ({"init": "he_normal", "hidden": [5], "resume": True}, "resume=True needs a run folder"),
        ({"init": "he_normal", "hidden": [5], "y": Y[:9]}, r"x: y has shape \(9,\)"),
    ],
)
def test_errors_name_the_arguments(options: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        compare(**{"x": X, "y": Y, **options})


def test_numpy_labels_may_be_words() -> None:
    words = np.array(["a", "b", "c"])[Y]
    made = compare(X, words, ["he_normal"], hidden=[7], **OPTIONS | {"epochs": 1})
    assert made.best().classes == ("a", "b", "c")
