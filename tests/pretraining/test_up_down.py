"""Up-down fine-tuning: what it improves on models that can be enumerated, its run folder, and what is refused."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor

import dbn
from dbn.cli.program import main
from dbn.config.label_model import LabelTraining
from dbn.config.schedules import Schedule
from dbn.errors import InputError
from dbn.models.label_model import LabelModel
from dbn.models.units.base import Units
from dbn.pretraining import label_trainer, up_down
from tests import tiny
from tests.enumeration import support

STACK: dict[str, Any] = {"hidden": [9, 7], "epochs": 3, "batch_size": 10}
QUICK: dict[str, Any] = {"hidden": 8, "epochs": 2, "batch_size": 10, "gradient": "generative"}


@pytest.fixture(scope="module")
def stack() -> dbn.DBN:
    return dbn.pretrain(tiny.pictures()[0], **STACK)


def train(stack: dbn.DBN, **options: Any) -> LabelModel:
    x, y = tiny.pictures()
    return dbn.train_label_model(x, y, stack=stack, **QUICK | options)


def alike(one: LabelModel, other: LabelModel) -> bool:
    return all(a.equal(b) for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True))


def log_p(units: Units, x: Tensor, field: Tensor) -> Tensor:
    return (field * x).sum(-1) - units.energy(x) - units.log_partition(field)


def bound(model: LabelModel, x: Tensor, y: Tensor) -> float:
    """E_q[log p(x, h, y) − log q(h | x)], mean over rows, by a sum over the states of the one layer below the top."""
    (recognition, top), (generative,) = model.layers, model.downwards
    h = support(recognition.hidden)[0].float()
    labels = torch.nn.functional.one_hot(y, len(model.classes)).float()
    log_z = dbn.likelihood.log_partition(top)
    total = 0.0
    for row, label in zip(x, labels, strict=True):
        v = row.expand(len(h), -1)
        log_q = log_p(recognition.hidden, h, recognition.hidden_field(v))
        log_joint = log_p(generative.visible, v, generative.visible_field(h))
        log_joint = log_joint - top.free_energy(torch.cat([h, label.expand(len(h), -1)], 1)) - log_z
        total += float((log_q.exp() * (log_joint - log_q)).sum())
    return total / len(x)


def patterns(n: int = 300) -> tuple[Tensor, Tensor]:
    """Six pixels of two classes, of which one has two patterns; each pixel is wrong in one of twelve rows."""
    rng = np.random.default_rng(0)
    kinds = np.array([[1, 1, 1, 0, 0, 0], [0, 0, 0, 1, 1, 1], [1, 0, 1, 0, 1, 0]])
    which = rng.integers(0, 3, n)
    x = kinds[which] ^ (rng.random((n, 6)) < 1 / 12)
    return torch.tensor(x, dtype=torch.float32), torch.tensor(which == 2).long()


def test_the_bound_rises_by_wake_and_sleep(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the one or the other it rises less."""
    x, y = patterns()
    below = dbn.pretrain(x, hidden=[4], epochs=1, batch_size=10)
    options: dict[str, Any] = {"stack": below, "hidden": 6, "epochs": 3, "batch_size": 20, "gradient": "generative"}

    def after(epochs: int) -> float:
        rate = "0.2:0" if epochs else None
        model = dbn.train_label_model(x, y, **options, up_down=epochs, up_down_rate=rate, measure_every=20)
        return bound(model, x[:100], y[:100])

    before, whole = after(0), after(20)
    without = []
    for step in ("set_visible_gradient", "set_hidden_gradient"):
        with monkeypatch.context() as patched:
            patched.setattr(up_down, step, lambda *rest: None)
            without.append(after(20))
    assert whole > before + 0.4
    assert whole > max(without) + 0.4


def test_a_rate_of_0_leaves_everything_as_it_was(stack: dbn.DBN, monkeypatch: pytest.MonkeyPatch) -> None:
    x, _ = tiny.pictures()
    before = train(stack)
    monkeypatch.setattr(up_down.UpDownTrainer, "learning_rate", lambda *_: 0.0)
    after = train(stack, up_down=2, up_down_steps=2)
    assert len(after.generative_rbms) == 2
    assert after.log_proba(x).equal(before.log_proba(x))
    assert after.sample(5, label=1, steps=3).equal(before.sample(5, label=1, steps=3))
    for way in (after.layers[:-1], after.downwards):
        for one, other in zip(way, stack.layers, strict=True):
            assert all(a.equal(b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


def test_weights_are_untied_and_the_stack_is_not_changed(stack: dbn.DBN) -> None:
    x, _ = tiny.pictures()
    kept = [each.clone() for each in stack.parameters()]
    model = train(stack, up_down=2)
    assert all(a.equal(b) for a, b in zip(kept, stack.parameters(), strict=True))
    for up, down, one in zip(model.layers[:-1], model.downwards, stack.layers, strict=True):
        assert not up.weight.equal(down.weight)
        assert up.visible.bias.equal(one.visible.bias)  # recognition has no use of it, nor generation of the other
        assert down.hidden.bias.equal(one.hidden.bias)
        assert not up.hidden.bias.equal(one.hidden.bias)
        assert not down.visible.bias.equal(one.visible.bias)
    scores, draws = model.log_proba(x), model.sample(4, label=0, steps=2)
    with torch.no_grad():
        model.downwards[0].weight.zero_()
    assert model.log_proba(x).equal(scores)
    assert not model.sample(4, label=0, steps=2).equal(draws)
    last = model.history[-1]
    assert (last["layer"], last["epoch"]) == (up_down.STAGE, 2)
    assert {f"valid_{way}_error_{layer}" for way in ("generative", "recognition") for layer in (1, 2)} <= set(last)


@pytest.mark.parametrize("stage", [1, 2])
def test_a_run_that_was_stopped_ends_with_the_same_weights(stage: int, stack: dbn.DBN, tmp_path: Path) -> None:
    whole = train(stack, up_down=2, run=tmp_path / "whole")

    def stop(record: dict[str, Any]) -> None:
        if (record["layer"], record["epoch"]) == (stage, 1):
            raise RuntimeError("stop here")

    with pytest.raises(RuntimeError, match="stop here"):
        train(stack, up_down=2, run=tmp_path / "run", callback=stop)
    for _ in range(2):
        resumed = train(stack, up_down=2, run=tmp_path / "run", resume=True)
        assert alike(whole, resumed)
        assert tiny.metrics(tmp_path / "run") == tiny.metrics(tmp_path / "whole")
    loaded = dbn.load_label_model(tmp_path / "run")
    assert alike(loaded, whole)
    assert loaded.description() == whole.description()
    with pytest.raises(InputError, match="up_down"):
        train(stack, up_down=3, run=tmp_path / "run", resume=True)


def test_it_is_added_to_a_run_without_it(stack: dbn.DBN, tmp_path: Path) -> None:
    train(stack, run=tmp_path / "run")
    added = train(stack, up_down=2, run=tmp_path / "run", resume=True)
    assert alike(added, train(stack, up_down=2))


@pytest.mark.parametrize("kind", ["gaussian", "relu", "drelu", "spin", "categorical(states=3)", "binomial(trials=3)"])
def test_features_of_other_kinds(kind: str) -> None:
    x, y = tiny.pictures()
    below = dbn.pretrain(x, hidden=[9], hidden_units=kind, epochs=8, batch_size=10, learning_rate=0.01)
    rate = 1e-4 if kind == "relu" else 0.01  # features of some units without a bound above
    model = dbn.train_label_model(
        x, y, stack=below, **QUICK, learning_rate=rate, up_down=2, up_down_rate=rate / 10, sample_weight=np.ones(len(x))
    )
    assert all(each.isfinite().all() for each in model.parameters())
    assert model.sample(3, label=0, steps=2).shape == (3, 36)


def test_the_default_rate_is_that_of_the_slowest_units(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which may be those of the data, below features of states."""
    x, y = tiny.pictures()
    below = dbn.pretrain(x, hidden=[9, 7], visible="gaussian", epochs=1, batch_size=50)
    seen = []
    monkeypatch.setattr("dbn.pretraining.label_model.train_layer", lambda trainer, *_, **__: seen.append(trainer))
    dbn.train_label_model(x, y, stack=below, **QUICK | {"epochs": 1, "batch_size": 50}, up_down=1)
    assert [type(each) for each in seen] == [label_trainer.LabelTrainer, up_down.UpDownTrainer]
    assert str(seen[1].setting.learning_rate) == str(Schedule.read("0.01:0"))


def test_rows_without_a_label_are_used_too(stack: dbn.DBN) -> None:
    x, y = tiny.pictures()
    some = [str(label) if number % 3 else None for number, label in enumerate(y)]
    model = dbn.train_label_model(x, some, stack=stack, **QUICK, up_down=2)
    assert all(each.isfinite().all() for each in model.parameters())


@pytest.mark.slow
def test_classes_of_digits_are_learned_no_worse() -> None:
    x, y = load_digits(return_X_y=True)
    x = x / 16
    below = dbn.pretrain(x, hidden=[40, 40], epochs=3, batch_size=20)
    model = dbn.train_label_model(
        x, y, stack=below, hidden=80, epochs=3, batch_size=20, gradient="generative", up_down=4
    )
    of_stage = [[record for record in model.history if record["layer"] == stage][-1] for stage in (1, 2)]
    before, after = (record["valid_error"] for record in of_stage)
    noise = 100 * (before / 100 * (1 - before / 100) / 179) ** 0.5
    assert after <= before + 2 * noise
    assert of_stage[1]["valid_log_loss"] < of_stage[0]["valid_log_loss"] + 0.05


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"stack": None}, "needs the layers below the top RBM"),
        ({"gradient": "discriminative"}, "needs a model of the features too"),
        ({"average": 0.9}, "average does not go with up_down"),
        ({"up_down": 0, "up_down_rate": 0.1}, "up_down_rate needs up_down"),
        ({"up_down": 0, "up_down_steps": 2}, "up_down_steps needs up_down"),
        ({"up_down": -1}, "up_down must be a whole number"),
    ],
)
def test_what_does_not_go_with_it_is_refused(options: dict[str, Any], said: str, stack: dbn.DBN) -> None:
    with pytest.raises(InputError, match=said) as caught:
        train(**{"stack": stack, "up_down": 1} | options)
    assert "--" not in str(caught.value)


def test_defaults_of_the_options() -> None:
    assert "up_down_rate" not in LabelTraining().resolved()
    done = LabelTraining(up_down=3).for_data(1000, 20)
    assert (done.up_down_rate, done.up_down_steps) == ("0.1:0", "3:10")
    assert LabelTraining(up_down=3, optimizer="adam").for_data(1000, 20).up_down_rate == "0.001:0"
    assert (done.of_up_down().epochs, done.of_up_down().gibbs_steps) == ((3,), ("3:10",))


def test_the_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    file = tiny.save_pictures(tmp_path / "tiny.npz")

    def call(*words: object) -> str:
        monkeypatch.setattr(sys, "argv", ["torch-dbn", *map(str, words)])
        main()
        return capsys.readouterr().out

    quick = ["--epochs", 2, "--batch-size", 10]
    call("pretrain", "--dataset", file, "--hidden", 9, "--run", tmp_path / "stack", *quick)
    words = ["--pretrained", tmp_path / "stack", "--hidden", 8, "--run", tmp_path / "run", *quick]
    words += ["--gradient", "generative", "--up-down", 2, "--up-down-rate", "0.01:0", "--up-down-steps", "1,2@2"]
    said = call("label-model", *words)
    assert "Before up-down fine-tuning the validation error was" in said
    call("label-model", *words, "--resume")
    call("sample", "--run", tmp_path / "run", "--label", 2, "--steps", 3, "--output", tmp_path / "a.png")
    said = call("predict", "--run", tmp_path / "run", "--data", file, "--output", tmp_path / "a.csv")
    assert "classified by the label model" in said
