"""Markov chains that give the negative samples of the likelihood gradient.

Chains that persist follow the model while it learns, so they must mix faster than it changes. Their states are samples,
never means.
"""

from abc import ABC, abstractmethod
from typing import NamedTuple

import torch
from torch import Tensor

from dbn.arrays import floats
from dbn.errors import InputError
from dbn.models.rbm import RBM


class NegativeSamples(NamedTuple):
    """Visible states of the chains."""

    states: Tensor
    """v, (N, V)."""
    field: Tensor | None = None
    """W v, (N, H), where the chains have computed it."""
    data_hidden: dict[str, Tensor] | None = None
    """E[T(h) | v] of the data by name, each (B, H), where the chains have computed them to start from."""


class Chains(ABC):
    """A source of negative samples; a new one is a subclass and a line in `CHAINS`. InputError for no step or chain."""

    method = "sampling"
    """In error messages."""
    paired = False
    """Whether chain i has started at row i of the batch, whose weight it then carries."""
    capturable = False
    """Whether what persists between calls is tensors alone, in attributes or in dictionaries there: calls may then be
    replayed as a CUDA graph."""

    def __init__(self, steps: int = 1, chains: int = 1) -> None:
        for what, number in (("Gibbs step", steps), ("chain", chains)):
            if number < 1:
                raise InputError(f"{self.method} needs at least one {what}, not {number}")
        self.steps = steps
        """Gibbs steps per gradient; may be changed at any time."""
        self.chains = chains
        self._kept: dict[str, Tensor] = {}

    @abstractmethod
    def negatives(self, rbm: RBM, data: Tensor, hidden_field: Tensor, generator: torch.Generator) -> NegativeSamples:
        """States after `steps` Gibbs steps. data: (B, V); hidden_field: their W v, (B, H)."""

    def metrics(self) -> dict[str, float]:
        """`chain_autocorrelation` of persistent chains with those at the last call, at first their start.

        Only here do numbers leave the device.
        """
        if "reference" not in self._kept:
            return {}
        then = self._kept["reference"]
        now = self._kept["reference"] = self._kept["v"][-len(then) :]
        return {"chain_autocorrelation": float(autocorrelation(now, then.to(now)))}

    def state(self) -> dict[str, Tensor]:
        """What is kept between steps: of persistent chains `v` and `reference`, their states now and at the last
        `metrics`, and more."""
        return dict(self._kept)

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Restore a `state`."""
        self._kept = dict(state)


def autocorrelation(now: Tensor, then: Tensor) -> Tensor:
    """The concordance correlation of states x = `now` with y = `then`, both (N, V): a scalar in −1 … 1.

        1 − Σ_n |x_n − y_n|² / (1/N) Σ_n Σ_m |x_n − y_m|² = 2 cov(x, y) / (var x + var y + |x̄ − ȳ|²)

    summed over units, each weighted by its variance. 1 if no chain has moved; 0 on average if the chains are
    independent of their past: a chain is then as far from its own past as from that of any other.

    Lin (1989), "A concordance correlation coefficient to evaluate reproducibility".
    """
    now, then = floats(now), floats(then)
    moved = (now - then).square().mean(0).sum()
    apart = (now.var(0, correction=0) + then.var(0, correction=0) + (now.mean(0) - then.mean(0)).square()).sum()
    return torch.where(moved > 0, 1 - moved / apart, 1.0)


def at_field_zero(rbm: RBM, n: int, generator: torch.Generator) -> Tensor:
    """Samples of the visible units at field 0, (n, V)."""
    return rbm.visible.sample(rbm.weight.new_zeros(n, rbm.visible.size), generator)


def fix_gauge(rbm: RBM, kept: RBM, chains: Chains) -> None:
    """`RBM.fix_gauge` of both, which may be one: weights of one-hot groups that share a part do not grow by it."""
    fixed = [each.fix_gauge() for each in {id(each): each for each in (rbm, kept)}.values()]
    if any(fixed) and "field" in (state := chains.state()):  # W v of lagged chains
        chains.load_state(state | {"field": rbm.hidden_field(state["v"])})
