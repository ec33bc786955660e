"""Exact log Z, likelihoods, gradients and samples of an RBM with few states on one side, or with two Gaussian sides.

    log Z = log Σ_x exp(−F(x))

over the states x of the discrete side with the fewer, in chunks of bounded memory, where F is the free energy of that
side. Two Gaussian sides are one Gaussian. Everything is computed in double precision, on the CPU for a device without
it (MPS).
"""

import copy
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from dbn.errors import InputError, check_types
from dbn.likelihood.gradient import gradient_of
from dbn.models.rbm import RBM
from dbn.models.units.base import Units
from dbn.models.units.sites import Sites, in_words, number_of_states, states_at

MOST_STATES = 2**25
"""The most states that are enumerated."""


MAX_ELEMENTS = 2**20
"""The most elements of a matrix of states or fields."""


@check_types
@torch.no_grad()
def log_partition(rbm: RBM) -> float:
    """log Z, nats. InputError if both sides have over 2²⁵ states, Z is infinite, or a parameter is not finite.

    >>> from dbn.models import RBM, Bernoulli
    >>> print(f"{log_partition(RBM(Bernoulli(4), Bernoulli(3))):.3f} = 7 log 2")
    4.852 = 7 log 2
    """
    return _log_z(_precise(rbm))


@check_types
@torch.no_grad()
def log_likelihood(rbm: RBM, v: Tensor, log_z: float) -> Tensor:
    """log p(v) = −F(v) − log Z of the rows of v, (B,), nats; a log-density for continuous visible units.

    InputError for rows of another width and values outside the support: −F of gray levels is not a log-probability.

    >>> from dbn.models import RBM, Bernoulli
    >>> rbm = RBM(Bernoulli(4), Bernoulli(3))
    >>> log_likelihood(rbm, torch.ones(1, 4), log_partition(rbm))  # 4 log ½
    tensor([-2.7726])
    """
    return _log_likelihood(_precise(rbm), v, log_z).to(rbm.weight)


@check_types
@torch.no_grad()
def divergence(rbm: RBM, data: Tensor) -> float:
    """KL(data ‖ model) = Σ_v q(v) log(q(v)/p(v)), nats, where q is the empirical distribution of the rows, (N, V).

    InputError as for `log_partition` and `log_likelihood`, and for continuous visible units, where it is infinite.

    >>> from dbn.models import RBM, Bernoulli
    >>> print(f"{divergence(RBM(Bernoulli(4), Bernoulli(3)), torch.ones(5, 4)):.3f} = 4 log 2")
    2.773 = 4 log 2
    """
    if rbm.visible.sites() is None:
        raise InputError(
            "the KL of a list of examples from a density is infinite: for continuous visible units use log_likelihood"
        )
    _check_data(rbm, data)
    states, counts = data.unique(dim=0, return_counts=True)
    machine = _precise(rbm)
    q = counts.cpu().to(machine.weight) / len(data)
    return float(q @ (q.log() - _log_likelihood(machine, states, _log_z(machine))))


@check_types
@torch.no_grad()
def set_exact_gradient(rbm: RBM, data: Tensor) -> None:
    """Write the gradient of −mean log p(data) into `.grad` of every parameter, for an optimizer to descend.

    ∂/∂θ [mean_data F + log Z]: for the weight −⟨E[h|v] vᵀ⟩_data + ⟨h vᵀ⟩_model. data: (B, V). InputError as for
    `log_partition`, and for rows of another width.

    >>> from dbn.models import RBM, Bernoulli
    >>> rbm = RBM(Bernoulli(4), Bernoulli(3))
    >>> set_exact_gradient(rbm, torch.ones(5, 4))
    >>> rbm.visible.bias.grad  # ½ − 1
    tensor([-0.5000, -0.5000, -0.5000, -0.5000])
    """
    _check_data(rbm, data)
    machine = _precise(rbm).requires_grad_()
    listing = _listing(machine)
    with torch.enable_grad():
        for v in _parts(machine, data):
            (machine.free_energy(v).sum() / len(data)).backward()
        if listing is None:
            log_z = _gaussian_log_z(machine)
            _finite(log_z.detach())
            log_z.backward()
        else:
            _add_gradient_of_log_z(listing)
    if listing is not None and listing.transposed:
        gradient_of(machine.weight).add_(gradient_of(listing.machine.weight).T)
    for name, parameter in rbm.named_parameters():
        gradient_of(parameter).copy_(gradient_of(machine.get_parameter(name)))


@check_types
@torch.no_grad()
def sample(rbm: RBM, n: int, generator: torch.Generator | None = None) -> Tensor:
    """n independent v ~ p(v), (n, V), without a Markov chain. InputError as for `log_partition`.

    generator: on the device of the RBM, but on the CPU for one on MPS.

    >>> from dbn.models import RBM, Bernoulli
    >>> sample(RBM(Bernoulli(4), Bernoulli(3)), 5).shape
    torch.Size([5, 4])
    """
    if n < 0:
        raise InputError(f"a number of samples is at least 0, not {n}")
    machine = _precise(rbm)
    listing = _listing(machine)
    if listing is None:
        mean, factor = _gaussian(machine)
        noise = mean.new_empty(len(mean), n).normal_(generator=generator)
        v: Tensor = mean + torch.linalg.solve_triangular(factor.T, noise, upper=True).T
    else:
        parts = (listing.states(places) for places in listing.draw(n, generator).split(_rows(machine)))
        v = torch.cat([machine.sample_visible(x, generator) if listing.transposed else x for x in parts])
    return v.to(rbm.weight)


@final
@dataclass(frozen=True)
class _Listing:
    """The states of the visible side of `machine`; `transposed`: that is the hidden side of the RBM."""

    machine: RBM
    sites: tuple[Sites, ...]
    transposed: bool

    @property
    def length(self) -> int:
        """The number of states."""
        return number_of_states(self.sites)

    def __str__(self) -> str:
        size, side = self.machine.visible.size, "hidden" if self.transposed else "visible"
        return f"{size} {side} units with {in_words(self.sites)}"

    def states(self, index: Tensor) -> Tensor:
        """The states with these numbers, (B, V)."""
        return states_at(self.sites, index)

    def chunk(self, places: range) -> tuple[Tensor, Tensor]:
        """States, and −F of each, which is log p up to a constant."""
        x = self.states(torch.arange(places.start, places.stop, device=self.sites[0].states.device))
        return x, -self.machine.free_energy(x)

    def chunks(self) -> list[range]:
        """All states in parts of at most `MAX_ELEMENTS`."""
        rows = _rows(self.machine)
        return [range(first, min(first + rows, self.length)) for first in range(0, self.length, rows)]

    def log_sums(self) -> Tensor:
        """log Σ_x exp(−F(x)) over each chunk, (C,)."""
        return torch.stack([self.chunk(places)[1].logsumexp(0) for places in self.chunks()])

    def draw(self, n: int, generator: torch.Generator | None) -> Tensor:
        """The numbers of n independent samples, (n,): first the chunk, then the state in it."""
        log_sums = self.log_sums()
        _finite(log_sums.logsumexp(0))
        uniform = log_sums.new_empty(2, n).uniform_(generator=generator)
        chunk = _pick(log_sums, uniform[0])
        index = torch.empty_like(chunk)
        # One transfer of the counts spares listing chunks again that no draw falls into.
        counts = torch.bincount(chunk, minlength=len(log_sums)).tolist()
        for places, drawn in zip(self.chunks(), chunk.argsort().split(counts), strict=True):
            if len(drawn):
                index[drawn] = places.start + _pick(self.chunk(places)[1], uniform[1, drawn])
        return index


def _listing(machine: RBM) -> _Listing | None:
    """The side with the fewer states, or None for two Gaussian sides."""
    machine.check_partition()
    listings = [
        _Listing(side, sites, transposed)
        for side, transposed in ((machine, False), (machine.transposed(), True))
        if (sites := side.visible.sites()) is not None
    ]
    if not listings:
        for units in (machine.visible, machine.hidden):
            if not is_gaussian(units):
                raise InputError(f"exact values of two continuous sides need Gaussian units, not {units.kind}: use AIS")
        return None
    shortest = min(listings, key=lambda listing: listing.length)
    if shortest.length > MOST_STATES:
        raise InputError(
            f"exact values need a side of at most {MOST_STATES:,} states, but here are "
            f"{' and '.join(str(listing) for listing in listings)}: estimate log Z by AIS"
        )
    return shortest


def _log_z(machine: RBM) -> float:
    listing = _listing(machine)
    if listing is not None:
        return _finite(listing.log_sums().logsumexp(0))
    return _finite(_gaussian_log_z(machine))


def _gaussian_log_z(machine: RBM) -> Tensor:
    mean, factor = _gaussian(machine)
    log_integral = 0.5 * len(mean) * math.log(2 * math.pi) - factor.diagonal().log().sum()
    return log_integral - machine.free_energy(mean[None])[0]


def _precise(rbm: RBM) -> RBM:
    """A copy in double precision, on the CPU where the device has none."""
    rbm.check_finite()
    machine = copy.deepcopy(rbm)
    return (machine.cpu() if rbm.weight.device.type == "mps" else machine).double()


def _rows(machine: RBM) -> int:
    return max(1, MAX_ELEMENTS // max(machine.weight.shape))


def _finite(log_z: Tensor) -> float:
    value = float(log_z)
    if not math.isfinite(value):
        raise InputError(f"log Z is {value}: a parameter of the RBM is too large to compute with, scale it down")
    return value


def _pick(log_p: Tensor, uniform: Tensor) -> Tensor:
    """An index drawn from ∝ exp(log_p) for every uniform number, by inversion of the cumulative sum."""
    total = log_p.softmax(0).cumsum(0)
    return torch.searchsorted(total, uniform * total[-1], right=True).clamp_(max=len(total) - 1)


def _log_likelihood(machine: RBM, v: Tensor, log_z: float) -> Tensor:
    machine.visible.check_rows(v)
    for part in _parts(machine, v):
        machine.visible.check_states(part)
    return -torch.cat([machine.free_energy(part) for part in _parts(machine, v)]) - log_z


def _parts(machine: RBM, v: Tensor) -> Iterator[Tensor]:
    # Moved first, to a device that has float64.
    return (part.to(machine.weight.device).to(machine.weight.dtype) for part in v.split(_rows(machine)))


def _add_gradient_of_log_z(listing: _Listing) -> None:
    """One chunk after another: ∂log Z is the mean of each ∂log Σ_chunk exp(−F), weighted by its probability."""
    listing.machine.weight.requires_grad_()
    with torch.no_grad():
        log_sums = listing.log_sums()
        _finite(log_sums.logsumexp(0))
    for places, p in zip(listing.chunks(), log_sums.softmax(0), strict=True):
        (p * listing.chunk(places)[1].logsumexp(0)).backward()


def _check_data(rbm: RBM, data: Tensor) -> None:
    rbm.visible.check_rows(data)
    if not len(data):
        raise InputError("an average over the data needs at least one example, and none is given")


def is_gaussian(units: Units) -> bool:
    """Whether the units are continuous with the mean (field + bias)/λ of a Gaussian on the whole line."""
    units = copy.deepcopy(units).requires_grad_(False).cpu().double()
    units.bias.zero_()
    precision = units.quadratic_precision()
    if precision is None:
        return False
    # At a mean of ± one deviation, a bound at 0 or a difference between both sides shows.
    mean = precision.rsqrt() * precision.new_tensor([[1.0], [-1.0]])
    return torch.allclose(units.mean(mean * precision), mean, rtol=1e-9)


def _gaussian(machine: RBM) -> tuple[Tensor, Tensor]:
    """p(v) = N(mean, (L Lᵀ)⁻¹) of two Gaussian sides, (V,) and L, (V, V): the precision is Λ_v − Wᵀ Λ_h⁻¹ W."""
    precision, hidden_precision = machine.visible.quadratic_precision(), machine.hidden.quadratic_precision()
    assert precision is not None
    assert hidden_precision is not None
    factor = torch.linalg.cholesky(precision.diag() - (machine.weight.T / hidden_precision) @ machine.weight)
    bias, hidden_bias = machine.visible.natural()["bias"], machine.hidden.natural()["bias"]
    field = bias + machine.visible_field(hidden_bias / hidden_precision)
    return torch.cholesky_solve(field[:, None], factor)[:, 0], factor
