"""Annealed importance sampling: an estimate of log Z with an interval one can check.

Chains move along a path from a base of known Z to the model, or back. At each new β

    log w += log f_new(v) − log f_old(v),    f = exp(−F),

and then one Gibbs step that leaves the new model invariant. Forward from exact draws of the base, E[w] = Z/Z_base:
Jensen's inequality makes it a stochastic lower bound on log Z. Back from exact draws of the model, E[w] = Z_base/Z:
a stochastic upper bound. Where chains do not mix, the first is too low, which flatters the model, and the second too
high, which wrongs it: a model is measured both ways.

Neal (2001), "Annealed importance sampling"; Salakhutdinov & Murray (2008), "On the quantitative analysis of deep
belief networks"; Burda, Grosse & Salakhutdinov (2015), "Accurate and conservative estimates of MRF log-likelihood
using reverse annealing".
"""

import math
from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from dbn.errors import InputError
from dbn.models.annealing import Path

PUBLISHED = ((0.0, 0.0), (500 / 14_500, 0.5), (4_500 / 14_500, 0.9), (1.0, 1.0))
"""How far along each β is reached: Salakhutdinov & Murray's 500 steps to 0.5, 4,000 to 0.9 and 10,000 to 1."""


SHORT = ((0.0, 0.0), (0.3, 0.5), (0.6, 0.9), (1.0, 1.0))
"""The same for fewer steps: theirs scaled down to 1,000 would leave 35 below β = 0.5, and most of the error there."""


TEMPERATURE_SCHEDULES = {"published": (14_501, PUBLISHED), "quick": (1_001, SHORT)}
"""The number of temperatures and where they lie, by name."""


TOGETHER = 500
"""Steps whose terms are added up at once, on the CPU: not every device has float64, and no single step waits for it."""


Progress = Callable[[int], object]
"""Told how many more steps are done, as the `update` of a bar is."""


class Annealing(NamedTuple):
    """What a run measured, a chain a row."""

    log_weights: Tensor
    """(N,), float64, on the CPU: each an estimate in nats of log Z, that of the base added, or of a ratio of two Z."""
    states: Tensor
    """(N, V): where the chains ended."""


class LogZ(NamedTuple):
    """log Ẑ in nats, ln(Ẑ ± 3 standard errors), and (Σw)²/Σw², how many equal weights tell as much."""

    log_z: float
    lower: float
    upper: float
    effective_sample_size: float


class Bracket(NamedTuple):
    """What a forward and a reverse run say together, in nats."""

    forward: LogZ
    reverse: LogZ
    bounds: tuple[float, float] | None
    """[forward's lower end, reverse's upper end]; None if the reverse run is a diagnostic and bounds nothing."""
    difference: float
    """Reverse log Ẑ − forward log Ẑ: near 0 if both are right, and not only if."""
    warnings: list[str]
    """Sentences about what makes the figures doubtful."""


def temperature_schedule(name_or_count: str | int) -> Tensor:
    """Increasing β from 0 to 1, float64: by name (`TEMPERATURE_SCHEDULES`), or so many in the proportions of `SHORT`.

    Salakhutdinov & Murray (2008), section 6.1. Raises InputError for an unknown name and for fewer than two.
    """
    unknown = (0, SHORT)
    count, knots = (
        TEMPERATURE_SCHEDULES.get(name_or_count, unknown) if isinstance(name_or_count, str) else (name_or_count, SHORT)
    )
    if count < 2:
        names = ", ".join(TEMPERATURE_SCHEDULES)
        raise InputError(f"no annealing schedule {name_or_count!r}: give one of {names}, or 2 or more temperatures")
    position = torch.linspace(0, 1, count, dtype=torch.float64)
    betas = torch.zeros_like(position)
    for (start, low), (end, high) in pairwise(knots):
        betas += ((position - start) / (end - start)).clamp(0, 1) * (high - low)
    betas[-1] = 1.0
    return betas


@torch.no_grad()
def ais(
    path: Path, betas: Tensor, chains: int, generator: torch.Generator, progress: Progress | None = None
) -> Annealing:
    """Forward, from exact draws of the base: the mean of exp(log_weights) is unbiased for Z.

    betas: (K,) from 0 to 1, increasing. The states end near the model, one Gibbs step at β = 1 included. A step
    costs two matrix products. Raises InputError for other betas, for no chains, for parameters that are not
    finite, for a base that is coupled and for a model without a finite Z.
    """
    positions, log_z = _positions(path, betas), path.base_log_partition()
    if chains < 1:
        raise InputError(f"annealed importance sampling needs at least one chain, not {chains}")
    base = path.base.visible
    start = base.sample(base.bias.new_zeros(chains, base.size), generator)
    log_ratios, states = _anneal(path, positions, start, generator, progress)
    return Annealing(log_z + log_ratios, states)


@torch.no_grad()
def reverse_ais(
    path: Path, betas: Tensor, start: Tensor, generator: torch.Generator, progress: Progress | None = None
) -> Annealing:
    """Back to the base, from `start` (N, V), states of the full model.

    From exact samples the mean of exp(−log_weights) is unbiased for 1/Z, so that −log of it is a stochastic upper
    bound on log Z. From anything else (data, the end points of `ais`) it is a diagnostic that bounds nothing.
    betas as for `ais`, increasing. Raises InputError as `ais` does, and for a start of another shape.
    """
    log_z = path.base_log_partition()
    back = ratio_ais(path, betas, start, generator, progress, reverse=True)
    return back._replace(log_weights=log_z + back.log_weights)


@torch.no_grad()
def ratio_ais(
    path: Path,
    betas: Tensor,
    start: Tensor,
    generator: torch.Generator,
    progress: Progress | None = None,
    *,
    reverse: bool = False,
) -> Annealing:
    """log Z/Z_base along a path whose base may be coupled, from `start` (N, V): states of the base, or of the model.

    From exact samples of the base the mean of exp(log_weights) is unbiased for Z/Z_base. With `reverse`, from those of
    the model, the mean of exp(−log_weights) is for Z_base/Z. From anything else neither is. betas and InputError
    as for `reverse_ais`.
    """
    positions = _positions(path, betas)
    if start.ndim != 2 or not len(start) or start.shape[1] != path.rbm.visible.size:
        raise InputError(
            f"annealing needs states of {path.rbm.visible.size} visible units, one a row, to start from, "
            f"not a tensor of shape {tuple(start.shape)}"
        )
    start = start.to(path.rbm.weight)
    if not start.isfinite().all():
        raise InputError("annealing was given states that are not finite to start from: leave those rows out")
    support = path.rbm.visible.support()
    if support is not None and not path.rbm.visible.in_support(start):
        raise InputError(
            f"annealing must start from states that the visible units take, {support.tolist()}: binarise them"
        )
    log_ratios, states = _anneal(path, positions[::-1] if reverse else positions, start, generator, progress)
    return Annealing(-log_ratios if reverse else log_ratios, states)


def estimate_log_z(annealing: Annealing, reverse: bool = False) -> LogZ:
    """log of the mean weight Ẑ over chains and ln(Ẑ ± 3 standard errors), −∞ for what lies below zero.

    With `reverse` the mean and its interval are those of 1/Z, turned: the upper end may be +∞. One chain has no
    standard error, so its interval is the whole line. Raises InputError for log-weights that are not finite.
    """
    sign = -1 if reverse else 1
    log_weights = sign * annealing.log_weights
    finite = log_weights.isfinite()
    n = len(finite)
    if not finite.all():
        raise InputError(
            f"{n - int(finite.sum())} of {n} annealed chains have a log-weight that is not finite: check the model "
            "and the states that the chains started from"
        )
    # Relative to the greatest, so that nothing overflows.
    shift = float(log_weights.max())
    weights = (log_weights - shift).exp()
    mean = float(weights.mean())
    error = float(weights.std()) / math.sqrt(n) if n > 1 else math.inf
    lower, upper = sorted(sign * (shift + _log(end)) for end in (mean - 3 * error, mean + 3 * error))
    size = float(weights.sum() ** 2 / (weights**2).sum())
    return LogZ(sign * (shift + _log(mean)), lower, upper, size)


def bracket(forward: Annealing, reverse: Annealing, exact_start: bool = False, of: str = "log Z") -> Bracket:
    """Both runs side by side; a bracket `of` what they estimate only if they started from exact samples.

    Warns of an effective sample size below 10 or a tenth of the chains, and of a difference above 1 nat. Raises
    InputError as `estimate_log_z` does.
    """
    up, down = estimate_log_z(forward), estimate_log_z(reverse, reverse=True)
    difference = down.log_z - up.log_z
    warnings = [*ess_warnings("forward", forward, up), *ess_warnings("reverse", reverse, down)]
    if abs(difference) > 1:
        warnings.append(
            f"The forward and the reverse estimate of {of} differ by {abs(difference):.2f} nats, so neither can be "
            "relied on; use more temperatures, and doubt that the chains mix."
        )
    return Bracket(up, down, (up.lower, down.upper) if exact_start else None, difference, warnings)


def ess_warnings(name: str, run: Annealing, found: LogZ) -> list[str]:
    """A sentence if few of a run's chains carry the weight: below 10, or below a tenth of them.

    More temperatures help where the weights are uneven; where half of the chains or more carry them, more chains do.
    """
    chains = len(run.log_weights)
    if found.effective_sample_size >= max(10, chains / 10):
        return []
    even = found.effective_sample_size >= chains / 2
    advice = "says little; use more chains" if even else "may be too narrow; use more temperatures"
    return [
        f"The {name} run has an effective sample size of {found.effective_sample_size:.1f} out of {chains} chains, so "
        f"its interval {advice}."
    ]


def _anneal(
    path: Path, positions: list[float], v: Tensor, generator: torch.Generator, progress: Progress | None
) -> tuple[Tensor, Tensor]:
    """Σ log f_new(v) − log f_old(v) over the steps, (N,) in float64, and the last states."""
    total = torch.zeros(len(v), dtype=torch.float64)
    terms: list[Tensor] = []
    steps = len(positions) - 1
    every = max(1, steps // 200)
    model = path.at(positions[0])
    for step, position in enumerate(positions[1:], 1):
        before, model = model, path.at(position)
        # One product serves the weight and the hidden units.
        product = path.product(v)
        terms.append(path.log_ratio(v, product, before, model))
        v = model.sample_visible(model.hidden.sample(path.field(product, position), generator), generator)
        if len(terms) == TOGETHER or step == steps:
            total += torch.stack(terms).cpu().double().sum(0)
            terms.clear()
        if progress is not None and (step % every == 0 or step == steps):
            progress(every if step % every == 0 else steps % every)
    return total, v


def _positions(path: Path, betas: Tensor) -> list[float]:
    """The betas as numbers, the model and they found fit for use."""
    positions: list[float] = betas.cpu().double().tolist() if betas.ndim == 1 else []
    rising = all(low < high for low, high in pairwise(positions))  # and no nan
    if not rising or (positions[:1], positions[-1:]) != ([0], [1]):
        raise InputError("the temperatures of annealed importance sampling must increase from 0 to 1: see schedule()")
    for name, model in (("model", path.rbm), ("base", path.base)):
        for parameter, value in model.named_parameters():
            if not value.isfinite().all():
                raise InputError(f"the {name}'s {parameter} is not finite: no log Z can be estimated")
    if not (path.base.has_partition() and path.rbm.has_partition()):
        raise InputError(
            "the model has no finite Z: its two unbounded layers are coupled too strongly; make the weights smaller"
        )
    return positions


def _log(x: float) -> float:
    return math.log(x) if x > 0 else -math.inf
