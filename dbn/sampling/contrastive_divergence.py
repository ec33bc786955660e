"""Contrastive divergence: chains that start at the data."""

from typing import final

import torch
from torch import Tensor

from dbn.models.rbm import RBM
from dbn.sampling.chains import NegativeSamples, check_steps


@final
class DataChains:
    """CD-k: chains that start at the data and take `steps` Gibbs steps. Hinton (2002).

    With `mean_last` the last visible step gives probabilities in place of a sample (Hinton 2010, section 3.2).
    Left out, that is done where every learned visible statistic is linear, so that a mean loses none of them. A
    learned precision would lose its variance and run away.
    """

    def __init__(self, steps: int, mean_last: bool | None = None) -> None:
        check_steps("contrastive divergence", steps)
        self.steps = steps
        self.mean_last = mean_last

    @torch.no_grad()
    def negatives(self, rbm: RBM, data: Tensor, hidden_field: Tensor, generator: torch.Generator) -> NegativeSamples:
        """k steps from the data, (B, V)."""
        h = rbm.hidden.sample(hidden_field, generator)
        for _ in range(self.steps - 1):
            h = rbm.sample_hidden(rbm.sample_visible(h, generator), generator)
        mean_last = rbm.visible.linear_statistics if self.mean_last is None else self.mean_last
        return NegativeSamples(rbm.down(h) if mean_last else rbm.sample_visible(h, generator))

    def metrics(self) -> dict[str, float]:
        """Nothing."""
        return {}

    def state(self) -> dict[str, Tensor]:
        """Nothing: every step starts from data."""
        return {}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Nothing to take back."""
