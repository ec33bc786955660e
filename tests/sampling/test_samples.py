"""Samples of a stack: tempered chains find both modes where Gibbs chains stay in one, and figures say which did."""

import math

import pytest
import torch
from enumeration import Z, make_stack, marginals, rng
from torch import Tensor
from torch.testing import assert_close

from dbn.errors import InputError
from dbn.models.dbn import DBN
from dbn.models.rbm import RBM
from dbn.models.units import Bernoulli
from dbn.sampling import (
    DataChains,
    PersistentChains,
    TemperedChains,
    autocorrelation,
    effective_number,
    sample,
)

B, G = "bernoulli", "gaussian"
CHAINS, ROUNDS = 100, 20


def bimodal() -> RBM:
    """Six units that are nearly all 0 or nearly all 1; a Gibbs chain leaves a mode once in 10⁵ steps."""
    rbm = RBM(Bernoulli(6), Bernoulli(2)).double()
    with torch.no_grad():
        rbm.weight.copy_(torch.tensor([[4.0], [-4.0]]).expand(2, 6))
        rbm.hidden.bias.copy_(torch.tensor([-11.0, 12.0]))
    return rbm


def gibbs_from(start: Tensor, steps: int = 5) -> PersistentChains:
    chains = PersistentChains(steps, len(start))
    chains.load_state({"v": start.double(), "reference": start.double()})
    return chains


def by_chain(rows: Tensor, of: Tensor) -> tuple[Tensor, Tensor]:
    """The share of rows that are the state `of` in each chain, as mean and standard error over chains."""
    shares = (rows == of).all(1).double().view(-1, CHAINS).mean(0)
    return shares.mean(), shares.std() / math.sqrt(CHAINS)


def test_tempered_chains_have_the_frequencies_of_both_modes_and_gibbs_chains_do_not() -> None:
    stack = DBN([bimodal()])
    (states, p), _ = marginals(stack.layers[0])
    tempered = sample(stack, CHAINS * ROUNDS, chains=TemperedChains(5, CHAINS, 10), draws=True)
    chosen = p * CHAINS * ROUNDS > 100
    assert {0, 63} <= set(chosen.nonzero().flatten().tolist())
    for state, exact in zip(states[chosen], p[chosen], strict=True):
        share, error = by_chain(tempered.rows, state)
        assert abs(share - exact) < Z * error
    gibbs = sample(stack, CHAINS * ROUNDS, chains=gibbs_from(torch.zeros(CHAINS, 6)), draws=True)
    share, _ = by_chain(gibbs.rows, states[63])
    assert share < 0.1 < p[63] / 5
    assert tempered.figures["swap_rate_lowest"] > 0.3
    assert tempered.figures["effective_samples"] > 5 * CHAINS


def test_few_effective_samples_say_that_chains_stay_where_they_are() -> None:
    """Half of the chains in either mode."""
    stack = DBN([bimodal()])
    start = (torch.arange(CHAINS) % 2)[:, None].expand(-1, 6)
    found = sample(stack, CHAINS * ROUNDS, chains=gibbs_from(start))
    assert found.figures["effective_samples"] < 1.2 * CHAINS
    assert found.figures["chain_autocorrelation"] > 0.8


def test_samples_repeat_by_seed() -> None:
    stack = make_stack((B, G, B))
    first, again, other = (sample(stack, 40, discard=1, draws=True, seed=seed).rows for seed in (3, 3, 4))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    x = torch.zeros(9, 3)
    first, again, other = (sample(stack, 9, start=x, steps=2, seed=seed).rows for seed in (3, 3, 4))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("kinds", [(B, B), (G, B), (B, B, G)])
def test_rows_are_means_or_draws_of_the_visible_units(kinds: tuple[str, ...]) -> None:
    stack, n = make_stack(kinds), 4000
    chains = {"chains": 200, "steps": 5}
    means = sample(stack, n, chains=PersistentChains(**chains), seed=1).rows
    draws = sample(stack, n, chains=PersistentChains(**chains), seed=2, draws=True).rows
    if kinds[0] == B:
        assert set(draws.unique().tolist()) == {0.0, 1.0}
    assert means.var() < draws.var()
    error = (means.var(0) + draws.var(0)).div(n).sqrt() * 2  # samples of a chain are correlated
    assert ((means.mean(0) - draws.mean(0)).abs() < Z * error).all()


def test_samples_from_data_are_those_of_the_plain_chain_and_their_autocorrelation_is_with_the_start() -> None:
    stack, x = make_stack((B, G, B)), torch.randint(0, 2, (50, 3), generator=rng()).double()
    found = sample(stack, 50, start=x, steps=7, seed=5)
    assert torch.equal(found.rows, stack.sample(50, steps=7, start=x, seed=5))
    first = stack.sample(50, steps=1, start=x, seed=5)
    assert found.figures == {"chain_autocorrelation": float(autocorrelation(found.rows, first))}
    stuck = DBN([bimodal()])
    starts = (torch.arange(50) % 2)[:, None].expand(-1, 6)
    assert sample(stuck, 50, start=starts).figures["chain_autocorrelation"] > 0.9


def test_the_number_of_samples_need_not_divide_into_chains() -> None:
    stack = make_stack((B, B))
    assert sample(stack, 21, discard=0).rows.shape == (21, 3)
    assert sample(stack, 0).rows.shape == (0, 3)


def test_effective_numbers_of_known_chains() -> None:
    """n if independent, the number of chains if they stand still, n(1 − ρ)/(1 + ρ) for an AR(1) process."""
    length, number, width, rho = 400, 50, 40, 0.6
    noise = torch.randn(length, number, width, generator=rng(1), dtype=torch.float64)
    # B has number − 1 degrees of freedom for each of the units.
    tolerance = Z * math.sqrt(2 / ((number - 1) * width))
    assert effective_number(noise) == pytest.approx(length * number, rel=tolerance)
    assert effective_number(noise[:1].expand(length, -1, -1)) == pytest.approx(number)
    x = [noise[0]]
    for each in noise[1:]:
        x.append(rho * x[-1] + math.sqrt(1 - rho**2) * each)
    wanted = length * number * (1 - rho) / (1 + rho)
    assert effective_number(torch.stack(x)) == pytest.approx(wanted, rel=tolerance + 2 / length / (1 - rho) ** 2)


def test_what_cannot_be_sampled_is_refused() -> None:
    stack = make_stack((B, B))
    for call, error in (
        (lambda: sample(stack, -1), "a number of samples is at least 0, not -1"),
        (lambda: sample(stack, 1, discard=-2), "a number of discarded samples is at least 0, not -2"),
        (lambda: sample(stack, 4, chains=DataChains()), "contrastive divergence has no chains of its own"),
        (lambda: sample(stack, 1, start=torch.zeros(1, 3), chains=PersistentChains()), "give one of them"),
        (lambda: effective_number(torch.zeros(1, 5, 2)), "two chains and two samples of each, not 5 and 1"),
    ):
        with pytest.raises(InputError, match=error):
            call()


def test_seeds_and_draws_of_the_plain_chain() -> None:
    stack = make_stack((B, G, B))
    assert torch.equal(stack.sample(4, steps=3), stack.sample(4, steps=3, seed=0))
    assert not torch.equal(stack.sample(4, steps=3, seed=1), stack.sample(4, steps=3, seed=0))
    draws = stack.sample(200, steps=3, draws=True)
    assert set(draws.unique().tolist()) == {0.0, 1.0}
    assert_close(draws.mean(0), stack.sample(200, steps=3).mean(0), rtol=0, atol=Z * math.sqrt(0.5 / 200))
