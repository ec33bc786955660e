"""Rectified units with learned precision."""

import math
from typing import final

import torch
from torch import Tensor

from dbn.arrays import Array, floats
from dbn.errors import InputError
from dbn.models.units import half_line
from dbn.models.units.precision import PrecisionUnits, least_variance

LEAST_MEAN = 1e-3
"""Of 1/√λ: `ReLU.divergence` is of means raised to it, as a unit of mean 0 is infinitely far from any other."""


@final
class ReLU(PrecisionUnits):
    """x ≥ 0 with precision λ > 0: p(x | field) ∝ exp((field + bias)·x − λ·x²/2), a normal distribution cut off at 0.

    The most probable x is max(0, (field + bias)/λ). This is no heuristic of noise added and cut: energies, likelihoods
    and samples are exact. With t = (field + bias)/√λ the units are those of `half_line`, over √λ.

    Tubiana, Cocco & Monasson (2019), "Learning protein constitutive motifs from sequence data".
    """

    kind = "relu"
    nonnegative = True
    even = False

    @property
    def limits(self) -> tuple[float, float] | None:
        return 0.0, math.inf

    def range_error(self, least: float, greatest: float) -> str:
        return "" if least >= 0 else "relu units need values of 0 or more: use --visible gaussian for real values"

    def in_support(self, x: Tensor) -> bool:
        """Whether no value of x is below 0, or not a number."""
        return bool((x >= 0).all())

    def check_states(self, x: Tensor, first: int = 0) -> None:
        """InputError unless x is (B, size) without values below 0."""
        self.check_rows(x)
        if not self.in_support(x):
            row, column = (~(x >= 0)).nonzero()[0].tolist()
            raise InputError(
                f"relu units have states of 0 or more only, not {float(x[row, column]):g} as in row {row}, column "
                f"{first + column} (counted from 0): give states alone"
            )

    def _standard(self, field: Array) -> tuple[Tensor, Tensor]:
        """t of every unit and √λ, in float32 at least."""
        root = torch.exp(0.5 * floats(self.log_precision))
        return (floats(self.values(field)) + floats(self.bias)) / root, root

    def log_partition(self, field: Array) -> Tensor:
        """Σ_i t_i²/2 + log Φ(t_i) + ½ log(2π/λ_i)."""
        t, _ = self._standard(field)
        return (half_line.log_integral(t) - 0.5 * floats(self.log_precision)).sum(-1).to(self.bias.dtype)

    def mean(self, field: Array) -> Tensor:
        """(t + φ(t)/Φ(t))/√λ."""
        t, root = self._standard(field)
        return (half_line.moments(t)[0] / root).to(self.bias.dtype)

    def expected_statistics(self, field: Array) -> dict[str, Tensor]:
        """E[T] = (μ, −(μ² + variance)/2)."""
        t, root = self._standard(field)
        mean, variance = half_line.moments(t)
        expected = {"bias": mean / root, "precision": -0.5 * (mean * mean + variance) / (root * root)}
        return {name: value.to(self.bias.dtype) for name, value in expected.items()}

    def sample(self, field: Array, generator: torch.Generator | None = None) -> Tensor:
        """x ~ p(x | field), by inversion: one random number a unit."""
        t, root = self._standard(field)
        return (half_line.sample(t.detach(), generator) / root.detach()).to(self.bias.dtype)

    def divergence(self, x: Array, x_hat: Array) -> Tensor:
        """KL of the units of mean x from those of mean x̂ and the same λ, both means raised to 0.001/√λ: (B,)."""
        root = torch.exp(0.5 * floats(self.log_precision))
        mean, mean_hat = ((floats(self.values(each)) * root).clamp(min=LEAST_MEAN) for each in (x, x_hat))
        t, t_hat = half_line.natural_of_mean(mean), half_line.natural_of_mean(mean_hat)
        of_normalizers = half_line.log_integral(t_hat) - half_line.log_integral(t)
        return ((t - t_hat) * mean + of_normalizers).sum(-1).to(self.bias.dtype)

    @torch.no_grad()
    def fit_marginals(self, mean: Tensor, variance: Tensor, n: int) -> None:
        """λ and bias of that mean and variance, or of that mean alone where variance/mean² is above 0.98.

        No such unit has a ratio of 1 or more. A variance under a thousandth of the greatest is raised to it, and a mean
        to a tenth of the root of that.
        """
        mean, variance = floats(mean), floats(variance)
        floor = least_variance(variance)
        mean = torch.maximum(mean, 0.1 * floor.sqrt())
        t = half_line.natural_of_variation(torch.maximum(variance, floor) / (mean * mean))
        root = half_line.moments(t)[0] / mean
        self.log_precision.copy_(2 * root.log())
        self.bias.copy_(t * root)

    def as_linear(self, weight: Tensor) -> tuple[Tensor, Tensor, str]:
        """max(0, (W x + bias)/λ), the most probable state: the mean, which no activation gives, is above it.

        By 0.8/√λ where it is 0 for W x + bias = 0, and by less and less on either side.
        """
        return weight / self.precision[:, None], self.bias / self.precision, "relu"
