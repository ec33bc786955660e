"""How probable a model finds data, where the log-likelihood itself costs too much: pseudo-likelihoods of an RBM, and
the lower bound of a stack.

All values are in nats, one an example.
"""

import torch
from torch import Tensor

from dbn.errors import InputError
from dbn.models.rbm import RBM
from dbn.models.units.base import Units

CELLS = 2**21
"""Numbers that a slice of the flips may hold, unless one example alone has more."""


@torch.no_grad()
def pseudo_likelihood(rbm: RBM, v: Tensor) -> Tensor:
    """Σ_i log p(v_i | v_−i), exact and without chance: every unit is set to every value it may take, (B,).

    Of the product W v, setting v_i to s changes only what W[:, i]·(s − v_i) adds.

    v: (B, V). InputError for visible units without a finite domain, for values outside it and rows of another width.
    Besag (1975), "Statistical analysis of non-lattice data".
    """
    levels, energies = _levels(rbm.visible, v), _unit_energies(rbm.visible)
    units, columns = torch.arange(v.shape[1], device=v.device), rbm.weight.T.contiguous()
    rows = max(1, CELLS // rbm.weight.numel())
    parts = [
        _log_conditionals(rbm, energies, part, level, units.expand_as(level), columns).sum(1)
        for part, level in zip(v.split(rows), levels.split(rows), strict=True)
    ]
    return torch.cat(parts)


@torch.no_grad()
def stochastic_pseudo_likelihood(rbm: RBM, v: Tensor, generator: torch.Generator) -> Tensor:
    """V·log p(v_i | v_−i) for one random unit i of each example, (B,): unbiased for `pseudo_likelihood`.

    generator: on the device of v. InputError as there.
    """
    levels, energies = _levels(rbm.visible, v), _unit_energies(rbm.visible)
    units = torch.randint(v.shape[1], (len(v), 1), generator=generator, device=v.device)
    return v.shape[1] * _log_conditionals(rbm, energies, v, levels, units, rbm.weight.T[units])[:, 0]


def _levels(units: Units, v: Tensor) -> Tensor:
    """The place of every value in the sorted domain, (B, V)."""
    support = _domain(units)
    units.check_rows(v)
    if not units.in_support(v):
        values = ", ".join(f"{s:g}" for s in support.tolist())
        raise InputError(
            f"a likelihood of {units.kind} units needs values among {values}, but the data hold others: binarise them"
        )
    return torch.bucketize(v, support)


def _domain(units: Units) -> Tensor:
    support = units.support()
    if support is None:
        raise InputError(f"{units.kind} units have no finite domain and so no pseudo-likelihood: use the likelihood")
    return support.sort().values


def _unit_energies(units: Units) -> Tensor:
    """The energy of each unit at each value, up to a constant of that unit, (S, V).

    Read off states that differ from one state in one unit: a layer's energy is a sum over its units.
    """
    support = _domain(units)
    calm = support[support.abs().argmin()]  # at 0 the other units add nothing to the rounding error
    place = torch.arange(units.size, device=support.device)
    energies = []
    for s in support:
        states = calm.repeat(units.size, units.size)
        states[place, place] = s
        energies.append(units.energy(states))
    return torch.stack(energies)


def _log_conditionals(rbm: RBM, energies: Tensor, v: Tensor, levels: Tensor, units: Tensor, columns: Tensor) -> Tensor:
    """log p(v_i | v_−i) for the units (B, C) of each example, (B, C), from their columns of W, (C, H) or (B, C, H)."""
    support, field = _domain(rbm.visible), rbm.hidden_field(v)
    here = levels.gather(1, units)
    log_partition = rbm.hidden.log_partition(field)[:, None]
    gains = [torch.zeros_like(here, dtype=v.dtype)]  # −F of the other states minus −F of this one
    for offset in range(1, len(support)):
        there = (here + offset) % len(support)
        fields = torch.addcmul(field[:, None], (support[there] - support[here])[..., None], columns)
        changed = rbm.hidden.log_partition(fields.flatten(0, 1)).view_as(here)
        gains.append(changed - log_partition - energies[there, units] + energies[here, units])
    return -torch.stack(gains).logsumexp(0)
