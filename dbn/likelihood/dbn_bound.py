"""The variational lower bound on the log-likelihood of a DBN, in nats per example."""

from itertools import pairwise

import torch
from torch import Tensor

from dbn.errors import InputError, check_types
from dbn.models.dbn import DBN
from dbn.rng import stream


@torch.no_grad()
def layer_bounds(stack: DBN, x: Tensor, generator: torch.Generator, samples: int = 10) -> Tensor:
    """The bounds of the stack's first 1, 2, …, L layers, each without − log Z of its top RBM, (L, B).

    With h_l ~ q, the factorial posteriors layer by layer, and F^h the free energy of an RBM's hidden side,

        log p(x) ≥ −F_1(x) + Σ_{l<L} E_q[F^h_l(h_l) − F_{l+1}(h_l)] − log Z_L

    which is E_q[log p*(h_{L−1}) + Σ log p(h_{l−1} | h_l) − Σ log q(h_l | h_{l−1})] − log Z_L. With log q of the samples
    in place of its entropy errors cancel: none is left for an upper RBM that mirrors the lower. One layer has no q, and
    its value is exactly −F(x).

    x: (B, V), scaled; generator: on its device; samples: draws from q per example. InputError for no samples and for
    rows of another width. Hinton, Osindero & Teh (2006); Salakhutdinov & Murray (2008), "On the quantitative
    analysis of deep belief networks", section 4.
    """
    if samples < 1:
        raise InputError(f"the bound of a stack needs at least one sample of its hidden layers, not {samples}")
    layers = stack.layers
    layers[0].visible.check_rows(x)
    bounds = -layers[0].free_energy(x).expand(len(layers), -1)
    gains = torch.zeros_like(bounds)
    for _ in range(samples if len(layers) > 1 else 0):
        h = x
        for depth, (lower, upper) in enumerate(pairwise(layers), start=1):
            h = lower.sample_hidden(h, generator)
            gains[depth] += (lower.transposed().free_energy(h) - upper.free_energy(h)) / samples
    return bounds + gains.cumsum(0)


@check_types
def dbn_bound(stack: DBN, x: Tensor, log_z_top: float, samples: int = 10, seed: int = 0) -> Tensor:
    """A lower bound on log p(x) under the stack, estimated from `samples` draws of its hidden layers, (B,), nats.

    log_z_top: log Z of the top RBM. An estimate that is too low makes the bound too high: try both ends of its
    interval. With one layer it is the log-likelihood. x, sources and InputError as for `layer_bounds`, and InputError
    for values outside the support, such as gray levels, of which it bounds nothing.

    >>> from dbn.models import DBN, RBM, Bernoulli
    >>> stack = DBN([RBM(Bernoulli(4), Bernoulli(3)), RBM(Bernoulli(3), Bernoulli(2))])
    >>> dbn_bound(stack, torch.ones(1, 4), log_z_top=5 * 0.693147)  # 4 log ½
    tensor([-2.7726])
    """
    stack.layers[0].visible.check_states(x)
    generator = stream(seed, "DBN bound", device=x.device)
    return layer_bounds(stack, x, generator, samples)[-1] - log_z_top
