"""Pseudo-log-likelihoods of an RBM, in nats per example."""

import torch
from torch import Tensor

from dbn.errors import InputError, check_types
from dbn.models.rbm import RBM
from dbn.models.units.base import Units

MAX_ELEMENTS = 2**21
"""The most elements of a chunk of flipped states, unless one example alone has more."""


@check_types
@torch.no_grad()
def pseudo_log_likelihood(rbm: RBM, v: Tensor) -> Tensor:
    """Σ_i log p(v_i | v_−i), exact, (B,), in nats: every unit is set to every value of its support.

    Setting v_i to s adds W[:, i]·(s − v_i) to the product W v.

    v: (B, V). InputError for continuous visible units, values outside the support and rows of another width. Besag
    (1975), "Statistical analysis of non-lattice data".

    >>> from dbn.models import RBM, Bernoulli
    >>> pseudo_log_likelihood(RBM(Bernoulli(4), Bernoulli(3)), torch.ones(1, 4))  # 4 log ½
    tensor([-2.7726])
    """
    units = rbm.visible.support()
    if units is None:
        raise InputError(f"{rbm.visible.kind} units are continuous and have no pseudo-likelihood: use the likelihood")
    rbm.visible.check_states(v)
    v = rbm.visible.values(v)
    support = units.sort().values
    energies = _unit_energies(rbm.visible, support)
    rows = max(1, MAX_ELEMENTS // rbm.weight.numel())
    return torch.cat([_log_conditionals(rbm, support, energies, part).sum(1) for part in v.split(rows)])


def _unit_energies(units: Units, support: Tensor) -> Tensor:
    """The energy of each unit at each value, up to a constant of that unit, (S, V).

    From states that differ in one unit: a layer's energy is a sum over its units.
    """
    calm = support[support.abs().argmin()]  # at 0 the other units add no rounding error
    place = torch.arange(units.size, device=support.device)
    energies = []
    for s in support:
        states = calm.repeat(units.size, units.size)
        states[place, place] = s
        energies.append(units.energy(states))
    return torch.stack(energies)


def _log_conditionals(rbm: RBM, support: Tensor, energies: Tensor, v: Tensor) -> Tensor:
    """log p(v_i | v_−i) of each unit of each example, (B, V)."""
    field, here = rbm.hidden_field(v), torch.bucketize(v, support)
    units, columns = torch.arange(v.shape[1], device=v.device), rbm.weight.T.contiguous()
    log_partition = rbm.hidden.log_partition(field)[:, None]
    gains = [torch.zeros_like(here, dtype=v.dtype)]  # −F of the other states minus −F of this one
    for offset in range(1, len(support)):
        there = (here + offset) % len(support)
        fields = torch.addcmul(field[:, None], (support[there] - support[here])[..., None], columns)
        changed = rbm.hidden.log_partition(fields.flatten(0, 1)).view_as(here)
        gains.append(changed - log_partition - energies[there, units] + energies[here, units])
    return -torch.stack(gains).logsumexp(0)
