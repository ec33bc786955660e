"""Where the negative samples of the likelihood gradient come from.

A source of negatives has `negatives(rbm, data, hidden_field, generator)`, which gives visible states (N, V), and
`state()`/`load_state()` with the tensors that must survive an interruption. A new one is a class and a line in
`CHAINS`.
"""

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from dbn.errors import InputError
from dbn.rbm import RBM


class Chains(Protocol):
    """A source of negative samples."""

    def negatives(self, rbm: RBM, data: Tensor, hidden_field: Tensor, generator: torch.Generator) -> Tensor:
        """Visible states (N, V); `hidden_field` is W v of the data, which the caller has computed already."""
        ...

    def state(self) -> dict[str, Tensor]:
        """What must be kept between steps."""
        ...

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Take back what `state` gave."""
        ...


class DataChains:
    """CD-k: chains that start at the data and take `steps` Gibbs steps. Hinton (2002).

    With `mean_last` the last visible step gives probabilities in place of a sample (Hinton 2010, section 3.2).
    Left out, that is done exactly where it leaves the gradient unbiased given h: where every learned visible
    statistic is linear. A learned precision would lose its variance and run away.
    """

    def __init__(self, steps: int, mean_last: bool | None = None) -> None:
        if steps < 1:
            raise InputError(f"contrastive divergence needs at least one Gibbs step, not {steps}")
        self.steps = steps
        self.mean_last = mean_last

    @torch.no_grad()
    def negatives(self, rbm: RBM, data: Tensor, hidden_field: Tensor, generator: torch.Generator) -> Tensor:
        """k steps from the data, (B, V)."""
        h = rbm.hidden.sample(hidden_field, generator)
        for _ in range(self.steps - 1):
            h = rbm.sample_hidden(rbm.sample_visible(h, generator), generator)
        mean_last = rbm.visible.linear_statistics if self.mean_last is None else self.mean_last
        return rbm.down(h) if mean_last else rbm.sample_visible(h, generator)

    def state(self) -> dict[str, Tensor]:
        """Nothing: every step starts from data."""
        return {}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Nothing to take back."""


CHAINS: dict[str, Callable[[int], Chains]] = {"cd": DataChains}
"""Every estimator by its name on the command line; each is made from the number of Gibbs steps."""
