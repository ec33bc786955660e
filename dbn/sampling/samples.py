"""Samples from a stack: chains in its top RBM, a pass downwards, and how far the samples can be trusted."""

from dataclasses import dataclass
from itertools import pairwise
from typing import final

import torch
from torch import Tensor

from dbn.arrays import Array, floats
from dbn.capture import CapturedSteps
from dbn.errors import InputError, check_types
from dbn.models.dbn import DBN
from dbn.models.rbm import RBM
from dbn.rng import stream
from dbn.sampling.chains import Chains, autocorrelation
from dbn.sampling.parallel_tempering import TemperedChains


@final
@dataclass(frozen=True, eq=False)
class Samples:
    """Samples of a stack, with figures on the chains that gave them."""

    rows: Tensor
    """(n, V), scaled as in training."""
    figures: dict[str, float]
    """`chain_autocorrelation`: from data, of the samples with those one step from the start; of chains, of their states
    `steps` apart. `effective_samples`, where chains give several: see `effective_number`. `swap_rate` and
    `swap_rate_lowest` of tempered chains."""


@check_types
@torch.no_grad()
def sample(
    stack: DBN,
    n: int,
    *,
    start: Array | None = None,
    steps: int | None = None,
    chains: Chains | None = None,
    discard: int = 10,
    draws: bool = False,
    seed: int = 0,
) -> Samples:
    """`n` samples of a stack, the means of its visible units or `draws` of them, and how far they can be trusted.

    start: data (n, V) as for `DBN.up`, from each of which a chain makes `steps` Gibbs steps, 100 by default. They show
    what the model knows of the data even where its chains do not mix, and as far as they remain near their starts.
    chains: those that samples are taken from without data: tempered by default, `TemperedChains(steps=20, chains=16,
    temperatures=20)` with `steps` in place of 20, or persistent ones. Each gives a sample every `steps` steps, after
    `discard` others. They sample the model itself, be it like the data or not.
    InputError for chains that do not persist or go with `start`, and for a top RBM without a finite Z.

    >>> from dbn.models import RBM, Bernoulli
    >>> found = sample(DBN([RBM(Bernoulli(4), Bernoulli(3))]), 100)
    >>> found.rows.shape, found.rows[0], found.figures["swap_rate"]
    (torch.Size([100, 4]), tensor([0.5000, 0.5000, 0.5000, 0.5000]), 1.0)
    """
    for what, number in (("samples", n), ("discarded samples", discard)):
        if number < 0:
            raise InputError(f"a number of {what} is at least 0, not {number}")
    if start is not None and chains is not None:
        raise InputError("samples are taken from chains or from data to start from: give one of them")
    if start is None:
        chains = chains or TemperedChains(20 if steps is None else steps, chains=16, temperatures=20)
        return _from_chains(stack, n, chains, discard, draws, seed)
    rows = stack.sample(n, steps=100 if steps is None else steps, start=start, seed=seed, draws=draws)
    first = stack.sample(n, steps=1, start=start, seed=seed, draws=draws)
    return Samples(rows, {"chain_autocorrelation": float(autocorrelation(rows, first))} if n else {})


def _from_chains(stack: DBN, n: int, chains: Chains, discard: int, draws: bool, seed: int) -> Samples:
    top = stack.layers[-1]
    top.check_partition("top RBM")
    generator = stream(seed, "sample", device=top.weight.device)
    sampler = _Sampler(top, chains, generator)
    for _ in range(discard):
        sampler.next()
    chains.metrics()  # those that follow begin here
    states, rows = [], [top.weight.new_zeros(0, stack.sizes[0])]
    for _ in range(-(-n // chains.chains)):
        v = sampler.next()
        if len(v) != chains.chains:
            raise InputError(f"{chains.method} has no chains of its own to sample by: use tempered or persistent ones")
        states.append(v)
        rows.append(stack.samples_given(top.sample_hidden(v, generator), generator, draws=draws))
    figures = chains.metrics()
    if len(states) > 1:
        apart = [autocorrelation(now, then) for then, now in pairwise(states)]
        figures["chain_autocorrelation"] = float(torch.stack(apart).mean())
    if len(states) > 1 and chains.chains > 1:
        figures["effective_samples"] = min(effective_number(torch.stack(rows[1:])), float(n))
    return Samples(torch.cat(rows)[:n], figures)


@final
class _Sampler:
    """States of chains, one call of theirs after another."""

    capturable = True

    def __init__(self, rbm: RBM, chains: Chains, generator: torch.Generator) -> None:
        self.rbm, self.chains, self.generator = rbm, chains, generator
        self.states = rbm.weight.new_zeros(0, rbm.visible.size)
        self.steps = CapturedSteps.of(generator, [chains, self], chains.method)

    def next(self) -> Tensor:
        """(chains, V)."""
        self.steps("", self._take)
        return self.states.clone()  # the next ones may have the same memory

    def _take(self) -> None:
        weight = self.rbm.weight
        nothing = weight.new_zeros(0, self.rbm.visible.size), weight.new_zeros(0, self.rbm.hidden.size)
        self.states = self.chains.negatives(self.rbm, *nothing, self.generator).states


def effective_number(x: Tensor) -> float:
    """How many independent samples tell as much of the mean as those of chains, x (L, C, V): L samples of C chains.

        L·C·var⁺/B,    var⁺ = (1 − 1/L)·W + B/L

    with W the variance within chains and B that of their means times L, both summed over units. L·C on average if
    samples are independent, C if no chain moves. Gelman & Rubin (1992), "Inference from iterative simulation using
    multiple sequences". InputError for fewer than two chains or samples of each.
    """
    length, number = x.shape[:2]
    if length < 2 or number < 2:
        raise InputError(f"an effective number needs two chains and two samples of each, not {number} and {length}")
    x = floats(x)
    within = float(x.var(0).mean(0).sum())
    between = length * float(x.mean(0).var(0).sum())
    pooled = (1 - 1 / length) * within + between / length
    return length * number * (pooled / between if between > 0 else 1.0)
