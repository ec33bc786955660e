"""Fits that train together, held to what each gets alone."""

import copy
from dataclasses import replace
from typing import Any

import pytest
import torch
from recording import CpuRecorder
from tiny import pictures, splits, stack
from torch import Tensor, nn

from dbn.config.finetuning import Finetuning
from dbn.data.cut import splits_from_arrays
from dbn.finetuning import grouping
from dbn.finetuning import optimizer as optimizers
from dbn.finetuning.backward import set_gradients
from dbn.finetuning.dropout import SeededDropout, with_dropout
from dbn.finetuning.grouping import grouped
from dbn.finetuning.loading import make_problem
from dbn.finetuning.problem import Problem
from dbn.finetuning.stacked import StackedDropout, StackedLinear
from dbn.finetuning.together import train_together
from dbn.finetuning.trainer import Trainer
from dbn.initializers.arms import parse_arm
from dbn.models.mlp import ACTIVATIONS, mlp
from dbn.models.scaling import Scaling
from dbn.rng import stream
from dbn.tasks import TASKS
from dbn.tasks.base import Task

ARMS = ("dbn", "xavier_uniform:sigmoid")
RATES = (0.03, 0.3)
SEEDS = (5, 6)
CONFIG = Finetuning(init=ARMS, labels=24, valid_labels=9, seeds=2, seed=5, epochs=5, batch_size=10)
"""Epochs of two batches of ten and one of four."""
SPLITS = splits()
BF16 = pytest.mark.skipif(not torch.cpu._is_avx512_bf16_supported(), reason="this processor has no bfloat16 products")


def fits(made: Problem, refit: int | None = None, rates: tuple[float, ...] = RATES) -> list[Trainer]:
    return [
        Trainer(made, parse_arm(arm), rate, seed, refit) for arm in made.config.init for rate in rates for seed in SEEDS
    ]


def problem(**options: Any) -> Problem:
    return Problem(SPLITS, Scaling(), (7, 5), (stack(),), replace(CONFIG, **options))


def together(made: list[Trainer]) -> list[Trainer]:
    for _ in train_together(made, lambda position: None):
        pass
    return made


def alone(made: list[Trainer]) -> list[Trainer]:
    for fit in made:
        for _ in fit.epochs():
            pass
    return made


SETTINGS: dict[str, tuple[dict[str, Any], float]] = {
    "sgd": ({}, 1e-5),
    "everything": (
        {
            "input_dropout": 0.2, "hidden_dropout": 0.5, "max_norm": 1.0, "layer_rates": (0.1, 0.3, 1.0),
            "schedule": "1,0.1@3,0.03@5", "average": 0.8, "weight_decay": 0.01,
        },
        1e-5,
    ),
    "adam": ({"optimizer": "adam", "schedule": "1:0"}, 1e-4),
    "rmsprop": ({"optimizer": "rmsprop", "epochs": 2}, 1e-3),
    "frozen at first": ({"freeze_epochs": 2}, 1e-5),
    "all labels": ({"labels": None}, 1e-5),
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "refit"), [*((name, None) for name in SETTINGS), ("sgd", 4)], ids=[*SETTINGS, "refit"]
)
def test_fits_end_as_each_alone(name: str, refit: int | None) -> None:
    options, near = SETTINGS[name]
    made = problem(**options)
    for expected, found in zip(alone(fits(made, refit)), together(fits(made, refit)), strict=True):
        assert_near(found, expected, near)
        start = made.network(found.arm, found.seed).state_dict()
        assert any((value - start[key]).abs().max() > 100 * near for key, value in found.network.state_dict().items())


def assert_near(found: Trainer, expected: Trainer, near: float) -> None:
    """Also the same epoch and errors."""
    state, alike = found.state(), expected.state()
    for name in ("epoch", "best_epoch", "diverged"):
        assert state[name] == alike[name]
    for name in ("network", "best_weights", "optimizer", "averaged"):
        torch.testing.assert_close(state[name], alike[name], rtol=near, atol=near, check_dtype=False)
    for record, own in zip(state["history"], alike["history"], strict=True):
        assert record.keys() == own.keys()
        losses = {name: value for name, value in record.items() if "seconds" not in name}
        assert losses == pytest.approx({name: own[name] for name in losses}, rel=near)


@pytest.mark.parametrize("task", ["regress", "multilabel", "autoencode"])
def test_fits_of_every_task_end_as_each_alone(task: str) -> None:
    x, y = pictures()
    y = {"regress": x[:, :2, 0].astype(float), "multilabel": (x[:, :2, 0] > 60).astype(float)}.get(task, y)
    config = replace(CONFIG, task=task, init=("he_normal:tanh",), labels=None)
    data = splits_from_arrays(x, y, cut_test=True, read_labels=TASKS[task].read)
    made = make_problem(data, [], (7, 5), config, torch.device("cpu"))
    rates = 0.001, 0.003
    for expected, found in zip(alone(fits(made, None, rates)), together(fits(made, None, rates)), strict=True):
        assert_near(found, expected, 1e-5)


@BF16
def test_fits_end_as_each_alone_in_bfloat16() -> None:
    made = problem(precision="bf16", epochs=2)
    for expected, found in zip(alone(fits(made)), together(fits(made)), strict=True):
        for key, value in expected.network.state_dict().items():
            torch.testing.assert_close(found.network.state_dict()[key], value, rtol=0.02, atol=0.02)


@pytest.mark.parametrize("activation", [*ACTIVATIONS, "identity"])
@pytest.mark.parametrize("frozen", [False, True])
def test_stacked_layers_have_the_gradients_of_each(activation: str, frozen: bool) -> None:
    generator = stream(3, "weights")
    networks = [mlp((9, 6, 5, 3), activation).double() for _ in range(4)]
    for network in networks:
        for parameter in network.parameters():
            nn.init.normal_(parameter, 0, 0.7, generator=generator)
        network[:-1].requires_grad_(not frozen)
    place = torch.tensor([0, 1, 1, 0])
    x = torch.randn(2, 8, 9, generator=generator, dtype=torch.float64)[place]
    y = torch.randint(3, (4, 8), generator=generator)

    def loss(logits: Tensor, y: Tensor) -> Tensor:
        return nn.functional.cross_entropy(logits, y, reduction="sum")

    learners = [
        with_dropout(network, 0.2, 0.4, stream(seed, "noise"))
        for network, seed in zip(networks, (0, 1, 1, 0), strict=True)
    ]
    losses = [
        set_gradients(learner, rows, lambda logits, y=y: loss(logits, y))
        for learner, rows, y in zip(learners, x, y, strict=True)
    ]
    alone = [[parameter.grad for parameter in network.parameters()] for network in networks]
    stacked = nn.Sequential()
    again = [
        with_dropout(network, 0.2, 0.4, stream(seed, "noise")) for network, seed in zip(networks, (0, 1), strict=False)
    ]
    for number, module in enumerate(learners[0]):
        if isinstance(module, nn.Linear):
            module = StackedLinear([learner[number] for learner in learners])
        elif isinstance(module, SeededDropout):
            module = StackedDropout([learner[number] for learner in again], place)
        stacked.append(module)

    def losses_of(logits: Tensor) -> Tensor:
        return torch.stack([loss(*each) for each in zip(logits, y, strict=True)])

    found = set_gradients(stacked, x, losses_of)
    torch.testing.assert_close(found, torch.stack(losses), rtol=1e-12, atol=1e-12)
    for network, grads in zip(networks, alone, strict=True):
        for parameter, grad in zip(network.parameters(), grads, strict=True):
            assert (parameter.grad is None) == (grad is None)
            if grad is not None:
                assert grad.count_nonzero()
                torch.testing.assert_close(parameter.grad, grad, rtol=1e-10, atol=1e-12)


def test_a_fit_alone_is_itself_to_the_bit() -> None:
    made = problem()
    (expected,), (found,) = alone(fits(made)[:1]), together(fits(made)[:1])
    torch.testing.assert_close(found.state()["network"], expected.state()["network"], rtol=0, atol=0)


@pytest.mark.parametrize(
    ("arm", "rates", "options"),
    [("dbn", (0.03, 0.3), {"patience": 1}), ("he_normal", (0.1, 1e20), {})],
    ids=["patience", "divergence"],
)
def test_fits_that_are_done_leave_the_others(arm: str, rates: tuple[float, ...], options: dict[str, Any]) -> None:
    made = problem(init=(arm,), epochs=12, **options)

    expected, found = alone(fits(made, None, rates)), together(fits(made, None, rates))
    assert len({fit.epoch for fit in expected}) > 1
    for one, other in zip(expected, found, strict=True):
        assert (other.epoch, other.best_epoch, other.diverged) == (one.epoch, one.best_epoch, one.diverged)
        torch.testing.assert_close(other.best_weights, one.best_weights, rtol=1e-4, atol=1e-4, equal_nan=True)


class Stop(Exception):
    pass


@pytest.mark.parametrize("name", ["everything", "adam", "frozen at first"])
@pytest.mark.parametrize("steps", [0, 5, 9])
def test_resumed_fits_end_in_the_same_bits(name: str, steps: int) -> None:
    made, done = problem(**SETTINGS[name][0] | {"patience": 2}), 0

    def after_step(position: int) -> None:
        nonlocal done
        done += 1
        if done == steps:
            raise Stop

    whole, first, second = together(fits(made)), fits(made), fits(made)
    if steps:
        with pytest.raises(Stop):
            list(train_together(first, after_step))
    for fit, kept in zip(second, copy.deepcopy([each.state() for each in first]), strict=True):
        fit.load_state(kept)
    for expected, found in zip(whole, together(second), strict=True):
        torch.testing.assert_close(bare(found), bare(expected), rtol=0, atol=0, check_dtype=False)


def bare(fit: Trainer) -> dict[str, Any]:
    state = fit.state()
    history = [{name: each[name] for name in each if "seconds" not in name} for each in state["history"]]
    return state | {"history": history}


def test_fits_that_are_behind_catch_up_first() -> None:
    made = problem()
    some, steps = fits(made), list[int]()
    for _ in range(3):
        next(some[0].epochs())
    for trained in train_together(some, steps.append):
        assert len({fit.epoch for fit in trained}) == 1
    assert all(fit.epoch == CONFIG.epochs for fit in some)
    assert steps == [1, 2, 3] * CONFIG.epochs
    for expected, found in zip(alone(fits(made)), some, strict=True):
        assert_near(found, expected, 1e-5)


@pytest.mark.parametrize("name", ["sgd", "adam", "frozen at first", "everything"])
def test_replayed_steps_are_the_steps(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    made = problem(**SETTINGS[name][0])
    plain = together(fits(made))
    make = optimizers.make_optimizer
    monkeypatch.setattr(optimizers, "make_optimizer", lambda *a, **k: make(*a, **(k | {"capturable": True})))
    recorders: list[CpuRecorder] = []

    def recorder(*generators: torch.Generator) -> CpuRecorder:
        recorders.append(CpuRecorder(*generators))
        return recorders[-1]

    monkeypatch.setattr("dbn.capture.graph_recorder", recorder)
    for expected, found in zip(plain, together(fits(made)), strict=True):
        torch.testing.assert_close(bare(found), bare(expected), rtol=0, atol=0, check_dtype=False)
    assert sum(each.replayed for each in recorders) == (7 if name == "frozen at first" else 11)
    assert {len(each.generators) for each in recorders} == {1, len(SEEDS)}


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, [(["dbn"], 1), (["xavier_uniform:sigmoid"], 1), (["he_normal"], 1)]),
        ({"together": 3}, [(["dbn", "xavier_uniform:sigmoid"], 3), (["he_normal"], 3)]),
        ({"together": "auto"}, [(["dbn", "xavier_uniform:sigmoid"], 200), (["he_normal"], 200)]),
        (
            {"together": 3, "init": ("he_normal", "batch_norm:relu", "lsuv")},
            [(["he_normal"], 3), (["batch_norm:relu"], 1), (["lsuv"], 3)],
        ),
    ],
)
def test_neighboring_arms_of_equal_networks_are_a_group(options: dict[str, Any], expected: list[Any]) -> None:
    made = problem(**{"init": (*ARMS, "he_normal")} | options)
    groups = grouped(made, map(parse_arm, made.config.init))
    assert [([arm.name for arm in arms], at_once) for arms, at_once in groups] == expected


@pytest.mark.parametrize(("hidden", "batch_size", "at_once"), [(7, 10, 200), (6000, 21, 1), (6000, 20, 200)])
def test_on_a_cpu_auto_leaves_large_fits_alone(hidden: int, batch_size: int, at_once: int) -> None:
    config = replace(CONFIG, init=("he_normal",), together="auto", batch_size=batch_size)
    made = Problem(SPLITS, Scaling(), (hidden,), (), config)
    assert grouped(made, [parse_arm("he_normal")])[0][1] == at_once


def test_auto_bounds_the_parameters_of_a_group(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grouping, "PARAMETERS", 1000)
    made = problem(together="auto")  # of 36 · 7 + 7 + 7 · 5 + 5 + 5 · 3 + 3
    assert grouped(made, [parse_arm("dbn")])[0][1] == 1000 // 317


class Mixing(torch.optim.SGD):
    """An optimizer that may mix the parameters of fits."""


@pytest.mark.parametrize(
    "why", ["several processes", "--pseudo-labels", "optimizer", "single examples", "other layers"]
)
def test_what_cannot_train_together_trains_alone_and_says_so_once(
    why: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    grouping._log.cache_clear()
    options = {"other layers": {"init": ("batch_norm:relu",)}, "--pseudo-labels": {"pseudo_labels": 20}}
    made = problem(together=4, **options.get(why, {}))
    if why == "several processes":
        monkeypatch.setattr(grouping.distributed, "size", lambda: 2)
    if why == "optimizer":
        monkeypatch.setitem(grouping.OPTIMIZERS, "sgd", Mixing)
    if why == "single examples":
        monkeypatch.setattr(type(made.task), "losses", Task.losses)
    for _ in range(2):
        assert [at_once for _, at_once in grouped(made, map(parse_arm, made.config.init))] == [1] * len(
            made.config.init
        )
    (record,) = caplog.records
    assert why in record.getMessage()
