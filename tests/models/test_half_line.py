"""The half-line normal distribution in both tails, against many digits, quadrature and its distribution function."""

import math

import mpmath
import numpy as np
import pytest
import torch
from enumeration import CHANCE, Z, rng
from scipy import integrate, special, stats
from torch import Tensor
from torch.testing import assert_close

from dbn.models.units import half_line

T = (
    -1000.0,
    -60.0,
    -37.5,
    -20.0,
    -8.0,
    -5.01,
    -5.0,
    -4.9,
    -3.0,
    -1.0,
    -1e-3,
    0.0,
    1e-3,
    0.5,
    2.0,
    5.0,
    13.5,
    38.0,
    60.0,
)
each_type = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])


def exact(t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """log ∫, mean and variance with sixty digits."""
    found = []
    with mpmath.workdps(60):
        for x in (-mpmath.mpf(each) for each in t.tolist()):
            ratio = mpmath.sqrt(mpmath.pi / 2) * mpmath.exp(x * x / 2) * mpmath.erfc(x / mpmath.sqrt(2))
            mean = 1 / ratio - x
            found.append([float(each) for each in (mpmath.log(ratio), mean, 1 - mean / ratio)])
    log_integral, mean, variance = torch.tensor(found, dtype=torch.float64).T
    return log_integral, mean, variance


@each_type
def test_integral_mean_and_variance_keep_their_digits_in_both_tails(dtype: torch.dtype) -> None:
    t = torch.tensor(T, dtype=dtype)
    found = (half_line.log_integral(t), *half_line.moments(t))
    eps = torch.finfo(dtype).eps
    for value, wanted, rounding in zip(found, exact(t), (4, 200, 4000), strict=True):
        assert value.dtype == dtype
        assert_close(value.double(), wanted, rtol=rounding * eps, atol=2 * eps)


@pytest.mark.parametrize("t", [-60.0, -10.0, 0.0, 10.0, 60.0])
def test_the_integral_is_that_of_a_quadrature(t: float) -> None:
    peak = max(t, 0.0)
    start, end = max(0.0, peak - 12), peak + 40 / (2 - min(t, 0.0))
    value, error = integrate.quad(lambda s: math.exp((t - s / 2) * s - (t - peak / 2) * peak), start, end, limit=500)
    found = float(half_line.log_integral(torch.tensor(t, dtype=torch.float64)))
    assert error < 1e-7 * value
    assert found == pytest.approx(math.log(value) + (t - peak / 2) * peak, abs=1e-7)


def test_derivatives_are_mean_and_variance() -> None:
    """At 0 too, where two branches meet, and where a branch that is not taken overflows."""
    t = torch.tensor(T, dtype=torch.float64, requires_grad=True)
    mean, variance = half_line.moments(t)
    assert_close(torch.autograd.grad(half_line.log_integral(t).sum(), t)[0], mean.detach(), rtol=1e-9, atol=0)
    assert_close(torch.autograd.grad(mean.sum(), t)[0], variance.detach(), rtol=1e-9, atol=1e-15)


def test_means_and_variations_have_their_t() -> None:
    t = torch.tensor(T, dtype=torch.float64)
    mean, variance = half_line.moments(t)
    assert_close(half_line.natural_of_mean(mean), t, rtol=1e-10, atol=1e-10)
    variation = variance / mean**2
    reached = variation < half_line.GREATEST_VARIATION
    assert reached.sum() > 10
    assert_close(half_line.natural_of_variation(variation)[reached], t[reached], rtol=1e-8, atol=1e-8)
    mean, variance = half_line.moments(half_line.natural_of_variation(variation[~reached]))
    assert_close(variance / mean**2, torch.full_like(mean, half_line.GREATEST_VARIATION))


@each_type
@pytest.mark.parametrize("t", [-300.0, -60.0, -6.0, -1.0, -0.01, 0.0, 0.01, 1.0, 4.0, 20.0, 60.0])
def test_draws_follow_their_distribution_function(dtype: torch.dtype, t: float) -> None:
    n = 60_000
    s = half_line.sample(torch.full((n,), t, dtype=dtype), rng(7)).double().numpy()
    assert s.min() >= 0
    below = stats.kstest(s, lambda s: -np.expm1(special.log_ndtr(t - s) - special.log_ndtr(t)))
    assert below.pvalue > CHANCE
    mean, variance = (float(each) for each in half_line.moments(torch.tensor(t, dtype=torch.float64)))
    assert abs(s.mean() - mean) < Z * (variance / n) ** 0.5
    squares = (s - mean) ** 2
    assert abs(squares.mean() - variance) < Z * squares.std() / n**0.5


@each_type
def test_every_random_number_gives_a_finite_draw(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    """The least and the greatest that a generator gives, too."""
    t = torch.tensor(T, dtype=dtype)
    for e in (0.0, torch.finfo(dtype).tiny, 1e-9, 1e-3, 1.0, 17.0, 40.0, 100.0):
        monkeypatch.setattr(Tensor, "exponential_", lambda self, generator=None, e=e: self.fill_(e))
        s = half_line.sample(t)
        assert s.isfinite().all()
        assert (s >= 0).all()
        assert ((s - t).abs() < 20)[t > 0].all()
        if 1e-3 <= e <= 40:  # the fraction of the distribution above s is e^−E
            start = t.double().numpy()
            above = special.log_ndtr(start - s.double().numpy()) - special.log_ndtr(start)
            rounding = 20 * torch.finfo(dtype).eps * max(1.0, e) + 1e-15 * start**2
            assert (abs(above + e) < rounding)[start < 0].all()
