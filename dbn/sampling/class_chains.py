"""Persistent chains of a label model, each of which keeps its class."""

from typing import final

import torch
from torch import Tensor

from dbn.models.label_model import label_units
from dbn.models.rbm import RBM
from dbn.sampling.chains import Chains, NegativeSamples, at_field_zero


@final
class ClassChains(Chains):
    """PCD-k of p(x | y): persistent chains whose label units stay as they are, as many of each class.

    Every row gets the state of a chain of its class as its negative sample, so that the gradient is that of
    −log p(x | y), and of what is drawn from such chains later. All take `steps` Gibbs steps per gradient, started as
    samples at field 0; beyond as many rows of a class as chains, they serve again.

    The label units are the last part of the visible ones, see `dbn.models.label_model.label_rbm`; the data have a label
    in every row. chains: of all classes together, rounded up to as many of each.

    Tieleman (2008), "Training restricted Boltzmann machines using approximations to the likelihood gradient", with the
    label held as in Hinton, Osindero & Teh (2006).

    >>> from dbn.models import Bernoulli
    >>> from dbn.models.label_model import label_rbm
    >>> rbm, generator = label_rbm("bernoulli", 2, Bernoulli(3), 2), torch.Generator()
    >>> rows = torch.tensor([[1.0, 1.0, 0.0, 1.0], [0.0, 0.0, 1.0, 0.0]])
    >>> ClassChains(steps=1, chains=10).negatives(rbm, rows, rbm.hidden_field(rows), generator).states[:, 2:]
    tensor([[0., 1.],
            [1., 0.]])
    """

    method = "persistent contrastive divergence by class"
    paired = True
    capturable = True

    def __init__(self, steps: int = 1, chains: int = 100) -> None:
        super().__init__(steps, chains)

    @torch.no_grad()
    def negatives(self, rbm: RBM, data: Tensor, hidden_field: Tensor, generator: torch.Generator) -> NegativeSamples:
        """For each row of the data (B, V) a state of a chain of its class, (B, V); of their field nothing is used."""
        classes = label_units(rbm)
        each = -(-self.chains // classes)
        labels = torch.eye(classes, dtype=rbm.weight.dtype, device=rbm.weight.device).repeat_interleave(each, 0)
        if not self._kept:
            v = at_field_zero(rbm, len(labels), generator)
            v[:, -classes:] = labels
            self._kept = {"v": v, "reference": v}
        v = self._kept["v"].to(rbm.weight)
        for _ in range(self.steps):
            v = rbm.sample_visible(rbm.sample_hidden(v, generator), generator)
            v[:, -classes:] = labels
        self._kept["v"] = v
        y = data[:, -classes:]
        before = ((y.cumsum(0) - 1) * y).sum(1).long()  # rows of the same class
        return NegativeSamples(v[y.argmax(1) * each + before % each])
