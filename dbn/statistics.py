"""Confidence intervals and tests over seeds: Student's t, Holm's correction."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from scipy.special import stdtr, stdtrit

from dbn.errors import InputError

ROUNDING = 1e-12
"""Relative to the values: differences that vary by less are the same."""


class Interval(NamedTuple):
    """A mean, and the half-width of its 95 % confidence interval if there are at least two values."""

    mean: float
    half_width: float | None


def mean_interval(values: Sequence[float]) -> Interval:
    """Mean ± t_{0.975, n−1}·s/√n, Student's interval; no half-width for a single value.

    >>> mean, half_width = mean_interval([1.0, 2.0, 3.0])
    >>> f"{mean} ± {half_width:.3f}"
    '2.0 ± 2.484'

    Raises:
        InputError: no values.
    """
    n = len(values)
    if n == 0:
        raise InputError("a mean needs at least one value")
    sample = torch.tensor(values, dtype=torch.float64, device="cpu")
    if n == 1:
        return Interval(sample.item(), None)
    return Interval(sample.mean().item(), float(stdtrit(n - 1, 0.975)) * sample.std().item() / n**0.5)


def paired_t_test(a: Sequence[float], b: Sequence[float]) -> float | None:
    """Two-sided p of Student's paired t-test for equal means; a[i] and b[i] share a seed.

    None where all differences are the same but for rounding: a test needs a variance. Without any difference p = 1.

    >>> f"{paired_t_test([1.0, 2.0, 3.0], [2.0, 4.0, 3.0]):.3f}"
    '0.225'

    Raises:
        InputError: lists of different lengths, or of fewer than two values.
    """
    if len(a) != len(b) or len(a) < 2:
        raise InputError("a paired test needs two lists of the same length, at least 2")
    difference = torch.tensor([x - y for x, y in zip(a, b, strict=True)], dtype=torch.float64, device="cpu")
    mean, deviation = difference.mean().item(), difference.std().item()
    if deviation <= ROUNDING * max(map(abs, (*a, *b))):
        return 1.0 if list(a) == list(b) else None
    return float(2 * stdtr(len(a) - 1, -abs(mean) / (deviation / len(a) ** 0.5)))


def holm(p: Sequence[float]) -> list[float]:
    """Holm's step-down correction for m tests, each p in its own place (Holm 1979).

    p̃₍ᵢ₎ = max_{j ≤ i} min(1, (m − j + 1)·p₍ⱼ₎), p₍₁₎ ≤ … ≤ p₍ₘ₎: rejecting at p̃ ≤ α keeps the probability of one
    false rejection or more at α or below, however the tests depend on each other.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    corrected, largest = [0.0] * len(p), 0.0
    for rank, place in enumerate(sorted(range(len(p)), key=lambda place: p[place])):
        largest = max(largest, min(1.0, (len(p) - rank) * p[place]))
        corrected[place] = largest
    return corrected
