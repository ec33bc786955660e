"""Gaussian units with learned precision."""

import math
from collections.abc import Mapping
from typing import final

import torch
from torch import Tensor, nn

from dbn.arrays import Array, floats
from dbn.models.units.base import Units


@final
class Gaussian(Units):
    """x ∈ ℝ with precision λ > 0: p(x | field) = N(x; (field + bias)/λ, 1/λ).

    λ is learned as its logarithm, which keeps it positive.
    """

    kind = "gaussian"
    linear_statistics = False
    standardized = True

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self.log_precision = nn.Parameter(torch.zeros(size, dtype=torch.float32))

    @property
    def precision(self) -> Tensor:
        """λ, (size,)."""
        return self.log_precision.exp()

    def natural(self) -> dict[str, Tensor]:
        return {"bias": self.bias, "precision": self.precision}

    def from_natural(self, natural: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {"bias": natural["bias"], "log_precision": natural["precision"].log()}

    def statistics(self, x: Array) -> dict[str, Tensor]:
        """T = (x, −x²/2)."""
        x = self.values(x)
        return {"bias": x, "precision": -0.5 * x * x}

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

    def parameter_gradient(self, natural_gradient: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """∂/∂ log λ = λ ∂/∂λ."""
        return {"bias": natural_gradient["bias"], "log_precision": self.precision * natural_gradient["precision"]}

    @torch.no_grad()
    def fit_marginals(self, mean: Tensor, variance: Tensor, n: int) -> None:
        """λ = 1/variance and bias = λ·mean; a variance under a thousandth of the greatest is raised to it."""
        mean, variance = floats(mean), floats(variance)
        floor = variance.max() * 1e-3
        precision = 1 / torch.maximum(variance, torch.where(floor > 0, floor, 1.0))
        self.log_precision.copy_(precision.log())
        self.bias.copy_(precision * mean)

    def as_linear(self, weight: Tensor) -> tuple[Tensor, Tensor, str]:
        """(W x + bias)/λ, without activation."""
        return weight / self.precision[:, None], self.bias / self.precision, "identity"

    def support(self) -> Tensor | None:
        return None

    def quadratic_precision(self) -> Tensor | None:
        return self.precision
