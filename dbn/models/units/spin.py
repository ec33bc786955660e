"""Units of −1 and 1, the spins of the Ising model."""

from typing import final

import torch
from torch import Tensor
from torch.nn import functional as F

from dbn.arrays import Array, floats
from dbn.models.units.base import Units
from dbn.models.units.bernoulli import kl_of_bits
from dbn.rng import bernoulli_


@final
class Spin(Units):
    """x ∈ {−1, 1} with p(x = 1 | field) = σ(2(field + bias)).

    >>> Spin(3).sample(torch.tensor([[-9.0, 9.0, 9.0]]))
    tensor([[-1.,  1.,  1.]])
    """

    kind = "spin"
    linear_statistics = True

    def range_error(self, least: float, greatest: float) -> str:
        # Values in [−1, 1] are means; but a least value from 0 to below 1 is that of bits or of gray levels.
        if least >= -1 and greatest <= 1 and not 0 <= least < 1:
            return ""
        if least >= 0 and greatest <= 1:
            return "spin units need values of -1 and 1: give 2x - 1, or use --visible bernoulli for values in [0, 1]"
        return "spin units need values in [-1, 1]: bring them there, or use --visible gaussian for real values"

    def log_partition(self, field: Array) -> Tensor:
        """Σ_i log 2 cosh(field_i + bias_i)."""
        size = (self.values(field) + self.bias).abs()
        return (size + F.softplus(-2 * size)).sum(-1)

    def mean(self, field: Array) -> Tensor:
        """tanh(field + bias)."""
        return (self.values(field) + self.bias).tanh_()

    def sample(self, field: Array, generator: torch.Generator | None = None) -> Tensor:
        """x ~ p(x | field); see `dbn.rng.bernoulli_`."""
        up = (2 * (self.values(field) + self.bias)).detach().sigmoid_()
        return bernoulli_(up, generator).mul_(2).sub_(1)

    def divergence(self, x: Array, x_hat: Array) -> Tensor:
        """KL of two-point distributions with these means, p(1) = (1 + x)/2."""
        return kl_of_bits((1 + self.values(x)) / 2, (1 + self.values(x_hat)) / 2)

    @torch.no_grad()
    def fit_marginals(self, mean: Tensor, variance: Tensor, n: int) -> None:
        """bias = artanh of the mean, with one example of either value added: mean·n/(n + 2)."""
        total = floats(mean) * n
        self.bias.copy_((torch.log(n + 2 + total) - torch.log(n + 2 - total)) / 2)

    def as_linear(self, weight: Tensor) -> tuple[Tensor, Tensor, str]:
        """tanh(W x + bias)."""
        return weight, self.bias, "tanh"

    @property
    def limits(self) -> tuple[float, float] | None:
        return -1.0, 1.0

    def support(self) -> Tensor | None:
        return self.bias.new_tensor((-1.0, 1.0))

    def quadratic_precision(self) -> Tensor | None:
        return None
