"""Estimates of log Z from the weights of annealed chains: intervals, effective sample sizes, warnings."""

import math
from typing import NamedTuple

from torch import Tensor

from dbn.errors import InputError


class Annealing(NamedTuple):
    """The result of a run, one row per chain."""

    log_weights: Tensor
    """(N,), float64, on the CPU: each an estimate in nats of log Z (with that of the base added), or of a log ratio."""
    states: Tensor
    """(N, V): the final states."""


class LogZ(NamedTuple):
    """log Ẑ in nats, ln(Ẑ ± 3 standard errors), and the effective sample size (Σw)²/Σw².

    The ends are an interval of log Z only if the chains start from exact samples, as those of forward AIS do.
    """

    log_z: float
    lower: float
    upper: float
    effective_sample_size: float


class Bracket(NamedTuple):
    """A forward and a reverse estimate, in nats."""

    forward: LogZ
    reverse: LogZ
    bounds: tuple[float, float] | None
    """[forward's lower end, reverse's upper end]; None where the reverse run did not start from exact samples."""
    difference: float
    """Reverse log Ẑ − forward log Ẑ: near 0 if both are right, but not only then."""
    warnings: list[str]
    """Reasons to doubt the estimates, a sentence each."""


def estimate_log_z(annealing: Annealing, reverse: bool = False) -> LogZ:
    """log of the mean weight Ẑ over chains and ln(Ẑ ± 3 standard errors), −∞ for an end below zero.

    With `reverse`, minus those of 1/Z: the upper end may be +∞. One chain has no standard error: its interval is the
    whole line. InputError for log-weights that are not finite.
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
    # Relative to the maximum, so that nothing overflows.
    shift = float(log_weights.max())
    weights = (log_weights - shift).exp()
    mean = float(weights.mean())
    error = float(weights.std()) / math.sqrt(n) if n > 1 else math.inf
    lower, upper = sorted(sign * (shift + _log(end)) for end in (mean - 3 * error, mean + 3 * error))
    size = float(weights.sum() ** 2 / (weights**2).sum())
    return LogZ(sign * (shift + _log(mean)), lower, upper, size)


def combine(forward: Annealing, reverse: Annealing, exact_start: bool = False, of: str = "log Z") -> Bracket:
    """Both estimates `of` a quantity; with `exact_start`, where both runs started from exact samples, its bounds.

    Warns of an effective sample size below 10 or a tenth of the chains, and of a difference above 1 nat. InputError as
    for `estimate_log_z`.
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
    """A sentence if the effective sample size of a run is below 10, or below a tenth of its chains.

    Uneven weights need more temperatures; where half of the chains or more carry the weight, more chains help.
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


def _log(x: float) -> float:
    return math.log(x) if x > 0 else -math.inf
