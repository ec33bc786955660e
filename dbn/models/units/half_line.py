"""The half-line normal distribution p(s) ∝ exp(t·s − s²/2), s ≥ 0, for every real t: a normal one cut off at 0.

Everything is elementwise in t, in float32 or float64, and keeps its precision in both tails: towards t = ∞, where it is
N(t, 1), and towards t = −∞, where it is exponential with mean −1/t.
"""

import math

import torch
from torch import Tensor

FRACTION_FROM, FRACTION_TERMS = 5.0, 24
"""Laplace's continued fraction is taken for t < −5, where its error with as many terms is below a double's rounding."""
NEWTON_STEPS = 5
"""From the starts below, to the rounding of a double."""
GREATEST_VARIATION = 0.98
"""Of variance/mean², which is below 1 for every t, and 1 − 2/t² far down."""


def log_integral(t: Tensor) -> Tensor:
    """log ∫₀^∞ exp(t·s − s²/2) ds = t²/2 + log Φ(t) + ½ log 2π."""
    falls, scaled, fraction = _parts(t)
    return torch.where(falls, scaled.log(), 0.5 * t * t + torch.log(2 - fraction)) + 0.5 * math.log(math.pi / 2)


def moments(t: Tensor) -> tuple[Tensor, Tensor]:
    """Mean m and variance v. With r = φ(t)/Φ(t): m = t + r and v = 1 − r·m; far down they cancel, and by Laplace

    m = 1/(x + 2/(x + 3/(x + …))),    v = m·(c − m),    x = −t, c = 2/(x + 3/(x + …)).
    """
    falls, scaled, fraction = _parts(t)
    r = math.sqrt(2 / math.pi) * torch.where(falls, 1 / scaled, torch.exp(-0.5 * t * t) / (2 - fraction))
    x = (-t).clamp(min=FRACTION_FROM)
    c = torch.zeros_like(t)
    for k in range(FRACTION_TERMS, 1, -1):
        c = k / (x + c)
    far, m = 1 / (x + c), t + r
    is_far = t < -FRACTION_FROM
    return torch.where(is_far, far, m), torch.where(is_far, far * (c - far), 1 - r * m)


def natural_of_mean(m: Tensor) -> Tensor:
    """The t whose mean is m > 0, by Newton's method: m(t) is convex, and −1/m + m below its root."""
    t = m - 1 / m
    for _ in range(NEWTON_STEPS):
        mean, variance = moments(t)
        t = t + (m - mean) / variance
    return t


def natural_of_variation(variation: Tensor) -> Tensor:
    """The t whose variance/mean² is `variation`, at most `GREATEST_VARIATION`, by bisection."""
    variation = variation.clamp(max=GREATEST_VARIATION)
    # Of the logarithm of about the mean, as above; 1/t² is the variation far up.
    low, high = torch.full_like(variation, math.log(0.05)), 1 - 0.5 * variation.log()
    for _ in range(60):
        middle = (low + high) / 2
        mean, variance = moments(middle.exp() - (-middle).exp())
        is_above = variance > variation * mean * mean
        low, high = torch.where(is_above, middle, low), torch.where(is_above, high, middle)
    return low.exp() - (-low).exp()


def sample(t: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """s ~ p(s), by inversion, without rejection: P(S > s) = e^−E for one standard exponential E.

    For t ≥ 0 s = t + √2·erf⁻¹(1 − 2Φ(t)·e^−E), at most 5.3 (in float64 8.1) from t; for t < 0 s solves

        log erfcx(x/√2) − log erfcx((x + s)/√2) + x·s + s²/2 = E,    x = −t,

    whose left side is convex, by Newton's method from above, where the first two terms are 0.
    """
    falls, scaled, fraction = _parts(t)
    e = torch.empty_like(t).exponential_(generator=generator)
    edge = 1 - torch.finfo(t.dtype).eps
    above = t + math.sqrt(2) * torch.erfinv((1 - (2 - fraction) * torch.exp(-e)).clamp(-edge, edge))
    x = (-t).clamp(min=0)
    s = 2 * e / (x + (x * x + 2 * e).sqrt())
    for _ in range(NEWTON_STEPS):
        at_s = torch.special.erfcx((x + s) / math.sqrt(2))
        excess = torch.log(scaled / at_s) + s * (x + 0.5 * s) - e
        s = s - excess * at_s * math.sqrt(math.pi / 2)
    return torch.where(falls, s, above).clamp(min=0)


def _parts(t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Whether t < 0, erfcx(|t|/√2), and 2Φ(−|t|) = exp(−t²/2)·erfcx(|t|/√2)."""
    falls = t < 0
    a = torch.where(falls, -t, t)  # not abs, whose derivative at 0 is 0
    scaled = torch.special.erfcx(a / math.sqrt(2))
    return falls, scaled, torch.exp(-0.5 * a * a) * scaled
