"""How probable a model finds data, where the log-likelihood itself costs too much: pseudo-likelihoods of an RBM, and
the lower bound of a stack.

All values are in nats, one an example.
"""

from itertools import pairwise

import torch
from torch import Tensor

from dbn.belief_net import DBN
from dbn.errors import InputError
from dbn.rbm import RBM
from dbn.units import Units

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
    domain = _domain(units)
    units.check_rows(v)
    if not units.takes(v):
        values = ", ".join(f"{s:g}" for s in domain.tolist())
        raise InputError(
            f"a likelihood of {units.kind} units needs values among {values}, but the data hold others: binarise them"
        )
    return torch.bucketize(v, domain)


def _domain(units: Units) -> Tensor:
    domain = units.domain()
    if domain is None:
        raise InputError(f"{units.kind} units have no finite domain and so no pseudo-likelihood: use the likelihood")
    return domain.sort().values


def _unit_energies(units: Units) -> Tensor:
    """The energy of each unit at each value, up to a constant of that unit, (S, V).

    Read off states that differ from one state in one unit: a layer's energy is a sum over its units.
    """
    domain = _domain(units)
    calm = domain[domain.abs().argmin()]  # at 0 the other units add nothing to the rounding error
    place = torch.arange(units.size, device=domain.device)
    energies = []
    for s in domain:
        states = calm.repeat(units.size, units.size)
        states[place, place] = s
        energies.append(units.energy(states))
    return torch.stack(energies)


def _log_conditionals(rbm: RBM, energies: Tensor, v: Tensor, levels: Tensor, units: Tensor, columns: Tensor) -> Tensor:
    """log p(v_i | v_−i) for the units (B, C) of each example, (B, C), from their columns of W, (C, H) or (B, C, H)."""
    domain, field = _domain(rbm.visible), rbm.hidden_field(v)
    here = levels.gather(1, units)
    log_partition = rbm.hidden.log_partition(field)[:, None]
    gains = [torch.zeros_like(here, dtype=v.dtype)]  # −F of the other states minus −F of this one
    for offset in range(1, len(domain)):
        there = (here + offset) % len(domain)
        fields = torch.addcmul(field[:, None], (domain[there] - domain[here])[..., None], columns)
        changed = rbm.hidden.log_partition(fields.flatten(0, 1)).view_as(here)
        gains.append(changed - log_partition - energies[there, units] + energies[here, units])
    return -torch.stack(gains).logsumexp(0)


@torch.no_grad()
def layer_bounds(stack: DBN, x: Tensor, generator: torch.Generator, samples: int = 10) -> Tensor:
    """The bounds of the stack's first 1, 2, …, L layers, each without − log Z of its top RBM, (L, B).

    With h_l ~ q, the factorial posteriors layer by layer, and F^h the free energy of an RBM's hidden side,

        log p(x) ≥ −F_1(x) + Σ_{l<L} E_q[F^h_l(h_l) − F_{l+1}(h_l)] − log Z_L

    which is E_q[log p*(h_{L−1}) + Σ log p(h_{l−1} | h_l) − Σ log q(h_l | h_{l−1})] − log Z_L: the energy of the pair
    (h_{l−1}, h_l) stands in both conditionals and falls out. Where q is sampled anyway, keeping log q of the samples
    in place of its entropy lets the errors of the two cancel: for an upper RBM that mirrors the lower nothing is
    left of them. A single layer has no q, and its value is exactly −F(x).

    x: (B, V), scaled; generator: on its device; samples: draws from q for each example. InputError for no samples and
    for rows of another width. Hinton, Osindero & Teh (2006); Salakhutdinov & Murray (2008), "On the quantitative
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
            gains[depth] += (lower.turned().free_energy(h) - upper.free_energy(h)) / samples
    return bounds + gains.cumsum(0)


def dbn_bound(stack: DBN, x: Tensor, log_z_top: float, generator: torch.Generator, samples: int = 10) -> Tensor:
    """A lower bound on log p(x) under the stack, its expectation over q from `samples` draws, (B,).

    It is as optimistic as log_z_top, the log Z of the top RBM: give it at both ends of that estimate's interval.
    See `layer_bounds`. With one layer it is the log-likelihood itself.
    """
    return layer_bounds(stack, x, generator, samples)[-1] - log_z_top
