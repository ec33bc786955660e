"""Exact answers on models small enough to sum over every state, and the tolerance of an average of draws."""

import copy
import os
from itertools import pairwise, product

import numpy as np
import torch
from scipy import stats
from torch import Tensor, nn

from dbn.models.dbn import DBN
from dbn.models.rbm import RBM
from dbn.models.units.base import Units
from dbn.models.units.mixed import Mixed
from dbn.models.units.naming import make_units as units_named

MIXED = "2 bernoulli + 1 gaussian + 3 categorical(states=3)"


def half_line(nodes: int = 32, end: float = 14.0) -> tuple[Tensor, Tensor]:
    """Gauss and Legendre's nodes from 0 to where every density here has ended, and their weights."""
    x, weights = (torch.from_numpy(each) for each in np.polynomial.legendre.leggauss(nodes))
    return (x + 1) * end / 2, weights * end / 2


def both_half_lines() -> tuple[Tensor, Tensor]:
    """The same on either side of 0, where such a density has a kink."""
    x, weights = half_line()
    return torch.cat([-x.flip(0), x]), torch.cat([weights.flip(0), weights])


SIZES = {
    "bernoulli": 3,
    "gaussian": 2,
    "binomial(trials=3)": 2,
    "relu": 2,
    "drelu": 2,
    "spin": 3,
    "categorical(states=3)": 6,
    MIXED: 6,
}
AXES: dict[str, tuple[Tensor, float | Tensor]] = {
    "bernoulli": (torch.tensor([0.0, 1.0], dtype=torch.float64), 1.0),
    "gaussian": (torch.arange(-24, 25, dtype=torch.float64) / 2, 0.5),
    "binomial(trials=3)": (torch.arange(4, dtype=torch.float64), 1.0),
    "relu": half_line(),
    "drelu": both_half_lines(),
    "spin": (torch.tensor([-1.0, 1.0], dtype=torch.float64), 1.0),
    "categorical(states=3)": (torch.eye(3, dtype=torch.float64), 1.0),
    MIXED: (torch.arange(-24, 25, dtype=torch.float64) / 2, 0.5),  # of its Gaussian unit
}
"""The values (K,) that one unit may take, or the states (K, W) of W units together, and the distance between values, or
the weight of each in an integral: a new unit type is a line here and in `SIZES`."""
KINDS = sorted(SIZES)
CONTINUOUS = {kind for kind, (_, step) in AXES.items() if isinstance(step, Tensor) or step != 1}
HIDDEN = [kind for kind in KINDS if kind != MIXED]
DISCRETE = [kind for kind in KINDS if kind not in CONTINUOUS]
EVERY_PAIR = [
    pair for pair in product(KINDS, HIDDEN) if pair not in [(MIXED, each) for each in ("gaussian", "relu", "drelu")]
]
"""(visible, hidden): all whose Z can be listed or integrated here."""
PAIRS = [pair for pair in EVERY_PAIR if "bernoulli" in pair or {*pair} == {"gaussian"}]
"""Every kind on either side of bernoulli ones, and two Gaussian sides; with DBN_EVERY_PAIR in the environment, as `make
proofs` has it, the others too, which takes several times as long."""
if os.environ.get("DBN_EVERY_PAIR"):
    PAIRS = EVERY_PAIR

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


def make_units(kind: str, seed: int = 0) -> Units:
    units = units_named(kind, SIZES[kind]).double()
    randomize(units, seed)
    return units


def make_rbm(visible: str, hidden: str, seed: int = 0) -> RBM:
    """Double precision, coupled as strongly as a finite Z and the grid of a quadrature allow."""
    rbm = RBM(units_named(visible, SIZES[visible]), units_named(hidden, SIZES[hidden])).double()
    randomize(rbm, seed)
    spans = [AXES[kind][0].max() - AXES[kind][0].min() for kind in (visible, hidden) if kind not in CONTINUOUS]
    with torch.no_grad():
        rbm.weight.mul_(2.0 / max(spans) if spans else 0.5)
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

    For units on the whole line the sum is the trapezoid rule, whose error on a Gaussian of deviation σ is about
    exp(−2π²σ²/step²): nothing, for a step under σ.
    """
    if isinstance(units, Mixed):
        parts = [support(part) for part, _ in units.each()]
        number = torch.cartesian_prod(*[torch.arange(len(states)) for states, _ in parts])
        together, weights = zip(
            *[(x[n], weight[n]) for (x, weight), n in zip(parts, number.T, strict=True)], strict=True
        )
        return torch.cat(together, 1), torch.stack(weights).sum(0)
    axis, step = AXES[units.spec]
    sites = units.size // axis[0].numel()
    number = torch.cartesian_prod(*[torch.arange(len(axis))] * sites).reshape(-1, sites)
    log_weights = torch.as_tensor(step, dtype=torch.float64).expand(len(axis)).log()
    return axis[number].reshape(-1, units.size), log_weights[number].sum(1)


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
    difference = seen.mean(0) - mean
    # What does not vary, as a product of two columns of one category, must be met.
    certain = torch.where(difference.abs() < 1e-9, 0.0, torch.inf).to(difference)
    return torch.where(variance < 1e-12, certain, difference / (variance / len(draws)).sqrt())


def _moments(x: Tensor) -> Tensor:
    row, column = torch.triu_indices(x.shape[1], x.shape[1])
    return torch.cat([x, x[:, row] * x[:, column]], 1)


def histogram_chance(draws: Tensor, states: Tensor, p: Tensor) -> float:
    """The probability of a histogram as far from p as that of draws that are each one of the states (Pearson's χ²)."""
    number = (draws.to(states.dtype)[:, None] == states).all(2).long().argmax(1)
    assert torch.equal(states[number], draws.to(states.dtype)), "a draw is none of the states"
    counts = torch.bincount(number, minlength=len(p))
    expected = p * len(draws)
    return float(stats.chi2.sf(float(((counts - expected) ** 2 / expected).sum()), len(p) - 1))
