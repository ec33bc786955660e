"""One fit of a comparison, and what all of them share."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from tiny import CLASSES, pictures, splits, stack
from torch import Tensor

from dbn.belief_net import DBN
from dbn.datasets import Splits, splits_from_arrays
from dbn.errors import InputError
from dbn.evaluation import error_rate
from dbn.finetuning import Fit
from dbn.hyperparameters import Finetuning
from dbn.initializers import parse_arm
from dbn.mlp import linear_layers
from dbn.problem import Problem, labels_of
from dbn.scaling import Scaling

ARMS = ("dbn", "xavier_uniform", "he_normal", "xavier_normal:tanh")
CONFIG = Finetuning(init=ARMS, labels=24, valid_labels=9, seeds=2, seed=5, epochs=6, batch_size=10)
DBN_ARM, XAVIER, HE, TANH = map(parse_arm, ARMS)


SPLITS = splits()
STACK = stack()


def problem(stacks: tuple[DBN, ...] = (STACK,), data: Splits = SPLITS, **options: Any) -> Problem:
    return Problem(data, Scaling(), (7, 5), stacks, replace(CONFIG, **options))


def fitted(made: Problem, arm: Any = XAVIER, rate: float = 0.1, seed: int = 5, refit: int | None = None) -> Fit:
    fit = Fit(made, arm, rate, seed, refit)
    for _ in fit.epochs():
        pass
    return fit


def rows(x: Tensor) -> set[tuple[int, ...]]:
    return {tuple(row) for row in x.tolist()}


# What the arms share


def test_every_arm_has_the_same_output_layer_and_its_own_start() -> None:
    networks = [problem().network(arm, 5) for arm in (DBN_ARM, XAVIER, HE, TANH)]
    outputs = [linear_layers(network)[-1] for network in networks]
    assert all(torch.equal(layer.weight, outputs[0].weight) for layer in outputs)
    assert all(torch.equal(layer.bias, torch.zeros(CLASSES)) for layer in outputs)
    starts = [linear_layers(network)[0].weight for network in networks]
    assert all((a != b).all() for n, a in enumerate(starts) for b in starts[:n])
    assert [str(network[1]) for network in networks] == ["Sigmoid()", "Sigmoid()", "ReLU()", "Tanh()"]
    other = linear_layers(problem().network(XAVIER, 6))
    assert (other[-1].weight != outputs[1].weight).all()
    assert (other[0].weight != starts[1]).all()


def test_the_pretrained_start_is_the_stack() -> None:
    made = problem()
    network, x = made.network(DBN_ARM, 5), made.scaling(SPLITS.valid.x)
    assert torch.equal(network[:-1](x), STACK.up(x))


def test_every_arm_sees_the_same_examples_in_the_same_order(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, list[Tensor]] = {}
    step = Fit._step

    def watch(self: Fit, indices: Tensor, epoch: int, number: int) -> None:
        seen.setdefault(f"{self.arm.name} {self.seed}", []).append(self.train_set.x[indices])
        step(self, indices, epoch, number)

    monkeypatch.setattr(Fit, "_step", watch)
    for arm in (DBN_ARM, XAVIER, HE):
        fitted(problem(epochs=2), arm)
    fitted(problem(epochs=2), XAVIER, seed=6)
    first = seen["dbn 5"]
    assert len(first) == 2 * 3
    for name in ("xavier_uniform 5", "he_normal 5"):
        assert all(torch.equal(a, b) for a, b in zip(seen[name], first, strict=True))
    assert rows(torch.cat(seen["xavier_uniform 6"])) != rows(torch.cat(first))
    assert not torch.equal(torch.cat(first[:3]), torch.cat(first[3:]))  # each epoch in another order
    assert rows(torch.cat(first[:3])) == rows(torch.cat(first[3:]))


@pytest.mark.parametrize("seed", [5, 6])
def test_labels_are_balanced_and_no_row_is_in_two_sets(seed: int) -> None:
    train, valid = problem().labelled(seed)
    assert torch.bincount(labels_of(train)).tolist() == [8, 8, 8]
    assert torch.bincount(labels_of(valid)).tolist() == [3, 3, 3]
    again, _ = problem(init=("he_normal",)).labelled(seed)
    assert torch.equal(again.x, train.x)
    test = rows(problem().test.x)
    assert len(rows(train.x)) == 24
    assert not rows(train.x) & rows(valid.x)
    assert not test & (rows(SPLITS.train.x) | rows(SPLITS.valid.x))
    assert rows(train.x) <= rows(SPLITS.train.x)
    assert rows(valid.x) <= rows(SPLITS.valid.x)
    # Each row has its own label: the bright rows tell it.
    for examples in (train, valid, problem().test):
        bright = examples.x.reshape(-1, 3, 12).float().mean(2).argmax(1)
        assert torch.equal(bright, labels_of(examples))


@pytest.mark.parametrize(
    ("options", "numbers"),
    [
        ({"labels": None, "valid_labels": None}, (108, 12)),
        ({"labels": 6, "valid_labels": None}, (6, 6)),
        ({"labels": 60, "valid_labels": None}, (60, 12)),
        ({"labels": 6, "valid_labels": 12}, (6, 12)),
    ],
)
def test_how_many_labels(options: dict[str, Any], numbers: tuple[int, int]) -> None:
    made = problem(**options)
    assert (made.labels, made.valid_labels) == numbers
    train, valid = made.labelled(5)
    assert (len(train), len(valid)) == numbers


def test_a_stack_a_seed() -> None:
    stacks = (stack(0), stack(1))
    made = problem(stacks)
    for seed, each in zip((5, 6), stacks, strict=True):
        assert torch.equal(linear_layers(made.network(DBN_ARM, seed))[0].weight, each.layers[0].weight)
    alone = problem()
    for seed in (5, 6):
        assert torch.equal(linear_layers(alone.network(DBN_ARM, seed))[0].weight, STACK.layers[0].weight)


def rare() -> Splits:
    """Class 2 has few rows: 9 to train on, 4 to validate."""
    x, y = pictures(n=1500)
    keep = torch.ones(1500, dtype=torch.bool).numpy()
    keep[2::3] = False
    keep[2:50:3] = True
    return splits_from_arrays(x[keep], y[keep], name="tiny", cut_test=True)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: problem(data=splits_from_arrays(pictures()[0], name="tiny")), "tiny has no labels.*--label-column"),
        (lambda: problem(data=splits(side=8), stacks=(STACK,)), "pre-trained on 36 values an example, but tiny has 64"),
        (lambda: problem((STACK, stack(sizes=(36, 7, 4)))), "differ in their sizes"),
        (lambda: problem((STACK, stack(scaling=Scaling(1.0)))), "scale their data differently"),
        (lambda: problem(labels=109), "--labels 109 is more than the 108 training examples"),
        (lambda: problem(valid_labels=13), "--valid-labels 13 is more than the 12 validation examples"),
        (lambda: problem(labels=2), "--labels 2 is fewer than the 3 classes"),
        (lambda: problem(valid_labels=2), "--valid-labels 2 is fewer than the 3 classes"),
        (lambda: problem(data=rare(), labels=60), "--labels 60 needs 20 examples of class 2"),
        (lambda: problem(data=rare(), labels=12, valid_labels=60), "--valid-labels 60 needs 20 examples of class 2"),
        (lambda: problem(()), "'dbn' starts from a stack: name one with --pretrained"),
        (lambda: problem(init=("he_norm",)), "no initialiser 'he_norm': did you mean 'he_normal'"),
    ],
)
def test_a_problem_that_cannot_be_solved_is_refused_at_once(make: Any, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        make()


# One fit


def test_a_fit_learns_and_keeps_its_best_epoch() -> None:
    made = problem(epochs=30)
    fit = fitted(made, HE)
    history = fit.history
    assert [record["epoch"] for record in history] == list(range(1, 31))
    assert history[-1]["train_loss"] < 0.5 * history[0]["train_loss"]
    best = min(history, key=lambda record: (record["valid_error"], record["valid_loss"]))
    outcome = fit.outcome()
    assert outcome.best_epoch == best["epoch"]
    assert outcome.valid_error == best["valid_error"] < history[0]["valid_error"]
    network = made.network(HE, 5)
    network.load_state_dict(outcome.weights)
    valid = made.labelled(5)[1]
    assert error_rate(network, made.scaling, valid.x, labels_of(valid)) == outcome.valid_error
    loss = torch.nn.functional.cross_entropy(network(made.scaling(valid.x)), labels_of(valid)).item()
    assert loss == best["valid_loss"]
    assert outcome.seconds == pytest.approx(sum(record["seconds"] for record in history))


def test_the_best_epoch_is_not_the_last_one() -> None:
    """A rate this large unlearns: what is kept is an earlier network, not the one at hand."""
    fit = fitted(problem(epochs=12, schedule="constant"), HE, rate=1.0)
    assert fit.best_epoch < 12
    ours, last = fit.best_weights["0.weight"], fit.network.state_dict()["0.weight"]
    assert (ours != last).any()
    shorter = fitted(problem(epochs=fit.best_epoch, schedule="constant"), HE, rate=1.0)
    assert torch.equal(shorter.network.state_dict()["0.weight"], ours)


def test_the_training_loss_is_the_mean_over_examples() -> None:
    made = problem(epochs=1, batch_size=7)  # the last batch has 3 examples
    fit = Fit(made, XAVIER, 1e-12, 5)
    train = made.labelled(5)[0]
    with torch.no_grad():
        loss = torch.nn.functional.cross_entropy(fit.network(made.scaling(train.x)), labels_of(train)).item()
    (record,) = fit.epochs()
    assert record["train_loss"] == pytest.approx(loss, rel=1e-5)


@pytest.mark.parametrize(("patience", "stops"), [(2, True), (None, False)])
def test_patience(patience: int | None, stops: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    scores = [3, 2, 4, 2, 9, 1, 9, 9, 9]
    monkeypatch.setattr("dbn.finetuning._score", lambda record: scores[int(record["epoch"]) - 1])
    fit = fitted(problem(epochs=9, patience=patience))
    assert (fit.epoch, fit.best_epoch) == ((4, 2) if stops else (9, 6))


@pytest.mark.parametrize(("freeze", "epochs_fixed"), [(0, 0), (2, 2), ("all", 4)])
def test_frozen_layers_stay_bit_for_bit(freeze: Any, epochs_fixed: int) -> None:
    made = problem(freeze_epochs=freeze, epochs=4, weight_decay=0.1)
    fit = Fit(made, DBN_ARM, 0.1, 5)
    start = [parameter.clone() for parameter in made.network(DBN_ARM, 5).parameters()]
    for record in fit.epochs():
        now = list(fit.network.parameters())
        moved = [not torch.equal(a, b) for a, b in zip(start, now, strict=True)]
        assert moved == [record["epoch"] > epochs_fixed] * 4 + [True] * 2


@pytest.mark.parametrize("schedule", ["cosine", "constant"])
def test_the_learning_rate_of_every_step(schedule: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    rates: list[float] = []
    optimizer_step = torch.optim.SGD.step

    def watch(self: torch.optim.SGD, *arguments: Any) -> Any:
        rates.extend({group["lr"] for group in self.param_groups})
        return optimizer_step(self, *arguments)

    monkeypatch.setattr(torch.optim.SGD, "step", watch)
    fitted(problem(schedule=schedule, epochs=4), rate=0.2)  # 24 labels, 10 a batch: 3 steps an epoch
    cosine = [0.1 * (1 + math.cos(math.pi * step / 12)) for step in range(12)]
    assert rates == pytest.approx(cosine if schedule == "cosine" else [0.2] * 12)


def test_refitting_trains_on_both_for_as_long_as_was_best() -> None:
    made = problem()
    train, valid = made.labelled(5)
    fit = Fit(made, XAVIER, 0.1, 5, 3)
    assert rows(fit.train_set.x) == rows(train.x) | rows(valid.x)
    assert len(fit.train_set) == 33
    assert sorted(labels_of(fit.train_set).tolist()) == sorted(torch.cat([labels_of(train), labels_of(valid)]).tolist())
    records = list(fit.epochs())
    assert [record["epoch"] for record in records] == [1, 2, 3]
    assert all("valid_error" not in record for record in records)
    outcome = fit.outcome()
    assert outcome.best_epoch == 3
    assert all(torch.equal(outcome.weights[name], value) for name, value in fit.network.state_dict().items())


def test_divergence_is_an_outcome() -> None:
    fit = fitted(problem(epochs=9), HE, rate=1e30)
    assert fit.diverged
    assert fit.epoch < 9
    outcome = fit.outcome()
    assert outcome.diverged
    assert math.isfinite(outcome.valid_error)
    assert not math.isfinite(outcome.history[-1]["train_loss"])
    again = Fit(problem(epochs=9), HE, 1e30, 5)
    again.load_state(fit.state())
    assert again.done


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "rmsprop"])
@pytest.mark.parametrize("stop", [1, 3])
def test_a_fit_goes_on_from_its_state(optimizer: Any, stop: int) -> None:
    made = problem(optimizer=optimizer, freeze_epochs=2, patience=5)
    whole = fitted(made, DBN_ARM, rate=0.01)
    first, second = Fit(made, DBN_ARM, 0.01, 5), Fit(made, DBN_ARM, 0.01, 5)
    for _ in zip(range(stop), first.epochs(), strict=False):
        pass
    assert first.epoch == stop
    second.load_state(first.state())
    assert len(list(second.epochs())) == 6 - stop
    for name, value in whole.network.state_dict().items():
        assert torch.equal(second.network.state_dict()[name], value)
        assert torch.equal(second.best_weights[name], whole.best_weights[name])
    assert second.best_epoch == whole.best_epoch
    untimed = [[{k: v for k, v in r.items() if "seconds" not in k} for r in fit.history] for fit in (whole, second)]
    assert untimed[0] == untimed[1]


def test_a_seed_gives_the_same_fit_whatever_torch_drew_before() -> None:
    fits = []
    for number in range(2):
        torch.manual_seed(number)
        fits.append(fitted(problem(), DBN_ARM))
    assert all(torch.equal(a, b) for a, b in zip(*(fit.best_weights.values() for fit in fits), strict=True))
    other = fitted(problem(), DBN_ARM, seed=6)
    assert all((fits[0].best_weights[name] != value).any() for name, value in other.best_weights.items())


def test_the_stack_is_not_trained_with_the_network() -> None:
    before = {name: value.clone() for name, value in STACK.state_dict().items()}
    fitted(problem(), DBN_ARM)
    assert all(torch.equal(before[name], value) for name, value in STACK.state_dict().items())
