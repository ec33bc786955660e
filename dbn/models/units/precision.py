"""What real-valued units with one learned precision λ share."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from dbn.arrays import Array, floats
from dbn.models.units.base import Units

LEAST_VARIANCE = 1e-3
"""Of the greatest variance of a column, to which smaller ones are raised."""


class PrecisionUnits(Units):
    """Units with the statistics x and −x²/2 and the parameters bias and λ > 0.

    λ is learned as its logarithm, which keeps it positive.
    """

    linear_statistics = False

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

    def parameter_gradient(self, natural_gradient: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """∂/∂ log λ = λ ∂/∂λ."""
        return {"bias": natural_gradient["bias"], "log_precision": self.precision * natural_gradient["precision"]}

    def support(self) -> Tensor | None:
        return None

    def quadratic_precision(self) -> Tensor | None:
        return self.precision


def least_variance(variance: Tensor) -> Tensor:
    """A thousandth of the greatest variance, or 1 where all are 0."""
    floor = floats(variance).max() * LEAST_VARIANCE
    return torch.where(floor > 0, floor, 1.0)
