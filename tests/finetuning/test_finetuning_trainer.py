"""One fit of a comparison, and what all of them share."""

import math
from collections.abc import Iterator
from dataclasses import replace
from itertools import combinations, product
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import CLASSES, pictures, splits, stack
from torch import Tensor, nn

from dbn.config.finetuning import Finetuning
from dbn.data.cut import splits_from_arrays
from dbn.data.examples import labels_of
from dbn.data.splits import Splits
from dbn.errors import InputError
from dbn.finetuning.dropout import SeededDropout, with_dropout
from dbn.finetuning.problem import Problem
from dbn.finetuning.trainer import Trainer
from dbn.initializers.arms import parse_arm
from dbn.models import matmul as products
from dbn.models.dbn import DBN
from dbn.models.mlp import linear_layers, mlp
from dbn.models.scaling import Scaling
from dbn.storage.tensors import load_state, save_state
from dbn.tasks.metrics import score

ARMS = ("dbn", "xavier_uniform", "he_normal", "xavier_normal:tanh")
CONFIG = Finetuning(init=ARMS, labels=24, valid_labels=9, seeds=2, seed=5, epochs=6, batch_size=10)
DBN_ARM, XAVIER, HE, TANH = map(parse_arm, ARMS)


EVERYTHING = {
    "input_dropout": 0.2,
    "hidden_dropout": 0.5,
    "max_norm": 1.0,
    "layer_rates": (0.1, 0.3, 1.0),
    "schedule": "1,0.1@3,0.03@5",
    "average": 0.8,
    "weight_decay": 0.01,
}

BF16 = pytest.mark.skipif(not torch.cpu._is_avx512_bf16_supported(), reason="this processor has no bfloat16 products")

SPLITS = splits()
STACK = stack()


def problem(stacks: tuple[DBN, ...] = (STACK,), data: Splits = SPLITS, **options: Any) -> Problem:
    return Problem(data, Scaling(), (7, 5), stacks, replace(CONFIG, **options))


def fitted(made: Problem, arm: Any = XAVIER, rate: float = 0.1, seed: int = 5, refit: int | None = None) -> Trainer:
    fit = Trainer(made, arm, rate, seed, refit)
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
    step = Trainer._step

    def watch(self: Trainer, indices: Tensor, epoch: int, number: int) -> None:
        seen.setdefault(f"{self.arm.name} {self.seed}", []).append(self.train_set.x[indices])
        step(self, indices, epoch, number)

    monkeypatch.setattr(Trainer, "_step", watch)
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
    train, valid = problem().labeled(seed)
    assert torch.bincount(labels_of(train)).tolist() == [8, 8, 8]
    assert torch.bincount(labels_of(valid)).tolist() == [3, 3, 3]
    again, _ = problem(init=("he_normal",)).labeled(seed)
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
    train, valid = made.labeled(5)
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
    return splits_from_arrays(x[keep], y[keep], name="tiny", cut_test=True, split="balanced")


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: problem(data=splits_from_arrays(pictures()[0], name="tiny")), "tiny has no labels.*--label-column"),
        (lambda: problem(data=splits(side=8), stacks=(STACK,)), "pre-trained on 36 values an example, but tiny has 64"),
        (lambda: problem((STACK, stack(sizes=(36, 7, 4)))), "differ in their sizes"),
        (
            lambda: problem((STACK, stack(scaling=Scaling(255.0, torch.zeros(36), torch.ones(36))))),
            "scale their data differently",
        ),
        (lambda: problem(labels=109), "--labels 109 is more than the 108 training examples"),
        (lambda: problem(valid_labels=13), "--valid-labels 13 is more than the 12 validation examples"),
        (lambda: problem(labels=2), "--labels 2 is fewer than the 3 classes"),
        (lambda: problem(valid_labels=2), "--valid-labels 2 is fewer than the 3 classes"),
        (lambda: problem(data=rare(), labels=60), "--labels 60 needs 20 examples of class 2"),
        (lambda: problem(data=rare(), labels=12, valid_labels=60), "--valid-labels 60 needs 20 examples of class 2"),
        (lambda: problem(layer_rates=(0.1, 1)), r"--layer-rates takes one value or one per layer \(3, .*\), not 2"),
        (lambda: problem(()), "'dbn' starts from a stack: name one with --pretrained"),
        (lambda: problem(init=("he_norm",)), "no initializer 'he_norm', did you mean 'he_normal'"),
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
    outcome = fit.result()
    assert outcome.best_epoch == best["epoch"]
    assert outcome.valid_error == best["valid_error"] < history[0]["valid_error"]
    network = made.network(HE, 5)
    network.load_state_dict(outcome.weights)
    valid = made.labeled(5)[1]
    assert score(network, made.scaling, valid.x, labels_of(valid)).error == outcome.valid_error
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
    fit = Trainer(made, XAVIER, 1e-12, 5)
    train = made.labeled(5)[0]
    with torch.no_grad():
        loss = torch.nn.functional.cross_entropy(fit.network(made.scaling(train.x)), labels_of(train)).item()
    (record,) = fit.epochs()
    assert record["train_loss"] == pytest.approx(loss, rel=1e-5)


@pytest.mark.parametrize(
    ("precision", "expected"), [("float32", 8), pytest.param("bf16", 0, marks=BF16)], ids=["float32", "bf16"]
)
def test_a_step_in_float32_takes_the_faster_product(
    precision: str, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three layers forward, their weights' gradients, and the inputs' of all but the lowest."""
    seen: list[Tensor] = []
    multiply = products.product

    def watched(x: Tensor, weight: Tensor) -> Tensor:
        seen.append(x)
        return multiply(x, weight)

    monkeypatch.setattr(products, "product", watched)
    fit = Trainer(problem(precision=precision), XAVIER, 0.1, 5)
    fit._step(torch.arange(10), 1, 0)
    assert len(seen) == expected


@BF16
@pytest.mark.parametrize("options", [{}, {"input_dropout": 0.2, "hidden_dropout": 0.5}])
def test_a_step_in_bf16_is_one_in_float32_up_to_rounding(options: Any) -> None:
    """Products are rounded to 8 bits, weights and loss are not."""
    steps, losses = [], []
    for precision in ("float32", "bf16"):
        fit = Trainer(problem(epochs=1, batch_size=24, precision=precision, **options), XAVIER, 0.1, 5)
        before = torch.nn.utils.parameters_to_vector(fit.network.parameters()).detach().clone()
        (record,) = fit.epochs()
        after = torch.nn.utils.parameters_to_vector(fit.network.parameters()).detach()
        assert after.dtype == torch.float32
        steps.append(after - before)
        losses.append(record["train_loss"])
    assert 0 < (steps[1] - steps[0]).norm() < 0.02 * steps[0].norm()
    assert 0 < abs(losses[1] - losses[0]) < 2**-8 * losses[0]


@pytest.mark.parametrize(("patience", "stops"), [(2, True), (None, False)])
def test_patience(patience: int | None, stops: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    scores = [3, 2, 4, 2, 9, 1, 9, 9, 9]
    monkeypatch.setattr("dbn.finetuning.trainer._score", lambda record: scores[int(record["epoch"]) - 1])
    fit = fitted(problem(epochs=9, patience=patience))
    assert (fit.epoch, fit.best_epoch) == ((4, 2) if stops else (9, 6))


@pytest.mark.parametrize(("freeze", "epochs_fixed"), [(0, 0), (2, 2), ("all", 4)])
def test_frozen_layers_stay_bit_for_bit(freeze: Any, epochs_fixed: int) -> None:
    made = problem(freeze_epochs=freeze, epochs=4, weight_decay=0.1)
    fit = Trainer(made, DBN_ARM, 0.1, 5)
    start = [parameter.clone() for parameter in made.network(DBN_ARM, 5).parameters()]
    for record in fit.epochs():
        now = list(fit.network.parameters())
        moved = [not torch.equal(a, b) for a, b in zip(start, now, strict=True)]
        assert moved == [record["epoch"] > epochs_fixed] * 4 + [True] * 2


@pytest.mark.parametrize(
    ("schedule", "factors"),
    [
        ("constant", [1.0] * 12),
        ("cosine", [0.5 * (1 + math.cos(math.pi * step / 12)) for step in range(12)]),
        ("1,0.5@2,0.1@4", [1.0] * 3 + [0.5] * 6 + [0.1] * 3),
        ("1:0", [1 - step / 12 for step in range(12)]),
        ("0.3", [0.3] * 12),
    ],
)
@pytest.mark.parametrize("layer_rates", [(1.0,), (0.1, 0.3, 2.0)])
def test_the_learning_rate_of_every_step(
    schedule: str, factors: list[float], layer_rates: tuple[float, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = problem(schedule=schedule, layer_rates=layer_rates, epochs=4)  # 24 labels, 10 a batch: 3 steps an epoch
    fit = Trainer(made, XAVIER, 0.2, 5)
    layers = linear_layers(fit.network)
    seen: list[list[float]] = []
    optimizer = type(fit.optimizer)
    optimizer_step = optimizer.step

    def watch(self: torch.optim.SGD, *arguments: Any) -> Any:
        rates = {parameter: group["lr"] for group in self.param_groups for parameter in group["params"]}
        assert all(rates[layer.weight] == rates[layer.bias] for layer in layers)
        seen.append([rates[layer.weight] for layer in layers])
        return optimizer_step(self, *arguments)

    monkeypatch.setattr(optimizer, "step", watch)
    list(fit.epochs())
    of_layers = layer_rates if len(layer_rates) > 1 else layer_rates * 3
    assert seen == [pytest.approx([0.2 * factor * rate for rate in of_layers]) for factor in factors]


def test_each_layer_steps_at_its_own_rate() -> None:
    made = problem(layer_rates=(0.25, 3.0, 0.5), schedule="constant", momentum=0.0, batch_size=24, epochs=1)
    fit, twin = Trainer(made, DBN_ARM, 0.1, 5), made.network(DBN_ARM, 5)
    train = made.labeled(5)[0]
    torch.nn.functional.cross_entropy(twin(made.scaling(train.x)), labels_of(train)).backward()
    list(fit.epochs())
    for layer, before, factor in zip(linear_layers(fit.network), linear_layers(twin), (0.25, 3.0, 0.5), strict=True):
        for now, start in ((layer.weight, before.weight), (layer.bias, before.bias)):
            assert start.grad is not None
            torch.testing.assert_close(now, start - 0.1 * factor * start.grad, rtol=0, atol=1e-7)
            assert start.grad.abs().max() > 1e-3


def test_refitting_trains_on_both_for_as_long_as_was_best() -> None:
    made = problem()
    train, valid = made.labeled(5)
    fit = Trainer(made, XAVIER, 0.1, 5, 3)
    assert rows(fit.train_set.x) == rows(train.x) | rows(valid.x)
    assert len(fit.train_set) == 33
    assert sorted(labels_of(fit.train_set).tolist()) == sorted(torch.cat([labels_of(train), labels_of(valid)]).tolist())
    records = list(fit.epochs())
    assert [record["epoch"] for record in records] == [1, 2, 3]
    assert all("valid_error" not in record for record in records)
    outcome = fit.result()
    assert outcome.best_epoch == 3
    assert all(torch.equal(outcome.weights[name], value) for name, value in fit.network.state_dict().items())


def test_divergence_is_an_outcome() -> None:
    fit = fitted(problem(epochs=9), HE, rate=1e30)
    assert fit.diverged
    assert fit.epoch < 9
    outcome = fit.result()
    assert outcome.diverged
    assert math.isfinite(outcome.valid_error)
    assert not math.isfinite(outcome.history[-1]["train_loss"])
    again = Trainer(problem(epochs=9), HE, 1e30, 5)
    again.load_state(fit.state())
    assert again.done


@pytest.mark.parametrize(
    ("options", "normalized"),
    [({}, False), (EVERYTHING, False), (EVERYTHING, True)],
    ids=["plain", "everything", "normalized"],
)
@pytest.mark.parametrize(("optimizer", "stop"), [("sgd", 1), ("sgd", 3), ("adam", 3), ("rmsprop", 1)])
def test_a_fit_goes_on_from_its_state(
    options: Any, optimizer: Any, stop: int, normalized: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if normalized:
        monkeypatch.setattr(Problem, "network", normalized_network)
    made = problem(optimizer=optimizer, freeze_epochs=2, patience=5, **options)
    whole = fitted(made, DBN_ARM, rate=0.01)
    first, second = Trainer(made, DBN_ARM, 0.01, 5), Trainer(made, DBN_ARM, 0.01, 5)
    for _ in zip(range(stop), first.epochs(), strict=False):
        pass
    assert first.epoch == stop
    save_state(tmp_path / "state", first.state())
    second.load_state(load_state(tmp_path / "state"))
    assert len(list(second.epochs())) == 6 - stop
    for a, b in ((whole.network, second.network), (whole.kept, second.kept)):
        for name, value in a.state_dict().items():
            assert torch.equal(b.state_dict()[name], value)
    for name, value in whole.best_weights.items():
        assert torch.equal(second.best_weights[name], value)
    assert second.best_epoch == whole.best_epoch
    untimed = [[{k: v for k, v in r.items() if "seconds" not in k} for r in fit.history] for fit in (whole, second)]
    assert untimed[0] == untimed[1]


@pytest.mark.parametrize("options", [{}, EVERYTHING], ids=["plain", "everything"])
def test_a_seed_gives_the_same_fit_whatever_torch_drew_before(options: Any) -> None:
    fits = []
    for number in range(2):
        torch.manual_seed(number)
        before = torch.get_rng_state()
        fits.append(fitted(problem(**options), DBN_ARM))
        assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(a, b) for a, b in zip(*(fit.best_weights.values() for fit in fits), strict=True))
    other = fitted(problem(**options), DBN_ARM, seed=6)
    assert all((fits[0].best_weights[name] != value).any() for name, value in other.best_weights.items())


def test_the_stack_is_not_trained_with_the_network() -> None:
    before = {name: value.clone() for name, value in STACK.state_dict().items()}
    fitted(problem(), DBN_ARM)
    assert all(torch.equal(before[name], value) for name, value in STACK.state_dict().items())


# Dropout

FIRST, HIDDEN = 0.2, 0.5
DROPOUT = {"input_dropout": FIRST, "hidden_dropout": HIDDEN}


@pytest.fixture
def masks(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Tensor]]:
    """Every mask that is drawn."""
    from dbn.finetuning import dropout

    drawn: list[Tensor] = []
    bernoulli_ = dropout.bernoulli_

    def watch(probability: Tensor, generator: torch.Generator) -> Tensor:
        drawn.append(bernoulli_(probability, generator).clone())
        return drawn[-1].clone()

    monkeypatch.setattr(dropout, "bernoulli_", watch)
    return iter([drawn]).__next__()


def test_dropout_draws_anew_each_step_and_alike_for_every_arm(masks: list[Tensor]) -> None:
    made = problem(epochs=3, batch_size=12, **DROPOUT)  # 2 steps an epoch, a mask a layer
    found = {}
    for arm, rate, seed in ((DBN_ARM, 0.1, 5), (HE, 0.1, 5), (TANH, 0.001, 5), (HE, 0.1, 6)):
        masks.clear()
        fitted(made, arm, rate, seed)
        found[arm.name, seed] = list(masks)
    first = found["dbn", 5]
    assert [mask.shape for mask in first] == [(12, 36), (12, 7), (12, 5)] * 6
    for other in (found["he_normal", 5], found["xavier_normal:tanh", 5]):
        assert all(torch.equal(a, b) for a, b in zip(first, other, strict=True))
    for layer in range(3):
        of_steps = [*first[layer::3], *found["he_normal", 6][layer::3]]
        assert all((a != b).any() for a, b in combinations(of_steps, 2))
    for rate, drawn in ((FIRST, first[::3]), (HIDDEN, [*first[1::3], *first[2::3]])):
        kept = torch.cat([mask.flatten() for mask in drawn])
        assert abs(kept.mean() - (1 - rate)) < 5 * math.sqrt(rate * (1 - rate) / len(kept))


@pytest.mark.parametrize(("inputs", "hidden", "layers"), [(FIRST, 0.0, [36]), (0.0, HIDDEN, [7, 5]), (0.0, 0.0, [])])
def test_each_rate_has_its_own_place(inputs: float, hidden: float, layers: list[int], masks: list[Tensor]) -> None:
    fitted(problem(epochs=1, batch_size=24, input_dropout=inputs, hidden_dropout=hidden))
    assert [mask.shape[1] for mask in masks] == layers


def test_what_dropout_draws_is_independent_for_each_element() -> None:
    dropout = SeededDropout(0.3, torch.Generator().manual_seed(1))
    x = torch.linspace(-1, 2, 11).repeat(4000, 1)
    y = dropout(x)
    kept = y != 0
    torch.testing.assert_close(y, torch.where(kept, x / 0.7, 0.0))
    error = 5 * math.sqrt(0.3 * 0.7 / 4000)
    assert (kept.double().mean(0) - 0.7).abs().max() < error
    process_group = kept.double().T @ kept.double() / 4000
    apart = process_group[~torch.eye(11, dtype=torch.bool)]
    assert (apart - 0.49).abs().max() < 5 * math.sqrt(0.49 * 0.51 / 4000)


def test_lower_precision_does_not_round_the_share_that_is_dropped() -> None:
    """bfloat16 would keep 0.6987 for 0.7, by rounding the probability and the bits: seen in so many draws."""
    x = torch.ones(3000, 2000, dtype=torch.bfloat16)
    y = SeededDropout(0.3, torch.Generator().manual_seed(1))(x)
    assert y.dtype == x.dtype
    kept = int(torch.count_nonzero(y)) / y.numel()
    assert abs(kept - 0.7) < 4 * math.sqrt(0.3 * 0.7 / y.numel())


def test_pretrained_weights_keep_their_fields_under_dropout(monkeypatch: pytest.MonkeyPatch) -> None:
    """Under every mask the field is that of the paper's rule, weights over keep; over all masks, pre-training's."""
    rbm = stack(sizes=(5, 3)).layers[0]
    network = stack(sizes=(5, 3)).to_mlp(2)
    learner = with_dropout(network, FIRST, HIDDEN, torch.Generator())
    weight, bias, keep = rbm.weight, rbm.hidden.bias, 1 - FIRST
    x = torch.tensor([0.3, 1.0, 0.0, 0.8, 0.5])
    mean = torch.zeros(3)
    for bits in product((0.0, 1.0), repeat=5):
        mask = torch.tensor(bits)
        monkeypatch.setattr(
            "dbn.finetuning.dropout.bernoulli_", lambda probability, _, mask=mask: probability.copy_(mask)
        )
        field = learner[:2](x)  # dropout, Linear
        torch.testing.assert_close(field, (weight / keep) @ (mask * x) + bias)
        mean += keep ** mask.sum() * FIRST ** (5 - mask.sum()) * field.detach()
    torch.testing.assert_close(mean.sigmoid(), rbm.up(x))
    torch.testing.assert_close(network[:2](x), rbm.up(x))  # and so has what predicts


def test_dropout_leaves_the_network_and_its_predictions_alone() -> None:
    made, plain = problem(**DROPOUT), problem().network(DBN_ARM, 5)
    fit, x = fitted(made, DBN_ARM), made.scaling(SPLITS.valid.x)
    assert str(fit.network) == str(plain)
    plain.load_state_dict(fit.result().weights)
    fit.network.load_state_dict(fit.result().weights)
    fit.learner.train()
    assert (fit.learner(x) != fit.learner(x)).any()
    fit.learner.eval()
    assert torch.equal(fit.learner(x), plain(x))
    start = made.network(DBN_ARM, 5)
    assert all(torch.equal(a.weight, b.weight) for a, b in zip(linear_layers(start), STACK.layers, strict=False))


# Max-norm


def test_the_max_norm_shortens_long_rows_and_leaves_the_rest_bit_for_bit() -> None:
    start = linear_layers(problem().network(DBN_ARM, 5))
    bound = start[0].weight.norm(dim=1).median().item()
    made = problem(max_norm=bound, epochs=1)
    layers = linear_layers(fitted(made, DBN_ARM, 1e-30).network)  # a rate at which no step moves anything
    for layer, before in zip(layers[:-1], start[:-1], strict=True):
        norms = before.weight.norm(dim=1, keepdim=True)
        short = (norms <= bound)[:, 0]
        assert torch.equal(layer.weight[short], before.weight[short])
        torch.testing.assert_close(layer.weight[~short], (before.weight * bound / norms)[~short])
        assert torch.equal(layer.bias, before.bias)
    long = [(layer.weight.norm(dim=1) > bound).sum().item() for layer in start]
    assert 0 < long[0] < 7
    assert torch.equal(layers[-1].weight, start[-1].weight)


def test_the_max_norm_holds_after_every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    norms: list[float] = []
    step = Trainer._step

    def watch(self: Trainer, indices: Tensor, epoch: int, number: int) -> None:
        step(self, indices, epoch, number)
        norms.extend(layer.weight.norm(dim=1).max().item() for layer in linear_layers(self.network)[:-1])

    monkeypatch.setattr(Trainer, "_step", watch)
    output = linear_layers(fitted(problem(max_norm=0.7), HE, 0.5).network)[-1]
    assert max(norms) == pytest.approx(0.7, rel=1e-5)
    assert output.weight.norm(dim=1).max() > 0.7


def test_the_max_norm_leaves_frozen_layers_alone() -> None:
    fit = fitted(problem(max_norm=0.1, freeze_epochs="all"), DBN_ARM)
    for layer, rbm in zip(linear_layers(fit.network), STACK.layers, strict=False):
        assert torch.equal(layer.weight, rbm.weight)
        assert (layer.weight.norm(dim=1) > 0.1).all()


# Averaged weights


def normalized_network(made: Problem, arm: Any, seed: int) -> nn.Sequential:
    """In place of `Problem.network`: batch normalisation before each activation."""
    network = mlp([36, *made.hidden, CLASSES], arm.activation, normalize=True)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for layer in linear_layers(network):
            layer.weight.normal_(0, 0.3, generator=generator)
            layer.bias.zero_()
    return network


@pytest.mark.parametrize("refit", [None, 4])
def test_the_average_is_that_of_every_step(refit: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    average: dict[str, Tensor] = {}
    step = Trainer._step

    def watch(self: Trainer, indices: Tensor, epoch: int, number: int) -> None:
        step(self, indices, epoch, number)
        for name, value in self.network.state_dict().items():
            now = value.double()
            average[name] = 0.8 * average[name] + 0.2 * now if name in average else now.clone()

    monkeypatch.setattr(Trainer, "_step", watch)
    made = problem(average=0.8, epochs=4)
    fit = fitted(made, HE, refit=refit)
    for name, value in fit.kept.state_dict().items():
        torch.testing.assert_close(value.double(), average[name], rtol=1e-5, atol=1e-6)
        assert (value != fit.network.state_dict()[name]).any()
    outcome = fit.result()
    if refit:
        assert all(torch.equal(outcome.weights[name], value) for name, value in fit.kept.state_dict().items())
        return
    network, valid = made.network(HE, 5), made.labeled(5)[1]
    network.load_state_dict(outcome.weights)
    logits = network(made.scaling(valid.x))
    loss = torch.nn.functional.cross_entropy(logits, labels_of(valid)).item()
    assert loss == fit.history[outcome.best_epoch - 1]["valid_loss"]


def test_averaging_does_not_alter_what_is_averaged() -> None:
    plain, averaged = fitted(problem(epochs=4), HE), fitted(problem(epochs=4, average=0.8), HE)
    for name, value in plain.network.state_dict().items():
        assert torch.equal(averaged.network.state_dict()[name], value)
    losses = [[record["train_loss"] for record in fit.history] for fit in (plain, averaged)]
    assert losses[0] == losses[1]


@pytest.mark.parametrize("chunk", [2000, 10])
def test_an_averaged_network_is_normalized_by_its_own_statistics(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Problem, "network", normalized_network)
    monkeypatch.setattr("dbn.finetuning.trainer.ROWS_AT_ONCE", chunk)
    made = problem(average=0.9, **DROPOUT)
    fit = fitted(made, HE)
    first, normalize, last = fit.kept[0], fit.kept[1], fit.network[1]
    assert isinstance(normalize, nn.BatchNorm1d)
    assert isinstance(last, nn.BatchNorm1d)
    fields = first(made.scaling(made.labeled(5)[0].x))
    parts = fields.split(24 if chunk == 2000 else 8)
    torch.testing.assert_close(normalize.running_mean, torch.stack([part.mean(0) for part in parts]).mean(0))
    torch.testing.assert_close(normalize.running_var, torch.stack([part.var(0) for part in parts]).mean(0))
    assert normalize.momentum == last.momentum == 0.1
    assert (normalize.running_mean != last.running_mean).all()
    plain = fitted(problem(**DROPOUT), HE)
    for name, value in plain.network.state_dict().items():
        assert torch.equal(fit.network.state_dict()[name], value)
