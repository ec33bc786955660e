"""Contrastive divergence: chains started at the data."""

from typing import final

import torch
from torch import Tensor

from dbn.arrays import without_gradients
from dbn.models.rbm import Harmonium
from dbn.sampling.chains import Chains, NegativeSamples


@final
class DataChains(Chains):
    """CD-k: chains that start at the data and take `steps` Gibbs steps. Hinton (2002).

    mean_last: whether the last visible step gives means in place of a sample (Hinton 2010, section 3.2); by default
    where every learned visible statistic is linear. A learned precision would lose its variance and diverge.

    >>> from dbn.models import RBM, Bernoulli
    >>> rbm, v, generator = RBM(Bernoulli(4), Bernoulli(3)), torch.ones(2, 4), torch.Generator()
    >>> DataChains(steps=1).negatives(rbm, v, rbm.hidden_field(v), generator).states[0]
    tensor([0.5000, 0.5000, 0.5000, 0.5000])
    """

    method = "contrastive divergence"
    paired = True
    capturable = True

    def __init__(self, steps: int = 1, mean_last: bool | None = None) -> None:
        super().__init__(steps)
        self.mean_last = mean_last

    @without_gradients
    def negatives(
        self, rbm: Harmonium, data: Tensor, hidden_field: Tensor, generator: torch.Generator
    ) -> NegativeSamples:
        """k steps from the data, (B, V)."""
        h, expected = rbm.hidden.sample_and_expect(hidden_field, generator)
        for _ in range(self.steps - 1):
            h = rbm.sample_hidden(rbm.sample_visible(h, generator), generator)
        mean_last = rbm.visible.linear_statistics if self.mean_last is None else self.mean_last
        v = rbm.down(h) if mean_last else rbm.sample_visible(h, generator)
        return NegativeSamples(v, data_hidden=expected)
