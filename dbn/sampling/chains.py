"""Where the negative samples of the likelihood gradient come from.

A source of negatives has `negatives(rbm, data, hidden_field, generator)`, which gives visible states after `steps`
Gibbs steps; `steps` may be changed at any time. `metrics()` is what it can tell of itself, and
`state()`/`load_state()` the tensors that must survive an interruption. A new one is a class and a line in `CHAINS`.

Chains that persist follow the model while it is learned, so they must move faster than it changes. Their states are
samples, never means.
"""

from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from dbn.errors import InputError
from dbn.models.rbm import RBM


class NegativeSamples(NamedTuple):
    """What chains have come to."""

    states: Tensor
    """v, (N, V)."""
    field: Tensor | None = None
    """W v, (N, H), of chains that need it themselves."""


class Chains(Protocol):
    """A source of negative samples."""

    steps: int

    def negatives(self, rbm: RBM, data: Tensor, hidden_field: Tensor, generator: torch.Generator) -> NegativeSamples:
        """`hidden_field` is W v of the data, which the caller has computed already."""
        ...

    def metrics(self) -> dict[str, float]:
        """What happened since the last call; only here do numbers leave the device."""
        ...

    def state(self) -> dict[str, Tensor]:
        """What must be kept between steps."""
        ...

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Take back what `state` gave."""
        ...


def autocorrelation(now: Tensor, then: Tensor) -> Tensor:
    """How much of the states y = `then` is left in x = `now`, both (N, V): a scalar in −1 … 1.

        1 − Σ_n |x_n − y_n|² / (1/N) Σ_n Σ_m |x_n − y_m|² = 2 cov(x, y) / (var x + var y + |x̄ − ȳ|²)

    summed over units, so that each counts by its variance. 1 if no chain has moved; 0 on average if the chains are
    independent of what they were, since a chain is then as far from its own past as from that of any other.

    Lin (1989), "A concordance correlation coefficient to evaluate reproducibility".
    """
    moved = (now - then).square().mean(0).sum()
    apart = (now.var(0, correction=0) + then.var(0, correction=0) + (now.mean(0) - then.mean(0)).square()).sum()
    return torch.where(moved > 0, 1 - moved / apart, 1.0)


def at_field_zero(rbm: RBM, n: int, generator: torch.Generator) -> Tensor:
    """States of the visible units that no hidden unit acts on, (n, V)."""
    return rbm.visible.sample(rbm.weight.new_zeros(n, rbm.visible.size), generator)


def check_steps(what: str, steps: int) -> None:
    """InputError for no Gibbs step."""
    if steps < 1:
        raise InputError(f"{what} needs at least one Gibbs step, not {steps}")


def check_chains(what: str, chains: int) -> None:
    """InputError for no chain."""
    if chains < 1:
        raise InputError(f"{what} needs at least one chain, not {chains}")
