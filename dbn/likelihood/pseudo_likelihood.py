"""Pseudo-log-likelihoods of an RBM, in nats per example."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from dbn.errors import InputError, check_types
from dbn.models.rbm import RBM
from dbn.models.units.base import Units
from dbn.models.units.sites import Sites, columns_of, index_of

MAX_ELEMENTS = 2**21
"""The most elements of a chunk of flipped states, unless one example alone has more."""


@check_types
@torch.no_grad()
def pseudo_log_likelihood(rbm: RBM, v: Tensor) -> Tensor:
    """Σ_i log p(v_i | v_−i), exact, (B,), in nats: every site i, a unit or a category, is set to each of its states.

    Setting v_i to s adds W[:, i]·(s − v_i) to the product W v.

    v: (B, V). InputError for continuous visible units, values that are no states and rows of another width. Besag
    (1975), "Statistical analysis of non-lattice data".

    >>> from dbn.models import RBM, Bernoulli
    >>> pseudo_log_likelihood(RBM(Bernoulli(4), Bernoulli(3)), torch.ones(1, 4))  # 4 log ½
    tensor([-2.7726])
    """
    sites = rbm.visible.sites()
    if sites is None:
        raise InputError(f"{rbm.visible.kind} units are continuous and have no pseudo-likelihood: use the likelihood")
    rbm.visible.check_states(v)
    v = rbm.visible.values(v)
    alternatives = [_alternatives(rbm, each, columns) for each, columns in columns_of(sites)]
    rows = max(1, MAX_ELEMENTS // rbm.weight.numel())
    return torch.cat([_log_conditionals(rbm, alternatives, part).sum(1) for part in v.split(rows)])


class _Alternatives(NamedTuple):
    """The states of the sites in some columns, and what each costs and adds to the fields."""

    sites: Sites
    columns: slice
    energies: Tensor
    """Of each site in each state, up to a constant of that site, (K, count)."""
    fields: Tensor
    """W v of each site in each state, (K, count, H)."""


def _alternatives(rbm: RBM, sites: Sites, columns: slice) -> _Alternatives:
    weight = rbm.weight.T[columns].unflatten(0, (sites.count, sites.width))
    fields = torch.stack([(state[:, None] * weight).sum(1) for state in sites.states])
    return _Alternatives(sites, columns, _energies(rbm.visible, sites, columns.start), fields)


def _energies(units: Units, sites: Sites, start: int) -> Tensor:
    """From states that are 0 but at one site: a layer's energy is a sum over its sites."""
    place = torch.arange(sites.count, device=sites.states.device)
    own = start + place[:, None] * sites.width + torch.arange(sites.width, device=place.device)
    energies = []
    for state in sites.states:
        rows = state.new_zeros(sites.count, units.size)
        rows[place[:, None], own] = state
        energies.append(units.energy(rows))
    return torch.stack(energies)


def _log_conditionals(rbm: RBM, alternatives: Sequence[_Alternatives], v: Tensor) -> Tensor:
    """log p(v_i | v_−i) of each site of each example, (B, sites)."""
    field = rbm.hidden_field(v)
    log_partition = rbm.hidden.log_partition(field)[:, None]
    return torch.cat([_of_sites(rbm, each, v, field, log_partition) for each in alternatives], 1)


def _of_sites(rbm: RBM, each: _Alternatives, v: Tensor, field: Tensor, log_partition: Tensor) -> Tensor:
    sites, energies, fields = each.sites, each.energies, each.fields
    here = index_of(sites, v[:, each.columns])
    site, number = torch.arange(sites.count, device=v.device), len(sites.states)
    gains = [torch.zeros_like(here, dtype=v.dtype)]  # −F of the other states minus −F of this one
    for offset in range(1, number):
        there = (here + offset) % number
        change = fields.roll(-offset, 0) - fields  # from each state to the one `offset` further
        changed = rbm.hidden.log_partition((field[:, None] + change[here, site]).flatten(0, 1)).view_as(here)
        gains.append(changed - log_partition - energies[there, site] + energies[here, site])
    return -torch.stack(gains).logsumexp(0)
