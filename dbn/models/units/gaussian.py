"""Gaussian units with learned precision."""

import math
from typing import final

import torch
from torch import Tensor

from dbn.arrays import Array, floats
from dbn.models.units.precision import PrecisionUnits, least_variance


@final
class Gaussian(PrecisionUnits):
    """x ∈ ℝ with precision λ > 0: p(x | field) = N(x; (field + bias)/λ, 1/λ)."""

    kind = "gaussian"
    standardized = True

    def expected_statistics(self, field: Array) -> dict[str, Tensor]:
        """E[T] = (μ, −(μ² + 1/λ)/2)."""
        mean = self.mean(field)
        return {"bias": mean, "precision": -0.5 * (mean * mean + 1 / self.precision)}

    def log_partition(self, field: Array) -> Tensor:
        """Σ_i (field_i + bias_i)²/(2λ_i) + ½ log(2π/λ_i)."""
        total = self.values(field) + self.bias
        return (0.5 * (total * total / self.precision + math.log(2 * math.pi) - self.log_precision)).sum(-1)

    def mean(self, field: Array) -> Tensor:
        """(field + bias)/λ."""
        return (self.values(field) + self.bias) / self.precision

    def sample(self, field: Array, generator: torch.Generator | None = None) -> Tensor:
        """The mean plus noise of standard deviation λ^−½."""
        mean = self.mean(field)
        noise = torch.empty_like(mean, requires_grad=False).normal_(generator=generator)
        return mean + noise * torch.exp(-0.5 * self.log_precision)

    def divergence(self, x: Array, x_hat: Array) -> Tensor:
        """Σ_i λ_i (x_i − x̂_i)²/2."""
        return (0.5 * self.precision * (self.values(x) - self.values(x_hat)) ** 2).sum(-1)

    @torch.no_grad()
    def fit_marginals(self, mean: Tensor, variance: Tensor, n: int) -> None:
        """λ = 1/variance and bias = λ·mean; a variance under a thousandth of the greatest is raised to it."""
        mean, variance = floats(mean), floats(variance)
        precision = 1 / torch.maximum(variance, least_variance(variance))
        self.log_precision.copy_(precision.log())
        self.bias.copy_(precision * mean)

    def as_linear(self, weight: Tensor) -> tuple[Tensor, Tensor, str]:
        """(W x + bias)/λ, without activation."""
        return weight / self.precision[:, None], self.bias / self.precision, "identity"
