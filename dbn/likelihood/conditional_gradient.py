"""The gradient of log p(x | field) in closed form, one direction of an RBM at a time: the delta rule.

    ∂ log p(x | field)/∂field = x − E[x | field],    ∂/∂θ_k = T_k(x) − E[T_k(x) | field]

exact for every type of units. With field = Wᵀ h the gradient of W is h (x − E[x | h])ᵀ, and likewise upwards.

Hinton, Dayan, Frey & Neal (1995), "The wake-sleep algorithm for unsupervised neural networks".
"""

import torch
from torch import Tensor

from dbn.likelihood.gradient import gradient_of, set_unit_gradient, weighted_rows
from dbn.models.matmul import product
from dbn.models.rbm import RBM
from dbn.models.units.base import Units


@torch.no_grad()
def set_visible_gradient(rbm: RBM, v: Tensor, h: Tensor, weights: Tensor | None = None) -> None:
    """Write the gradient of −log p(v | h), a mean over rows, into `.grad` of the weight and of the visible units.

    v: (B, V); h: (B, H); weights: (B,), of the rows, which average 1 over the data.

    >>> from dbn.models import RBM, Bernoulli
    >>> rbm = RBM(Bernoulli(2), Bernoulli(1))
    >>> set_visible_gradient(rbm, torch.tensor([[1.0, 0.0]]), torch.ones(1, 1))
    >>> rbm.weight.grad  # (E[v | h] - v) h
    tensor([[-0.5000,  0.5000]])
    """
    missed = _set(rbm.visible, v, rbm.visible_field(h), weights)
    gradient_of(rbm.weight).copy_(product(h.T, missed.T))


@torch.no_grad()
def set_hidden_gradient(rbm: RBM, v: Tensor, h: Tensor, weights: Tensor | None = None) -> None:
    """Write the gradient of −log p(h | v) into `.grad` of the weight and of the hidden units; as the other."""
    missed = _set(rbm.hidden, h, rbm.hidden_field(v), weights)
    gradient_of(rbm.weight).copy_(product(missed.T, v.T))


def _set(units: Units, x: Tensor, field: Tensor, weights: Tensor | None) -> Tensor:
    """The `.grad` of the units' parameters; returns that with respect to the field, (B, size)."""
    data = weighted_rows(units.statistics(x), weights)
    expected = weighted_rows(units.expected_statistics(field), weights)
    set_unit_gradient(units, (data, len(x)), (expected, len(x)))
    return (expected["bias"] - data["bias"]) / len(x)
