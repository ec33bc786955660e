"""Persistent contrastive divergence: chains that never return to the data."""

from typing import final

import torch
from torch import Tensor

from dbn.arrays import without_gradients
from dbn.models.rbm import RBM
from dbn.sampling.chains import Chains, NegativeSamples, at_field_zero


@final
class PersistentChains(Chains):
    """PCD-k: `chains` chains that take `steps` Gibbs steps per gradient, started as samples at field 0.

    Tieleman (2008), "Training restricted Boltzmann machines using approximations to the likelihood gradient".

    >>> from dbn.models import RBM, Bernoulli
    >>> rbm, v, generator = RBM(Bernoulli(4), Bernoulli(3)), torch.ones(2, 4), torch.Generator()
    >>> chains = PersistentChains(steps=1, chains=100)
    >>> chains.negatives(rbm, v, rbm.hidden_field(v), generator).states.shape
    torch.Size([100, 4])
    """

    method = "persistent contrastive divergence"
    capturable = True

    def __init__(self, steps: int = 1, chains: int = 100) -> None:
        super().__init__(steps, chains)

    @without_gradients
    def negatives(self, rbm: RBM, data: Tensor, hidden_field: Tensor, generator: torch.Generator) -> NegativeSamples:
        """The chains after k steps from where they were, (chains, V); data and their field are not used."""
        if not self._kept:
            v = at_field_zero(rbm, self.chains, generator)
            self._kept = {"v": v, "reference": v}
        self._kept["v"] = v = rbm.gibbs(self._kept["v"].to(rbm.weight), self.steps, generator)
        return NegativeSamples(v)


@final
class LaggedChains(Chains):
    """PCD-k whose first hidden states in each call have the biases of now and the weights before the last update.

    W v is that of the last gradient, which saves one of the six products of a PCD-1 step. Such a step mixes two
    models: without momentum no loss is seen, with momentum of 0.9 it may be many nats (docs/likelihood.md).

    The state includes `field`, W v of the chains.

    >>> from dbn.models import RBM, Bernoulli
    >>> rbm, v, generator = RBM(Bernoulli(4), Bernoulli(3)), torch.ones(2, 4), torch.Generator()
    >>> LaggedChains(steps=1, chains=100).negatives(rbm, v, rbm.hidden_field(v), generator).field.shape
    torch.Size([100, 3])
    """

    method = "persistent contrastive divergence"
    capturable = True

    def __init__(self, steps: int = 1, chains: int = 100) -> None:
        super().__init__(steps, chains)

    @without_gradients
    def negatives(self, rbm: RBM, data: Tensor, hidden_field: Tensor, generator: torch.Generator) -> NegativeSamples:
        """The chains after k steps, (chains, V), and their field; data and their field are not used."""
        if not self._kept:
            v = at_field_zero(rbm, self.chains, generator)
            self._kept = {"v": v, "field": rbm.hidden_field(v), "reference": v}
        v, field = self._kept["v"].to(rbm.weight), self._kept["field"].to(rbm.weight)
        for _ in range(self.steps):
            v = rbm.sample_visible(rbm.hidden.sample(field, generator), generator)
            field = rbm.hidden_field(v)
        self._kept |= {"v": v, "field": field}
        return NegativeSamples(v, field)
