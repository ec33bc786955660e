"""What a further layer brings to the bound of a stack, by annealing from the layer below to it.

The bound of l + 1 layers less that of l is

    E_q[F^h_l(h) − F_{l+1}(h)] − log Z_{l+1}/Z_l,    h ~ q(h | x)

where F^h_l is the free energy of the lower RBM seen from its hidden side: that of the same RBM turned round, which has
the upper one's visible units. Annealing from the one to the other estimates the ratio of the Z at once, so that the
errors of two estimates of log Z do not add up. Where the upper RBM started as the lower turned round and has not gone
far, the path is short and the weights are even. Elsewhere, forward and reverse disagree: then the two log Z tell more.

Neal (2001), "Annealed importance sampling"; Salakhutdinov & Murray (2008), "On the quantitative analysis of deep
belief networks".
"""

import copy
import math
from typing import NamedTuple

import torch
from torch import Tensor

from dbn.errors import InputError
from dbn.likelihood.ais import Bracket, Progress, bracket, ratio_ais
from dbn.models.annealing import Path
from dbn.models.rbm import RBM
from dbn.models.units.base import Units


class Bridge(NamedTuple):
    """The way from a lower RBM, turned round, to the one on top of it."""

    path: Path
    """Both ends have as many hidden units: the fewer are filled up with uncoupled ones like those of the other."""
    padding: float
    """log Z of the units added at the upper end less that of those added at the lower, nats."""


def can_bridge(lower: RBM, upper: RBM) -> bool:
    """Whether the lower one's visible units are of the kind of the upper one's hidden units."""
    return lower.visible.kind == upper.hidden.kind


@torch.no_grad()
def bridge(lower: RBM, upper: RBM) -> Bridge:
    """InputError for a lower RBM whose visible units are of another kind than the upper one's hidden units."""
    if not can_bridge(lower, upper):
        raise InputError(
            f"no path leads from {lower.visible.kind} visible units to {upper.hidden.kind} hidden units two layers up: "
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
    *,
    exact_starts: bool = False,
) -> Bracket:
    """log Z_{l+1}/Z_l, nats, there from `starts[0]`, states of the lower RBM's hidden units, and back from `starts[1]`,
    states of the upper RBM's visible units, each (N, H_l).

    From exact samples of the two the ends bound it, as those of log Z do, and forward errs in favour of the upper RBM;
    from anything else this is a diagnostic. betas: (K,) from 0 to 1, increasing. A step costs four matrix products.
    InputError as for `bridge` and `dbn.likelihood.ais.ratio_ais`.
    """
    path, padding = bridge(lower, upper)
    there = ratio_ais(path, betas, starts[0], generator, progress)
    back = ratio_ais(path, betas, starts[1], generator, progress, reverse=True)
    there, back = (run._replace(log_weights=run.log_weights - padding) for run in (there, back))
    return bracket(there, back, exact_starts, of="the ratio of two Z")


class Gain(NamedTuple):
    """What an upper RBM adds to the mean bound over some rows, nats a row."""

    mean: float
    """With log Z_{l+1}/Z_l midway between forward and reverse."""
    standard_error: float
    """Over the rows alone; infinite for a single one."""
    interval: tuple[float, float]
    """From the lowest to the highest end of both intervals of the ratio, and 3 standard errors over rows, the distances
    from the mean added in quadrature."""
    forward: float
    reverse: float


def gain(differences: Tensor, ratio: Bracket) -> Gain:
    """differences: (B,), E_q[F^h_l(h) − F_{l+1}(h)] of each row, as `layer_bounds` has them."""
    mean, n = float(differences.mean()), len(differences)
    error = float(differences.std()) / math.sqrt(n) if n > 1 else math.inf
    forward, reverse = ratio.forward, ratio.reverse
    middle = (forward.log_z + reverse.log_z) / 2
    below = max(forward.upper, reverse.upper) - middle
    above = middle - min(forward.lower, reverse.lower)
    found = mean - middle
    ends = found - math.hypot(below, 3 * error), found + math.hypot(above, 3 * error)
    return Gain(found, error, ends, mean - forward.log_z, mean - reverse.log_z)


def _filled_up(rbm: RBM, model: Units) -> tuple[RBM, float]:
    """A copy with hidden units of weight 0 like the last of `model`, if those are more, and log Z of what was added."""
    n = rbm.hidden.size
    more = model.with_natural({name: theta[n:] for name, theta in model.natural().items()})
    theta = {name: torch.cat([value, more.natural()[name]]) for name, value in rbm.hidden.natural().items()}
    wide = RBM(copy.deepcopy(rbm.visible), rbm.hidden.with_natural(theta)).to(rbm.weight).requires_grad_(False)
    wide.weight[:n] = rbm.weight
    more = more.cpu().double()  # not every device has float64
    return wide, float(more.log_partition(more.bias.new_zeros(1, more.size)))
