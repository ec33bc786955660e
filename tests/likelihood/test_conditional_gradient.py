"""The delta rule against autograd through log p(x | field)."""

import pytest
import torch
from torch import Tensor

from dbn.likelihood.conditional_gradient import set_hidden_gradient, set_visible_gradient
from dbn.models.units.base import Units
from tests.enumeration import HIDDEN, KINDS, make_rbm, rng


def log_p(units: Units, x: Tensor, field: Tensor) -> Tensor:
    return (field * x).sum(1) - units.energy(x) - units.log_partition(field)


@pytest.mark.parametrize(
    ("visible", "hidden"), [*((kind, "bernoulli") for kind in KINDS), *(("spin", h) for h in HIDDEN)]
)
@pytest.mark.parametrize("weights", [None, torch.tensor([0.5, 2.0, 0.0, 1.5], dtype=torch.float64)])
def test_the_gradient_is_that_of_the_conditional_likelihood(visible: str, hidden: str, weights: Tensor | None) -> None:
    rbm = make_rbm(visible, hidden)
    v = rbm.visible.sample(torch.randn(4, rbm.visible.size, generator=rng(1), dtype=torch.float64), rng(2)).detach()
    h = rbm.sample_hidden(v, rng(3)).detach()
    each = torch.ones(4, dtype=torch.float64) if weights is None else weights
    for set_gradient, units, likelihood in (
        (set_visible_gradient, rbm.visible, log_p(rbm.visible, v, rbm.visible_field(h))),
        (set_hidden_gradient, rbm.hidden, log_p(rbm.hidden, h, rbm.hidden_field(v))),
    ):
        learned = [rbm.weight, *units.parameters()]
        wanted = torch.autograd.grad(-(each * likelihood).mean(), learned)
        rbm.zero_grad()
        set_gradient(rbm, v, h, weights)
        for parameter, gradient in zip(learned, wanted, strict=True):
            torch.testing.assert_close(parameter.grad, gradient, rtol=1e-9, atol=1e-9)
        others = [parameter for parameter in rbm.parameters() if all(parameter is not one for one in learned)]
        assert all(parameter.grad is None for parameter in others)
