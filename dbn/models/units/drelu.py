"""Double rectified units: a half of a normal distribution on either side of 0, each with a learned precision."""

from collections.abc import Mapping
from typing import NamedTuple, final

import torch
from torch import Tensor, nn

from dbn.arrays import Array, floats
from dbn.models.units import half_line
from dbn.models.units.base import Units
from dbn.models.units.precision import least_variance
from dbn.rng import bernoulli_

MOST_STEPS = 60
"""Of Newton's method with bisection, for the field of a mean; some ten are usual."""


class Sides(NamedTuple):
    """What lies above 0 and what lies below it, its sign changed: `half_line` of t, over √λ. Each of two tensors."""

    t: tuple[Tensor, Tensor]
    root: tuple[Tensor, Tensor]

    def log_masses(self) -> tuple[Tensor, Tensor]:
        """log ∫ over each side."""
        above, below = (half_line.log_integral(t) - root.log() for t, root in zip(self.t, self.root, strict=True))
        return above, below

    def moments(self) -> tuple[tuple[Tensor, Tensor, Tensor], ...]:
        """Of each side its probability, its mean and its variance."""
        above, below = self.log_masses()
        chances = torch.sigmoid(above - below), torch.sigmoid(below - above)
        found = (half_line.moments(t) for t in self.t)
        return tuple(
            (p, mean / root, variance / (root * root))
            for p, (mean, variance), root in zip(chances, found, self.root, strict=True)
        )

    def mean(self) -> Tensor:
        """p₊·m₊ − p₋·m₋."""
        (p, above, _), (q, below, _) = self.moments()
        return p * above - q * below

    def mean_and_variance(self) -> tuple[Tensor, Tensor]:
        """The variance as a sum of positive terms."""
        (p, above, v), (q, below, w) = self.moments()
        return p * above - q * below, p * v + q * w + p * q * (above + below) ** 2


def sides(a: Tensor, threshold: Tensor, log_precision_plus: Tensor, log_precision_minus: Tensor) -> Sides:
    """The sides of units under a = field + bias, in float32 at least."""
    a, threshold = floats(a), floats(threshold)
    above, below = (torch.exp(0.5 * floats(each)) for each in (log_precision_plus, log_precision_minus))
    return Sides(((a - threshold) / above, (-a - threshold) / below), (above, below))


@final
class DReLU(Units):
    """x ∈ ℝ with a threshold η and precisions λ₊ > 0 of x ≥ 0 and λ₋ > 0 of x < 0:

        p(x | field) ∝ exp((field + bias)·x − η·|x| − λ₊·x₊²/2 − λ₋·x₋²/2),    x₊ = max(x, 0), x₋ = min(x, 0)

    That is the potential ½γ₊x₊² + θ₊x₊ + ½γ₋x₋² + θ₋x₋ with γ = λ, θ₊ = η − bias and θ₋ = −η − bias: a normal
    distribution for η = 0 and λ₊ = λ₋, where learning starts; sparse, as a soft threshold, for η > 0; of two modes for
    η < 0; and a rectified unit where a precision is high. Each side is a normal distribution cut off at 0, so that
    energies, likelihoods and samples are exact. λ are learned as their logarithms.

    Tubiana, Cocco & Monasson (2019), "Learning protein constitutive motifs from sequence data".

    >>> DReLU(2).mean(torch.tensor([[-1.0, 3.0]])).detach()  # those of Gaussian units, as nothing is learned yet
    tensor([[-1.0000,  3.0000]])
    """

    kind = "drelu"
    linear_statistics = False
    even = False

    def __init__(self, size: int) -> None:
        super().__init__(size)
        for name in ("threshold", "log_precision_plus", "log_precision_minus"):
            self.register_parameter(name, nn.Parameter(torch.zeros(size, dtype=torch.float32)))

    threshold: Tensor
    log_precision_plus: Tensor
    log_precision_minus: Tensor

    def natural(self) -> dict[str, Tensor]:
        above, below = self.log_precision_plus.exp(), self.log_precision_minus.exp()
        return {"bias": self.bias, "threshold": self.threshold, "precision_plus": above, "precision_minus": below}

    def from_natural(self, natural: Mapping[str, Tensor]) -> dict[str, Tensor]:
        above, below = natural["precision_plus"].log(), natural["precision_minus"].log()
        return {name: natural[name] for name in ("bias", "threshold")} | _logarithms(above, below)

    def parameter_gradient(self, natural_gradient: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """∂/∂ log λ = λ ∂/∂λ."""
        theta = self.natural()
        above, below = (theta[name] * natural_gradient[name] for name in ("precision_plus", "precision_minus"))
        return {name: natural_gradient[name] for name in ("bias", "threshold")} | _logarithms(above, below)

    def statistics(self, x: Array) -> dict[str, Tensor]:
        """T = (x, −|x|, −x₊²/2, −x₋²/2)."""
        x = self.values(x)
        above, below = x.clamp(min=0), x.clamp(max=0)
        return {
            "bias": x,
            "threshold": -x.abs(),
            "precision_plus": -0.5 * above * above,
            "precision_minus": -0.5 * below * below,
        }

    def _sides(self, field: Array) -> Sides:
        a = floats(self.values(field)) + floats(self.bias)
        return sides(a, self.threshold, self.log_precision_plus, self.log_precision_minus)

    def log_partition(self, field: Array) -> Tensor:
        """Σ_i log(∫₊ + ∫₋), with t = (±(field_i + bias_i) − η_i)/√λ: log ∫ = t²/2 + log Φ(t) + ½ log(2π/λ)."""
        return torch.logaddexp(*self._sides(field).log_masses()).sum(-1).to(self.bias.dtype)

    def mean(self, field: Array) -> Tensor:
        """p₊·m₊ − p₋·m₋ of the probabilities and means of the two sides."""
        return self._sides(field).mean().to(self.bias.dtype)

    def expected_statistics(self, field: Array) -> dict[str, Tensor]:
        """E[T], with E[x²] = mean² + variance on either side."""
        (p, above, v), (q, below, w) = self._sides(field).moments()
        expected = {
            "bias": p * above - q * below,
            "threshold": -(p * above + q * below),
            "precision_plus": -0.5 * p * (above * above + v),
            "precision_minus": -0.5 * q * (below * below + w),
        }
        return {name: value.to(self.bias.dtype) for name, value in expected.items()}

    @torch.no_grad()
    def sample(self, field: Array, generator: torch.Generator | None = None) -> Tensor:
        """x ~ p(x | field): a side by its probability (`dbn.rng.bernoulli_`), then a value there by inversion."""
        both = self._sides(field)
        above, below = both.log_masses()
        is_above = bernoulli_(torch.sigmoid(above - below), generator) > 0
        size = half_line.sample(torch.where(is_above, *both.t), generator) / torch.where(is_above, *both.root)
        return torch.where(is_above, size, -size).to(self.bias.dtype)

    @torch.no_grad()
    def divergence(self, x: Array, x_hat: Array) -> Tensor:
        """KL of the units of mean x from those of mean x̂ and the same other parameters: (B,)."""
        mean, mean_hat = floats(self.values(x)), floats(self.values(x_hat))
        field, field_hat = self._field_of(mean), self._field_of(mean_hat)
        of_normalizers = torch.logaddexp(*self._sides(field_hat).log_masses()) - torch.logaddexp(
            *self._sides(field).log_masses()
        )
        return ((field - field_hat) * mean + of_normalizers).sum(-1).to(self.bias.dtype)

    @torch.no_grad()
    def _field_of(self, mean: Tensor) -> Tensor:
        """The field under which the units have this mean: Newton's method, and bisection where it does not halve."""
        precision = torch.where(mean > 0, self.log_precision_plus, self.log_precision_minus)
        field = mean * floats(precision).exp() + mean.sign() * floats(self.threshold) - floats(self.bias)
        low, high = torch.full_like(field, -torch.inf), torch.full_like(field, torch.inf)
        before, close = high, torch.finfo(mean.dtype).eps ** 0.5  # from where one step of Newton's leads to rounding
        for _ in range(MOST_STEPS):
            found, variance = self._sides(field).mean_and_variance()
            excess = found - mean
            is_close = excess.abs() <= close * variance.sqrt()
            low, high = torch.where(excess < 0, field, low), torch.where(excess > 0, field, high)
            newton, middle = field - excess / variance, (low + high) / 2
            is_good = is_close | (excess.abs() < before / 2) & (newton > low) & (newton < high)
            field, before = torch.where(is_good | ~middle.isfinite(), newton, middle), excess.abs()
            if bool(is_close.all()):
                break
        return field

    @torch.no_grad()
    def fit_marginals(self, mean: Tensor, variance: Tensor, n: int) -> None:
        """As of Gaussian units: η = 0, both λ = 1/variance and bias = λ·mean, small variances raised as there."""
        mean, variance = floats(mean), floats(variance)
        precision = 1 / torch.maximum(variance, least_variance(variance))
        self.threshold.zero_()
        self.log_precision_plus.copy_(precision.log())
        self.log_precision_minus.copy_(precision.log())
        self.bias.copy_(precision * mean)

    def as_linear(self, weight: Tensor) -> tuple[Tensor, Tensor, str | nn.Module]:
        """The mean of W x + bias, by a module that has η and both λ of every unit."""
        return weight, self.bias, DoubleReLU(self)

    def support(self) -> Tensor | None:
        return None

    def quadratic_precision(self) -> Tensor | None:
        """The smaller of λ₊ and λ₋."""
        return torch.minimum(self.log_precision_plus, self.log_precision_minus).exp()


def _logarithms(above: Tensor, below: Tensor) -> dict[str, Tensor]:
    return {"log_precision_plus": above, "log_precision_minus": below}


@final
class DoubleReLU(nn.Module):
    """a ↦ the mean of double rectified units under a = W x + bias, with their η, λ₊ and λ₋ as parameters: (…, size).

    >>> activation = DoubleReLU(DReLU(2))
    >>> activation.threshold.data.fill_(1.0)
    tensor([1., 1.])
    >>> activation(torch.tensor([[-2.0, 9.0]])).detach()  # a soft threshold
    tensor([[-1.1611,  8.0000]])
    """

    def __init__(self, units: DReLU) -> None:
        super().__init__()
        self.threshold, self.log_precision_plus, self.log_precision_minus = (
            nn.Parameter(each.detach().clone())
            for each in (units.threshold, units.log_precision_plus, units.log_precision_minus)
        )

    def forward(self, a: Tensor) -> Tensor:
        """The means, (…, size)."""
        return sides(a, self.threshold, self.log_precision_plus, self.log_precision_minus).mean().to(a.dtype)

    def extra_repr(self) -> str:
        """The number of units."""
        return str(len(self.threshold))
