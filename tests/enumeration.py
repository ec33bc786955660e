"""Exact answers on models small enough to sum over every state, and the tolerance of an average of draws."""

import copy
import math
from itertools import pairwise, product

import numpy as np
import torch
from scipy import stats
from torch import Tensor, nn

from dbn.models.dbn import DBN
from dbn.models.rbm import RBM
from dbn.models.units import UNITS
from dbn.models.units.base import Units

KINDS = sorted(UNITS)
PAIRS = list(product(KINDS, KINDS))

SIZES = {"bernoulli": 3, "binomial": 2, "gaussian": 2, "relu": 2}
SETTINGS = {"binomial": {"trials": 3}}


def half_line(nodes: int = 32, end: float = 14.0) -> tuple[Tensor, Tensor]:
    """Nodes of Gauss and Legendre from 0 to where densities end, and their weights' logarithms."""
    x, weight = (torch.from_numpy(each) for each in np.polynomial.legendre.leggauss(nodes))
    return (x + 1) * end / 2, (weight * end / 2).log()


def evenly(values: Tensor, step: float = 1.0) -> tuple[Tensor, Tensor]:
    return values.double(), torch.full((len(values),), math.log(step), dtype=torch.float64)


AXES = {
    "bernoulli": evenly(torch.arange(2)),
    "binomial": evenly(torch.arange(4)),
    "gaussian": evenly(torch.arange(-24, 25) / 2, 0.5),
    "relu": half_line(),
}
"""The values that one unit may take, and the logarithms of their weights in a sum: a new unit type is a line here and
in `SIZES`, and one in `SETTINGS` where it has any."""

Z = 5.0
"""Standard errors that an average of draws may lie from the truth."""
CHANCE = float(2 * stats.norm.sf(Z))
"""The same as a probability, for tests that give one."""


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def randomize(module: nn.Module, seed: int, spread: float = 0.4) -> None:
    generator = rng(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_(0.0, spread, generator=generator)


def new_units(kind: str) -> Units:
    return UNITS[kind](SIZES[kind], **SETTINGS.get(kind, {}))


def make_units(kind: str, seed: int = 0) -> Units:
    units = new_units(kind).double()
    randomize(units, seed)
    return units


def make_rbm(visible: str, hidden: str, seed: int = 0) -> RBM:
    """Double precision, coupled as strongly as a finite Z and the grid of a quadrature allow."""
    rbm = RBM(new_units(visible), new_units(hidden)).double()
    randomize(rbm, seed)
    bounded = rbm.visible.quadratic_precision() is None or rbm.hidden.quadratic_precision() is None
    with torch.no_grad():
        rbm.weight.mul_(2.0 if bounded else 0.5)
    return rbm


@torch.no_grad()
def mirrored(rbm: RBM) -> RBM:
    """The RBM turned over: its hidden side is seen, its visible side hidden."""
    transposed = RBM(copy.deepcopy(rbm.hidden), copy.deepcopy(rbm.visible)).to(rbm.weight)
    transposed.weight.copy_(rbm.weight.T)
    return transposed


def make_stack(kinds: tuple[str, ...], seed: int = 0) -> DBN:
    return DBN([make_rbm(*pair, seed=seed + depth) for depth, pair in enumerate(pairwise(kinds))])


def support(units: Units) -> tuple[Tensor, Tensor]:
    """Every state (S, size) and the logarithm of what each weighs in a sum, (S,).

    For real units the sum is the trapezoid rule, whose error on a Gaussian of deviation σ is about
    exp(−2π²σ²/step²): nothing, for a step under σ.
    """
    axis, log_weight = AXES[units.kind]
    states, log_weights = (
        torch.cartesian_prod(*[each] * units.size).reshape(-1, units.size) for each in (axis, log_weight)
    )
    return states, log_weights.sum(1)


def conditional(units: Units, field: Tensor) -> tuple[Tensor, Tensor]:
    """Every state (S, size), and log ∝ of its probability under each field, (B, S), not normalised."""
    states, log_weight = support(units)
    return states, field @ states.T - units.energy(states) + log_weight


def joint(rbm: RBM) -> tuple[Tensor, Tensor, Tensor]:
    """States v, states h, and −E(v, h) with the weights of the sum, (S_v, S_h)."""
    (v, v_weight), (h, h_weight) = support(rbm.visible), support(rbm.hidden)
    energy = rbm.visible.energy(v)[:, None] + rbm.hidden.energy(h) - v @ rbm.weight.T @ h.T
    return v, h, v_weight[:, None] + h_weight - energy


@torch.no_grad()
def marginals(rbm: RBM) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """(states, p) of the visible and of the hidden side."""
    v, h, log_p = joint(rbm)
    p = log_p.flatten().softmax(0).view_as(log_p)
    return (v, p.sum(1)), (h, p.sum(0))


def draw(states: Tensor, p: Tensor, n: int, generator: torch.Generator) -> Tensor:
    return states[torch.multinomial(p, n, replacement=True, generator=generator)]


def z_scores(draws: Tensor, states: Tensor, p: Tensor) -> Tensor:
    """How many standard errors the averages of x_i and of x_i·x_j over independent draws lie from those under p."""
    seen, exact = _moments(draws.double()), _moments(states)
    mean = p @ exact
    variance = p @ (exact - mean) ** 2
    return (seen.mean(0) - mean) / (variance / len(draws)).sqrt()


def _moments(x: Tensor) -> Tensor:
    row, column = torch.triu_indices(x.shape[1], x.shape[1])
    return torch.cat([x, x[:, row] * x[:, column]], 1)


def histogram_chance(draws: Tensor, p: Tensor) -> float:
    """The probability of a histogram as far from p as that of binary draws (Pearson's χ²)."""
    places = 2 ** torch.arange(draws.shape[1] - 1, -1, -1)
    counts = torch.bincount((draws.long() * places).sum(1), minlength=len(p))
    expected = p * len(draws)
    return float(stats.chi2.sf(float(((counts - expected) ** 2 / expected).sum()), len(p) - 1))
