"""Chains that start exactly at p(v) stay there, and the check that says so notices chains that do not."""

from collections.abc import Callable

import pytest
import torch
from enumeration import CHANCE, PAIRS, SIZES, Z, draw, histogram_chance, make_rbm, marginals, rng, z_scores
from torch import Tensor
from torch.testing import assert_close

from dbn.chains import CHAINS, DataChains
from dbn.rbm import RBM
from dbn.units import Bernoulli

Kernel = Callable[[RBM, Tensor, torch.Generator], Tensor]

each_pair = pytest.mark.parametrize(("visible", "hidden"), PAIRS)


def gibbs(rbm: RBM, v: Tensor, generator: torch.Generator) -> Tensor:
    with torch.no_grad():
        return rbm.gibbs(v, 5, generator)


def data_chains(rbm: RBM, v: Tensor, generator: torch.Generator) -> Tensor:
    with torch.no_grad():
        return DataChains(3, mean_last=False).negatives(rbm, v, rbm.hidden_field(v), generator)


def stays(rbm: RBM, kernel: Kernel, n: int = 40_000) -> bool:
    """Whether chains started at p(v) are still there, by their moments and, where binary, by their histogram.

    Real units start on the grid of the quadrature, which is as good as a density: a step from there is an
    integral by the trapezoid rule, so after one step the distribution is p(v) to rounding.
    """
    (states, p), _ = marginals(rbm)
    generator = rng(1)
    v = kernel(rbm, draw(states, p, n, generator), generator)
    binary = isinstance(rbm.visible, Bernoulli)
    return bool(z_scores(v, states, p).abs().max() < Z) and (not binary or histogram_chance(v, p) > CHANCE)


@each_pair
@pytest.mark.parametrize("kernel", [gibbs, data_chains])
def test_chains_started_at_the_distribution_stay_there(visible: str, hidden: str, kernel: Kernel) -> None:
    assert stays(make_rbm(visible, hidden), kernel)


def biased_visible(rbm: RBM, v: Tensor, generator: torch.Generator) -> Tensor:
    h = rbm.sample_hidden(v, generator)
    return rbm.visible.sample(rbm.visible_field(h) + 0.1, generator)


def scaled_hidden(rbm: RBM, v: Tensor, generator: torch.Generator) -> Tensor:
    return rbm.sample_visible(rbm.hidden.sample(1.5 * rbm.hidden_field(v), generator), generator)


def transposed_weight(rbm: RBM, v: Tensor, generator: torch.Generator) -> Tensor:
    return rbm.visible.sample(rbm.sample_hidden(v, generator) @ rbm.weight.T, generator)


def mean_hidden(rbm: RBM, v: Tensor, generator: torch.Generator) -> Tensor:
    return rbm.sample_visible(rbm.up(v), generator)


def noiseless(rbm: RBM, v: Tensor, generator: torch.Generator) -> Tensor:
    return rbm.down(rbm.sample_hidden(v, generator))


BROKEN = [
    (step, *pair)
    for step in (biased_visible, scaled_hidden, mean_hidden, noiseless, transposed_weight)
    for pair in PAIRS
    if step is not transposed_weight or SIZES[pair[0]] == SIZES[pair[1]]
]


@pytest.mark.parametrize(("step", "visible", "hidden"), BROKEN)
def test_a_broken_kernel_is_noticed(step: Kernel, visible: str, hidden: str) -> None:
    rbm = make_rbm(visible, hidden)

    @torch.no_grad()
    def kernel(rbm: RBM, v: Tensor, generator: torch.Generator) -> Tensor:
        for _ in range(5):
            v = step(rbm, v, generator)
        return v

    assert not stays(rbm, kernel)


def spreading_rbm(size: int) -> RBM:
    """Saturated, so that nothing is random: v_i turns on h_i, which turns on v_i and v_{i+1}: one unit a step."""
    rbm = RBM(Bernoulli(size), Bernoulli(size))
    with torch.no_grad():
        rbm.weight.copy_(200 * (torch.eye(size) + torch.eye(size).roll(1, 1).triu()))
        rbm.visible.bias.fill_(-100.0)
        rbm.hidden.bias.fill_(-100.0)
    return rbm


@pytest.mark.parametrize("steps", [1, 2, 3, 5])
@pytest.mark.parametrize("mean_last", [None, True, False])
def test_contrastive_divergence_takes_exactly_k_steps(steps: int, mean_last: bool | None) -> None:
    rbm = spreading_rbm(8)
    data = torch.eye(8)[:1]
    v = DataChains(steps, mean_last).negatives(rbm, data, rbm.hidden_field(data), rng())
    assert v.tolist() == [[1.0] * (steps + 1) + [0.0] * (7 - steps)]
    assert torch.equal(rbm.gibbs(data, steps, rng()), v)


def test_the_hidden_field_given_is_the_one_used() -> None:
    rbm = spreading_rbm(4)
    data, other = torch.eye(4)[:1], torch.eye(4)[2:3]
    v = DataChains(1).negatives(rbm, data, rbm.hidden_field(other), rng())
    assert v.tolist() == [[0.0, 1.0, 1.0, 1.0]]


@each_pair
@pytest.mark.parametrize(
    ("mean_last", "means"),
    [
        (None, {"bernoulli": True, "gaussian": False}),
        (True, dict.fromkeys(("bernoulli", "gaussian"), True)),
        (False, dict.fromkeys(("bernoulli", "gaussian"), False)),
    ],
)
def test_the_last_visible_step_gives_means_only_where_they_carry_every_statistic(
    visible: str, hidden: str, mean_last: bool | None, means: dict[str, bool]
) -> None:
    rbm = make_rbm(visible, hidden)
    data = torch.rand(20, rbm.visible.size, dtype=torch.float64, generator=rng(2))
    v = DataChains(1, mean_last).negatives(rbm, data, rbm.hidden_field(data), rng(3))
    generator = rng(3)
    h = rbm.sample_hidden(data, generator)
    assert_close(v, rbm.down(h) if means[visible] else rbm.sample_visible(h, generator), rtol=0, atol=0)
    assert not v.requires_grad


@each_pair
def test_negatives_follow_the_generator(visible: str, hidden: str) -> None:
    rbm = make_rbm(visible, hidden)
    data = torch.rand(20, rbm.visible.size, dtype=torch.float64, generator=rng(2))
    first, again, other = (DataChains(2).negatives(rbm, data, rbm.hidden_field(data), rng(seed)) for seed in (4, 4, 5))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("steps", [0, -1])
def test_less_than_one_step_is_refused(steps: int) -> None:
    with pytest.raises(ValueError, match=f"at least one Gibbs step, not {steps}"):
        DataChains(steps)


def test_the_table_makes_chains_of_that_many_steps_that_keep_nothing() -> None:
    chains = CHAINS["cd"](3)
    assert isinstance(chains, DataChains)
    assert chains.steps == 3
    assert chains.state() == {}
