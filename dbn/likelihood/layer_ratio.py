"""The gain in the bound of a stack from one more layer, by annealing from the layer below to it.

The bound of l + 1 layers less that of l is

    E_q[F^h_l(h) − F_{l+1}(h)] − log Z_{l+1}/Z_l,    h ~ q(h | x)

where F^h_l is the free energy of the transposed lower RBM, which has the upper one's visible units. Annealing from the
one to the other estimates the ratio of the Z directly: the errors of two estimates of log Z do not add up. The weights
are even where the upper RBM is still near the transposed lower one. Elsewhere forward and reverse disagree: then the
two log Z tell more.

Neal (2001), "Annealed importance sampling"; Salakhutdinov & Murray (2008), "On the quantitative analysis of deep
belief networks".
"""

import copy
import math
from typing import NamedTuple

import torch
from torch import Tensor

from dbn.errors import InputError
from dbn.likelihood.ais import anneal_between
from dbn.likelihood.annealed_chains import KEPT_NOWHERE, Keep, Progress
from dbn.likelihood.estimates import Bracket, combine
from dbn.models import RBM, Units
from dbn.models.annealing import Path
from dbn.models.values import mean_and_error


class Bridge(NamedTuple):
    """The path from a transposed lower RBM to the one above it."""

    path: Path
    """Both ends have the same number of hidden units: uncoupled ones like the other's are added to the fewer."""
    padding: float
    """log Z of the units added at the upper end minus that of those added at the lower, nats."""


def can_bridge(lower: RBM, upper: RBM) -> bool:
    """Whether the lower visible and the upper hidden units are of one kind."""
    return lower.visible.spec == upper.hidden.spec


@torch.no_grad()
def bridge(lower: RBM, upper: RBM) -> Bridge:
    """InputError where the lower visible and the upper hidden units are of different kinds."""
    if not can_bridge(lower, upper):
        raise InputError(
            f"no path leads from {lower.visible.spec} visible units to {upper.hidden.spec} hidden units two layers up: "
            "compare the two log Z"
        )
    base, of_base = _filled_up(lower.transposed(), upper.hidden)
    rbm, of_rbm = _filled_up(upper, lower.visible)
    return Bridge(Path(base, rbm), of_rbm - of_base)


@torch.no_grad()
def layer_ratio(
    lower: RBM,
    upper: RBM,
    betas: Tensor,
    starts: tuple[Tensor, Tensor],
    generator: torch.Generator,
    progress: Progress | None = None,
    keep: tuple[Keep, Keep] = (KEPT_NOWHERE, KEPT_NOWHERE),
    *,
    exact_starts: bool = False,
) -> Bracket:
    """log Z_{l+1}/Z_l, nats: forward from `starts[0]`, states of the lower RBM's hidden units, in reverse from
    `starts[1]`, states of the upper RBM's visible units, each (N, H_l).

    From exact samples the ends bound it, and forward errs in favor of the upper RBM; from anything else it is a
    diagnostic. betas: (K,), increasing from 0 to 1. keep: of the two runs. A step costs four matrix products.
    InputError as for `bridge` and `anneal_between`.
    """
    path, padding = bridge(lower, upper)
    there = anneal_between(path, betas, starts[0], generator, progress, keep[0])
    back = anneal_between(path, betas, starts[1], generator, progress, keep[1], reverse=True)
    there, back = (run._replace(log_weights=run.log_weights - padding) for run in (there, back))
    return combine(there, back, exact_starts, of="the ratio of two Z")


class Gain(NamedTuple):
    """The gain in the mean bound over some rows, nats per row."""

    mean: float
    """With log Z_{l+1}/Z_l midway between forward and reverse."""
    standard_error: float
    """Over rows alone; infinite for one row."""
    interval: tuple[float, float]
    """The outermost ends of both intervals of the ratio, and 3 standard errors over rows, added in quadrature."""
    forward: float
    reverse: float


def gain(differences: Tensor, ratio: Bracket, weights: Tensor | None = None) -> Gain:
    """differences: (B,), E_q[F^h_l(h) − F_{l+1}(h)] of each row, as `layer_bounds` has them; weights: (B,)."""
    mean, known = mean_and_error(differences, weights)
    error = math.inf if known is None else known
    forward, reverse = ratio.forward, ratio.reverse
    middle = (forward.log_z + reverse.log_z) / 2
    below = max(forward.upper, reverse.upper) - middle
    above = middle - min(forward.lower, reverse.lower)
    found = mean - middle
    ends = found - math.hypot(below, 3 * error), found + math.hypot(above, 3 * error)
    return Gain(found, error, ends, mean - forward.log_z, mean - reverse.log_z)


def _filled_up(rbm: RBM, model: Units) -> tuple[RBM, float]:
    """A copy with more hidden units, of weight 0 and θ as in `model`, up to their number, and log Z of those added."""
    n = rbm.hidden.size
    more = model.with_natural({name: theta[n:] for name, theta in model.natural().items()})
    theta = {name: torch.cat([value, more.natural()[name]]) for name, value in rbm.hidden.natural().items()}
    with rbm.weight.device:  # whatever the default device is
        wide = RBM(copy.deepcopy(rbm.visible), rbm.hidden.with_natural(theta)).to(rbm.weight).requires_grad_(False)
    wide.weight[:n] = rbm.weight
    more = more.cpu().double()  # not every device has float64
    return wide, float(more.log_partition(more.bias.new_zeros(1, more.size)))
