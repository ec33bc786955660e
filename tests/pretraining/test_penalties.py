"""Penalties against autograd of what they stand for, bounds against their promise, and averaged weights."""

import copy
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from enumeration import KINDS, PAIRS, make_rbm, rng
from torch import Tensor
from torch.testing import assert_close

import dbn
from dbn.config.pretraining import Pretraining
from dbn.errors import InputError
from dbn.likelihood.gradient import Means, set_gradient
from dbn.models.rbm import RBM
from dbn.pretraining import PENALTIES
from dbn.pretraining.penalties import L1, MaxNorm, Penalty, SparsityTarget, penalties
from dbn.storage.tensors import load_state, save_state
from dbn.training.averaging import RunningAverage

each_pair = pytest.mark.parametrize(("visible", "hidden"), PAIRS)

MADE: dict[str, dict[str, float]] = {
    "l1": {"strength": 0.3},
    "sparsity": {"target": 0.2, "cost": 0.7, "decay": 0.6},
    "max_norm": {"bound": 1.0},
}
"""What each penalty is made with here: a new one is a line."""


def make(name: str) -> Penalty:
    return PENALTIES[name](**MADE[name])


def grey(rbm: RBM, n: int, seed: int) -> Tensor:
    return torch.rand(n, rbm.visible.size, dtype=torch.float64, generator=rng(seed))


def plain_gradient(rbm: RBM, data: Tensor) -> tuple[Means, dict[str, Tensor]]:
    means = set_gradient(rbm, data, grey(rbm, 4, 99))
    return means, gradients(rbm)


def gradients(rbm: RBM) -> dict[str, Tensor]:
    return {name: parameter.grad.clone() for name, parameter in rbm.named_parameters() if parameter.grad is not None}


def added(penalty: Penalty, rbm: RBM, data: Tensor) -> dict[str, Tensor]:
    means, before = plain_gradient(rbm, data)
    penalty.before_step(rbm, means)
    return {name: gradient - before[name] for name, gradient in gradients(rbm).items()}


def by_autograd(rbm: RBM, objective: Tensor) -> dict[str, Tensor]:
    names, parameters = zip(*rbm.named_parameters(), strict=True)
    found = torch.autograd.grad(objective, parameters, materialize_grads=True, allow_unused=True)
    return dict(zip(names, found, strict=True))


def cross_entropy(p: float, q: Tensor) -> Tensor:
    return (-p * q.log() - (1 - p) * (1 - q).log()).sum()


def test_every_penalty_is_tried() -> None:
    assert set(MADE) == set(PENALTIES)


@each_pair
def test_l1_is_the_gradient_of_the_sum_of_magnitudes(visible: str, hidden: str) -> None:
    rbm = make_rbm(visible, hidden)
    assert_close(added(L1(0.3), rbm, grey(rbm, 5, 1)), by_autograd(rbm, 0.3 * rbm.weight.abs().sum()))


def test_l1_does_not_pull_at_a_weight_of_zero() -> None:
    rbm = make_rbm("bernoulli", "bernoulli")
    with torch.no_grad():
        rbm.weight[0] = 0.0
    change = added(L1(0.3), rbm, grey(rbm, 5, 1))["weight"]
    assert_close(change[0], torch.zeros_like(change[0]))
    assert (change[1:].abs() > 0.29).all()


@pytest.mark.parametrize("visible", KINDS)
@pytest.mark.parametrize("n", [1, 6])
def test_the_sparsity_target_is_the_cross_entropy_s_gradient_on_equal_rows(visible: str, n: int) -> None:
    rbm = make_rbm(visible, "bernoulli")
    data = grey(rbm, 1, 1).expand(n, -1)
    slow = by_autograd(rbm, 0.7 * cross_entropy(0.2, rbm.up(data).mean(0)))
    assert_close(added(SparsityTarget(0.2, 0.7, decay=0.0), rbm, data), slow)


@pytest.mark.parametrize("visible", KINDS)
def test_the_sparsity_target_acts_on_the_bias_as_the_mean_cross_entropy_of_any_rows(visible: str) -> None:
    rbm = make_rbm(visible, "bernoulli")
    data = grey(rbm, 6, 1)
    slow = by_autograd(rbm, 0.7 * cross_entropy(0.2, rbm.up(data)) / len(data))
    found = added(SparsityTarget(0.2, 0.7, decay=0.0), rbm, data)
    assert_close(found["hidden.bias"], slow["hidden.bias"])
    assert_close(found["weight"], slow["hidden.bias"][:, None] * data.mean(0))


@each_pair
def test_the_sparsity_target_is_the_gradient_of_how_unlikely_the_target_is(visible: str, hidden: str) -> None:
    """−log p(h = p | field) but for the base measure, by weight and hidden bias, where all rows have one field."""
    rbm = make_rbm(visible, hidden)
    data = grey(rbm, 1, 1).expand(3, -1)
    field, p = rbm.hidden_field(data[:1]), torch.full((1, rbm.hidden.size), 0.2, dtype=torch.float64)
    surprise = rbm.hidden.log_partition(field) - (field * p).sum() + rbm.hidden.energy(p)
    slow = by_autograd(rbm, 0.7 * surprise.sum())
    found = added(SparsityTarget(0.2, 0.7, decay=0.0), rbm, data)
    for name, change in found.items():
        learned = name in ("weight", "hidden.bias")
        assert_close(change, slow[name] if learned else torch.zeros_like(change))


@pytest.mark.parametrize("target", [0.05, 0.95])
def test_a_step_against_it_brings_every_unit_nearer_to_the_target(target: float) -> None:
    rbm = make_rbm("bernoulli", "bernoulli")
    data = grey(rbm, 20, 1).round()
    before = (rbm.up(data).mean(0) - target).abs()
    change = added(SparsityTarget(target, 1.0, decay=0.0), rbm, data)
    with torch.no_grad():
        for name, parameter in rbm.named_parameters():
            parameter -= 0.01 * change[name]
    assert ((rbm.up(data).mean(0) - target).abs() < before - 1e-4).all()


@each_pair
def test_the_mean_activity_is_a_moving_average_that_begins_with_the_first_batch(visible: str, hidden: str) -> None:
    rbm, penalty = make_rbm(visible, hidden), SparsityTarget(0.2, 0.7, decay=0.6)
    q = None
    for seed in range(3):
        data = grey(rbm, 4, seed)
        now = rbm.up(data).mean(0).detach()
        q = now if q is None else 0.6 * q + 0.4 * now
        change = added(penalty, rbm, data)
        assert_close(change["hidden.bias"], 0.7 * (q - 0.2))
        assert_close(penalty.state()["activity"], q)


@each_pair
@pytest.mark.parametrize("bound", [0.5, 1.0])
def test_max_norm_scales_long_rows_back_and_leaves_the_others_as_they_are(
    visible: str, hidden: str, bound: float
) -> None:
    rbm = make_rbm(visible, hidden)
    lengths = torch.tensor([7.0, 0.3, 0.8] * 2, dtype=torch.float64)[: rbm.hidden.size, None]
    with torch.no_grad():
        rbm.weight.mul_(lengths / rbm.weight.norm(dim=1, keepdim=True))
    before = copy.deepcopy(rbm.state_dict())
    MaxNorm(bound).after_step(rbm)
    after = rbm.state_dict()
    short = lengths[:, 0] < bound
    assert_close(after["weight"][short], before["weight"][short], rtol=0, atol=0)
    # torch.renorm divides by the norm + 1e-7.
    expected = before["weight"] * (bound / lengths)
    assert_close(after["weight"][~short], expected[~short], rtol=1e-6, atol=0)
    assert (after["weight"].norm(dim=1) <= bound).all()
    for name in before.keys() - {"weight"}:
        assert_close(after[name], before[name], rtol=0, atol=0)


def train(rbm: RBM, penalty: Penalty, optimizer: torch.optim.Optimizer, seeds: range) -> None:
    for seed in seeds:
        means, _ = plain_gradient(rbm, grey(rbm, 5, seed))
        penalty.before_step(rbm, means)
        optimizer.step()
        penalty.after_step(rbm)


@pytest.mark.parametrize("name", PENALTIES)
def test_training_goes_on_as_if_it_had_not_been_interrupted(name: str, tmp_path: Path) -> None:
    rbm, penalty = make_rbm("bernoulli", "bernoulli"), make(name)
    untouched = copy.deepcopy(rbm)
    optimizer = torch.optim.SGD(rbm.parameters(), lr=0.1)
    train(rbm, penalty, optimizer, range(3))
    save_state(tmp_path / "state", {"rbm": rbm.state_dict(), "penalty": penalty.state()})
    train(rbm, penalty, optimizer, range(3, 6))

    state: dict[str, Any] = load_state(tmp_path / "state")
    resumed, again = make_rbm("bernoulli", "bernoulli"), make(name)
    resumed.load_state_dict(state["rbm"])
    again.load_state(state["penalty"])
    train(resumed, again, torch.optim.SGD(resumed.parameters(), lr=0.1), range(3, 6))
    assert_close(resumed.state_dict(), rbm.state_dict(), rtol=0, atol=0)

    train(untouched, Penalty(), torch.optim.SGD(untouched.parameters(), lr=0.1), range(6))
    assert not torch.allclose(untouched.weight, rbm.weight)


def test_a_state_taken_is_not_moved_by_later_steps() -> None:
    rbm, penalty = make_rbm("bernoulli", "bernoulli"), SparsityTarget(0.2, 0.7)
    added(penalty, rbm, grey(rbm, 4, 1))
    state = penalty.state()
    kept = copy.deepcopy(state)
    added(penalty, rbm, grey(rbm, 4, 2))
    assert_close(state, kept, rtol=0, atol=0)
    penalty.load_state({})
    assert penalty.state() == {}


@pytest.mark.parametrize(
    ("name", "options", "sentence"),
    [
        ("l1", {"strength": -1.0}, "strength of at least 0, not -1"),
        ("l1", {"strength": math.nan}, "not nan"),
        ("sparsity", {"target": 0.0}, "between 0 and 1, not 0"),
        ("sparsity", {"target": 1.0}, "between 0 and 1, not 1"),
        ("sparsity", {"cost": -0.1}, "cost of at least 0, not -0.1"),
        ("sparsity", {"decay": 1.0}, "below 1, not 1"),
        ("max_norm", {"bound": 0.0}, "above 0, not 0"),
    ],
)
def test_what_cannot_work_is_refused(name: str, options: dict[str, float], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        PENALTIES[name](**MADE[name] | options)


def averaged_copy(rbm: RBM) -> RunningAverage[RBM]:
    return RunningAverage(rbm, 0.8)


@each_pair
def test_averaged_weights_are_the_moving_average_of_those_after_each_step(visible: str, hidden: str) -> None:
    rbm = make_rbm(visible, hidden)
    averaged = averaged_copy(rbm)
    optimizer = torch.optim.SGD(rbm.parameters(), lr=0.1, momentum=0.9)
    mean: dict[str, Tensor] = {}
    for seed in range(4):
        train(rbm, Penalty(), optimizer, range(seed, seed + 1))
        now = copy.deepcopy(dict(rbm.named_parameters()))
        averaged.update(rbm)
        mean = {name: 0.8 * mean[name] + 0.2 * now[name] if mean else now[name] for name in now}
        assert_close(rbm.state_dict(), {name: value.detach() for name, value in now.items()}, rtol=0, atol=0)
    found = averaged.module
    assert_close(found.state_dict(), {name: value.detach() for name, value in mean.items()})
    assert (found.weight - rbm.weight).abs().max() > 1e-3
    assert found.free_energy(grey(rbm, 3, 0)).isfinite().all()


@each_pair
def test_averaging_goes_on_as_if_it_had_not_been_interrupted(visible: str, hidden: str, tmp_path: Path) -> None:
    rbm = make_rbm(visible, hidden)
    averaged = averaged_copy(rbm)
    optimizer = torch.optim.SGD(rbm.parameters(), lr=0.1)
    train(rbm, Penalty(), optimizer, range(3))
    averaged.update(rbm)
    save_state(tmp_path / "state", averaged.state())
    train(rbm, Penalty(), optimizer, range(3, 6))
    averaged.update(rbm)

    resumed = averaged_copy(make_rbm(visible, hidden, seed=1))
    resumed.load_state(load_state(tmp_path / "state"))
    resumed.update(rbm)
    assert_close(resumed.state(), averaged.state(), rtol=0, atol=0)


# By name


def asked(**options: Any) -> dict[str, dict[str, Any]]:
    return {name: vars(penalty) for name, penalty in penalties(Pretraining(**options)).items()}


def test_names_and_short_options_build_the_same() -> None:
    short = asked(l1=0.1, sparsity_target=0.2, sparsity_cost=0.3, max_norm=3.0)
    named = asked(penalty=["l1(strength=0.1)", " sparsity( target = .2, cost=3e-1 ) ", "max_norm(bound=3)"])
    assert short == named == {
        "l1": {"strength": 0.1},
        "sparsity": {"target": 0.2, "cost": 0.3, "decay": 0.9, "activity": None},
        "max_norm": {"bound": 3.0},
    }  # fmt: skip
    assert asked(penalty="sparsity(target=0.2,decay=0)")["sparsity"] == short["sparsity"] | {"cost": 0.01, "decay": 0.0}
    assert list(asked(l1=0.1, penalty=["max_norm(bound=2)"])) == ["l1", "max_norm"]
    assert asked() == {}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"penalty": "l2(strength=1)"}, "there is no penalty 'l2', did you mean 'l1'"),
        ({"penalty": "l1"}, r"l1 needs strength: write l1\(strength=VALUE\)"),
        ({"penalty": "l1(strenth=1)"}, "l1 has no parameter 'strenth': it has strength"),
        ({"penalty": "l1(0.1)"}, "'0.1' is not a parameter of l1: write NAME=VALUE, with strength"),
        ({"penalty": "l1(strength=x)"}, "strength of l1 must be a finite number, not 'x'"),
        ({"penalty": "l1(strength=1e999)"}, "strength of l1 must be a finite number, not '1e999'"),
        ({"penalty": "l1(strength=)"}, "strength of l1 must be a finite number, not ''"),
        ({"penalty": "l1(strength=1,strength=2)"}, "l1 has strength twice: keep one"),
        ({"penalty": "l1(strength=-1)"}, "the L1 penalty needs a strength of at least 0, not -1.0"),
        ({"penalty": "sparsity(target=2)"}, "a sparsity target is a mean activity between 0 and 1, not 2.0"),
        ({"penalty": "l1(strength=1"}, "expected NAME"),
        ({"penalty": ""}, "expected NAME"),
        ({"penalty": ["l1(strength=1)", "l1(strength=2)"]}, "l1 is given twice|names l1 more than once"),
        ({"penalty": "l1(strength=1)", "l1": 0.1}, "the penalty l1 is given twice: keep one"),
    ],
)
def test_what_cannot_be_made_is_refused_before_anything_is_written(
    options: dict[str, Any], said: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=said) as error:
        dbn.pretrain(torch.rand(30, 5), hidden=3, epochs=1, run=tmp_path / "run", **options)
    assert "--" not in str(error.value)
    assert not (tmp_path / "run").exists()


def test_a_named_penalty_trains_as_its_short_option() -> None:
    x = torch.rand(60, 5, generator=rng(0))
    options: Any = {"hidden": 3, "epochs": 2, "batch_size": 20}
    short = dbn.pretrain(x, l1=0.05, max_norm=0.3, **options)
    named = dbn.pretrain(x, penalty=("l1(strength=0.05)", "max_norm(bound=0.3)"), **options)
    assert named.layers[0].weight.equal(short.layers[0].weight)
    assert not named.layers[0].weight.equal(dbn.pretrain(x, **options).layers[0].weight)
