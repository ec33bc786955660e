"""Samples from a stack: chains in its top RBM, a pass downwards, and how far the samples can be trusted."""

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from dbn.arrays import Array, floats
from dbn.errors import InputError, check_types
from dbn.models.dbn import DBN
from dbn.rng import stream
from dbn.sampling.chains import Chains, autocorrelation
from dbn.sampling.parallel_tempering import TemperedChains
from dbn.sampling.persistent_chains import PersistentChains


@final
@dataclass(frozen=True, eq=False)
class Samples:
    """Samples of a stack, with figures on the chains that gave them."""

    rows: Tensor
    """(n, V), scaled as in training."""
    figures: dict[str, float]
    """`chain_autocorrelation`, of states `steps` apart; `effective_samples`, where chains give two samples or more, see
    `effective_number`; `swap_rate` and `swap_rate_lowest` of tempered chains."""


@check_types
@torch.no_grad()
def sample(
    stack: DBN, n: int, chains: Chains | None = None, *, discard: int = 10, draws: bool = False, seed: int = 0
) -> Samples:
    """`n` samples of a stack: states of chains in its top RBM, each followed downwards; the visible means, (n, V).

    chains: tempered by default, `TemperedChains(steps=20, chains=16, temperatures=20)`; or persistent ones, such as
    those of `chains_from`. Each gives a sample every `steps` steps, after `discard` others. draws: draws of the visible
    units in place of their means. InputError for chains that do not persist and for a top RBM without a finite Z.

    >>> from dbn.models import RBM, Bernoulli
    >>> found = sample(DBN([RBM(Bernoulli(4), Bernoulli(3))]), 100)
    >>> found.rows.shape, found.rows[0], found.figures["swap_rate"]
    (torch.Size([100, 4]), tensor([0.5000, 0.5000, 0.5000, 0.5000]), 1.0)
    """
    for what, number in (("samples", n), ("discarded samples", discard)):
        if number < 0:
            raise InputError(f"a number of {what} is at least 0, not {number}")
    chains = TemperedChains(steps=20, chains=16, temperatures=20) if chains is None else chains
    top = stack.layers[-1]
    top.check_partition("top RBM")
    generator = stream(seed, "sample", device=top.weight.device)
    nothing = top.weight.new_zeros(0, top.visible.size), top.weight.new_zeros(0, top.hidden.size)
    for _ in range(discard):
        chains.negatives(top, *nothing, generator)
    chains.metrics()  # those that follow begin here
    states, rows = [], [top.weight.new_zeros(0, stack.sizes[0])]
    for _ in range(-(-n // chains.chains)):
        v = chains.negatives(top, *nothing, generator).states
        if len(v) != chains.chains:
            raise InputError(f"{chains.method} has no chains of its own to sample by: use tempered or persistent ones")
        states.append(v)
        rows.append(stack.down(top.sample_hidden(v, generator), generator, draws=draws))
    figures = chains.metrics()
    if len(states) > 1:
        apart = [autocorrelation(now, then) for then, now in zip(states, states[1:], strict=False)]
        figures["chain_autocorrelation"] = float(torch.stack(apart).mean())
        figures["effective_samples"] = min(effective_number(torch.stack(rows[1:])), float(n))
    return Samples(torch.cat(rows)[:n], figures)


@torch.no_grad()
def chains_from(stack: DBN, start: Array, steps: int = 100, seed: int = 0) -> PersistentChains:
    """Persistent chains in the top RBM that start at data (N, V), one for each row, sampled up through the layers.

    start: as for `DBN.up`. `sample(stack, N, chains, discard=0)` gives each row after `steps` Gibbs steps.
    """
    generator = stream(seed, "where samples start", device=stack.layers[0].weight.device)
    v = stack.sample_up(start, generator)
    chains = PersistentChains(steps, len(v))
    chains.load_state({"v": v, "reference": v})
    return chains


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
