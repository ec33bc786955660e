"""What a layer brings, by annealing from the one below, against sums over every state of both."""

import copy
import math
from functools import cache

import pytest
import torch
from enumeration import SIZES, Z, draw, joint, marginals, mirrored, randomize, rng, support
from torch import Tensor
from torch.testing import assert_close

from dbn.errors import InputError
from dbn.likelihood.ais import anneal_between
from dbn.likelihood.dbn_bound import layer_bounds
from dbn.likelihood.estimates import Bracket, LogZ, estimate_log_z
from dbn.likelihood.layer_ratio import bridge, can_bridge, gain, layer_ratio
from dbn.models.annealing import Path
from dbn.models.dbn import DBN
from dbn.models.rbm import RBM
from dbn.models.units import UNITS
from dbn.models.units.bernoulli import Bernoulli
from dbn.models.units.gaussian import Gaussian

B, G = "bernoulli", "gaussian"
OUTER = [(2, 2), (1, 2), (2, 1)]
"""Visible units of the lower RBM and hidden units of the upper one."""
STACKS = [(outer, middle, sizes) for outer in (B, G) for middle in (B, G) for sizes in OUTER]

each_stack = pytest.mark.parametrize("stack", STACKS, ids=lambda stack: f"{stack[0]}-{stack[1]}-{stack[2]}")


def make(visible: Bernoulli | Gaussian, hidden: Bernoulli | Gaussian, seed: int) -> RBM:
    rbm = RBM(visible, hidden).double()
    randomize(rbm, seed)
    bounded = B in (visible.kind, hidden.kind)
    with torch.no_grad():
        rbm.weight.mul_(2.0 if bounded else 0.5)
    return rbm.requires_grad_(False)


@cache
def pair(stack: tuple[str, str, tuple[int, int]]) -> tuple[RBM, RBM, float]:
    """A lower and an upper RBM, and log Z of the upper less that of the lower."""
    outer, middle, (n_lower, n_upper) = stack
    lower = make(UNITS[outer](n_lower), UNITS[middle](SIZES[middle]), seed=1)
    upper = make(UNITS[middle](SIZES[middle]), UNITS[outer](n_upper), seed=2)
    return lower, upper, log_z(upper) - log_z(lower)


@torch.no_grad()
def log_z(rbm: RBM) -> float:
    return float(joint(rbm)[2].flatten().logsumexp(0))


def exact_starts(lower: RBM, upper: RBM, n: int, seed: int) -> tuple[Tensor, Tensor]:
    generator = rng(seed)
    return draw(*marginals(lower)[1], n, generator), draw(*marginals(upper)[0], n, generator)


def run(stack: tuple[str, str, tuple[int, int]], reverse: bool, count: int, n: int, seed: int) -> Tensor:
    """Log-weights less the truth, 0 on average as weights, from exact starts."""
    lower, upper, truth = pair(stack)
    path, padding = bridge(lower, upper)
    start = exact_starts(lower, upper, n, seed)[reverse]
    betas = torch.linspace(0, 1, count, dtype=torch.float64)
    return anneal_between(path, betas, start, rng(seed + 1), reverse=reverse).log_weights - padding - truth


@each_stack
def test_the_ends_of_the_path_are_the_two_layers(stack: tuple[str, str, tuple[int, int]]) -> None:
    lower, upper, truth = pair(stack)
    path, padding = bridge(lower, upper)
    h = support(upper.visible)[0]
    for end, layer in ((0.0, mirrored(lower)), (1.0, upper)):
        apart = path.at(end).free_energy(h) - layer.free_energy(h)
        assert_close(apart, apart[:1].expand_as(apart), rtol=0, atol=1e-9)
    assert_close(log_z(path.rbm) - log_z(path.base) - padding, truth, rtol=0, atol=1e-6)


@each_stack
@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
@pytest.mark.parametrize("count", [2, 12])
def test_the_weights_are_unbiased_for_the_ratio(
    stack: tuple[str, str, tuple[int, int]], reverse: bool, count: int
) -> None:
    off = run(stack, reverse, count, 20_000, seed=3)
    weights = (-off if reverse else off).exp()
    error = float(weights.std()) / len(weights) ** 0.5
    assert error < 0.06
    assert abs(float(weights.mean()) - 1) < Z * error


@each_stack
@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
def test_intervals_of_the_ratio_hold_the_truth_as_often_as_they_say(
    stack: tuple[str, str, tuple[int, int]], reverse: bool
) -> None:
    trials, chains = 100, 200
    off = run(stack, reverse, 40, trials * chains, seed=4)
    weights = (-off if reverse else off).exp().view(trials, chains)
    scores = (weights.mean(1) - 1) / (weights.std(1) / chains**0.5)
    assert (scores.abs() <= 3).sum() >= 97
    assert 0.8 < float(scores.std()) < 1.25


@torch.no_grad()
def exact_differences(lower: RBM, upper: RBM, x: Tensor) -> Tensor:
    """E_q[F^h(h) − F(h)] by a sum over h, (B,)."""
    h, log_weight = support(upper.visible)
    field = x @ lower.weight.T
    log_q = field @ h.T - lower.hidden.energy(h) + log_weight
    return log_q.softmax(1) @ (mirrored(lower).free_energy(h) - upper.free_energy(h))


@pytest.mark.parametrize(
    "stack",
    [pytest.param((B, B, sizes), marks=() if sizes == (1, 2) else pytest.mark.slow) for sizes in OUTER],
    ids=lambda stack: str(stack[2]),
)
def test_the_interval_of_a_gain_holds_the_exact_one(stack: tuple[str, str, tuple[int, int]]) -> None:
    """Rows, draws of q and chains are all new in each of 100 trials."""
    lower, upper, truth = pair(stack)
    states = support(lower.visible)[0]
    exact = float(exact_differences(lower, upper, states).mean()) - truth
    generator, betas = rng(5), torch.linspace(0, 1, 20, dtype=torch.float64)
    held, middle = 0, []
    for seed in range(100):
        x = draw(states, torch.ones(len(states)), 300, generator)
        terms = layer_bounds(DBN([lower, upper]), x, generator, samples=2)
        starts = exact_starts(lower, upper, 150, seed)
        found = gain(terms[1] - terms[0], layer_ratio(lower, upper, betas, starts, generator, exact_starts=True))
        held += found.interval[0] <= exact <= found.interval[1]
        middle.append(found.mean)
        assert found.interval[0] < found.mean < found.interval[1]
    assert held >= 97
    error = torch.tensor(middle).std() / 10
    assert abs(torch.tensor(middle).mean() - exact) < Z * error


@pytest.mark.parametrize("more", [0, 3])
@pytest.mark.parametrize("kinds", [(B, B), (B, G), (G, B), (G, G)], ids="-".join)
def test_a_layer_that_mirrors_the_one_below_brings_nothing(kinds: tuple[str, str], more: int) -> None:
    outer, middle = kinds
    lower = make(UNITS[outer](2), UNITS[middle](SIZES[middle]), seed=6)
    upper = RBM(UNITS[middle](SIZES[middle]), UNITS[outer](2 + more)).double().requires_grad_(False)
    randomize(upper.hidden, 7)
    upper.init_from_transpose(lower)
    generator = rng(8)
    x = lower.sample_visible(torch.zeros(50, SIZES[middle], dtype=torch.float64), generator)
    terms = layer_bounds(DBN([lower, upper]), x, generator)
    h = lower.sample_hidden(x, generator)
    found = gain(terms[1] - terms[0], layer_ratio(lower, upper, torch.linspace(0, 1, 9), (h, h), generator))
    assert_close(
        torch.tensor([found.mean, found.forward, found.reverse, *found.interval]), torch.zeros(5), atol=1e-6, rtol=0
    )


@each_stack
@torch.no_grad()
def test_one_step_weighs_a_state_by_its_two_free_energies(stack: tuple[str, str, tuple[int, int]]) -> None:
    lower, upper, _ = pair(stack)
    starts = exact_starts(lower, upper, 30, seed=9)
    found = layer_ratio(lower, upper, torch.tensor([0.0, 1.0]), starts, rng())
    there, back = (mirrored(lower).free_energy(h) - upper.free_energy(h) for h in starts)
    assert found.forward.log_z == pytest.approx(float(there.logsumexp(0)) - math.log(30))
    assert found.reverse.log_z == pytest.approx(math.log(30) - float((-back).logsumexp(0)))
    assert found.difference == found.reverse.log_z - found.forward.log_z
    assert found.bounds is None
    exact = layer_ratio(lower, upper, torch.tensor([0.0, 1.0]), starts, rng(), exact_starts=True)
    assert exact.bounds == (exact.forward.lower, exact.reverse.upper)


def ratio(forward: LogZ, reverse: LogZ) -> Bracket:
    return Bracket(forward, reverse, None, reverse.log_z - forward.log_z, [])


def test_a_gain_by_hand() -> None:
    """Rows 10 and 12: mean 11, standard error 1. The ratio lies midway, at 8, and its ends at 4 and 12."""
    found = gain(torch.tensor([10.0, 12.0]), ratio(LogZ(7.0, 4.0, 9.0, 50.0), LogZ(9.0, 8.0, 12.0, 50.0)))
    assert (found.mean, found.standard_error, found.forward, found.reverse) == pytest.approx((3.0, 1.0, 4.0, 2.0))
    assert found.interval == pytest.approx((-2.0, 8.0))
    crossed = gain(torch.tensor([10.0, 12.0]), ratio(LogZ(9.0, 8.0, 12.0, 50.0), LogZ(7.0, 4.0, 9.0, 50.0)))
    assert crossed.interval == found.interval
    open_end = gain(torch.tensor([10.0, 12.0]), ratio(LogZ(7.0, -math.inf, 9.0, 1.0), LogZ(9.0, 8.0, 12.0, 50.0)))
    assert open_end.interval == pytest.approx((-2.0, math.inf))
    assert gain(torch.tensor([10.0]), ratio(LogZ(7.0, 4.0, 9.0, 1.0), LogZ(9.0, 8.0, 12.0, 5.0))).interval == (
        -math.inf,
        math.inf,
    )


def test_layers_far_apart_disagree_and_say_so() -> None:
    """Two modes each, at opposite places, and chains that cannot cross."""
    lower = RBM(Bernoulli(8), Bernoulli(8)).double().requires_grad_(False)
    upper = copy.deepcopy(lower)
    for rbm, weight in ((lower, 6.0), (upper, 6.0)):
        rbm.weight.fill_(weight)
        rbm.visible.bias.fill_(-24.0)
        rbm.hidden.bias.fill_(-24.0)
    upper.visible.bias.add_(2.0)
    lower.hidden.bias.sub_(2.0)
    starts = torch.zeros(50, 8, dtype=torch.float64), torch.ones(50, 8, dtype=torch.float64)
    found = layer_ratio(lower, upper, torch.linspace(0, 1, 5), starts, rng())
    assert found.difference > 1
    assert any("estimate of the ratio of two Z differ by" in warning for warning in found.warnings)


def test_the_bridge_leaves_both_layers_alone() -> None:
    lower, upper, _ = pair((B, B, (1, 2)))
    before = [copy.deepcopy(rbm.state_dict()) for rbm in (lower, upper)]
    path, _ = bridge(lower, upper)
    for rbm in (path.base, path.rbm):
        for parameter in rbm.parameters():
            parameter.fill_(7.0)
    assert_close([dict(rbm.state_dict()) for rbm in (lower, upper)], [dict(each) for each in before], rtol=0, atol=0)


def test_single_precision_gives_the_ratio_of_double() -> None:
    lower, upper, _ = pair((B, G, (1, 2)))
    starts = exact_starts(lower, upper, 40, seed=10)
    single = [copy.deepcopy(rbm).float() for rbm in (lower, upper)]
    two = torch.tensor([0.0, 1.0])
    assert_close(
        layer_ratio(*single, two, starts, rng())[:2],
        layer_ratio(lower, upper, two, starts, rng())[:2],
        rtol=0,
        atol=1e-4,
    )


def test_units_of_another_kind_have_no_path() -> None:
    lower, upper = RBM(Gaussian(2), Bernoulli(3)), RBM(Bernoulli(3), Bernoulli(2))
    assert not can_bridge(lower, upper)
    assert can_bridge(RBM(Gaussian(2), Bernoulli(3)), RBM(Bernoulli(3), Gaussian(5)))
    with pytest.raises(InputError, match="from gaussian visible units to bernoulli hidden units two layers up"):
        bridge(lower, upper)


def test_layers_that_do_not_meet_have_no_path() -> None:
    with pytest.raises(InputError, match="a path cannot lead from 3 bernoulli and 2 bernoulli"):
        bridge(RBM(Bernoulli(2), Bernoulli(3)), RBM(Bernoulli(4), Bernoulli(2)))


def test_a_summary_of_the_path_is_the_ratio_plus_the_padding() -> None:
    lower, upper, _ = pair((B, B, (1, 2)))
    starts = exact_starts(lower, upper, 40, seed=11)
    path, padding = bridge(lower, upper)
    assert isinstance(path, Path)
    betas = torch.linspace(0, 1, 5)
    alone = estimate_log_z(anneal_between(path, betas, starts[0], rng(12)))
    found = layer_ratio(lower, upper, betas, starts, rng(12)).forward
    assert found.log_z == pytest.approx(alone.log_z - padding)
