"""Binary units."""

from typing import final

import torch
from torch import Tensor
from torch.nn import functional as F

from dbn.arrays import Array, as_values, floats
from dbn.models.units.base import Units
from dbn.models.values import to_fractions
from dbn.rng import bernoulli, bernoulli_

LINEAR_IN_DOUBLE = 40
"""log(1 + eˣ) is x above it, to the precision of a double; torch's own threshold, 20, is single precision's."""

MOST_COUNTS = 100
"""Whole numbers above it are hardly counts of trials or codes of categories."""


@final
class Bernoulli(Units):
    """x ∈ {0, 1} with p(x = 1 | field) = σ(field + bias)."""

    kind = "bernoulli"
    linear_statistics = True

    def range_error(self, least: float, greatest: float) -> str:
        # Values in [0, 1] are probabilities.
        if least >= 0 and greatest <= 1:
            return ""
        others = ["--visible gaussian for real values"]
        if (least, greatest) == (-1, 1):
            others.insert(0, "--visible spin for values of -1 and 1")
        elif least >= 0 and greatest == round(greatest) <= MOST_COUNTS:
            others.insert(0, f"--visible categorical(states={greatest + 1:g}) for codes of categories")
            others.insert(0, f"--visible binomial(trials={greatest:g}) for counts")
        return (
            f"Bernoulli units need values in [0, 1]: {to_fractions(least, greatest)}, or use "
            + ", ".join(others[:-1])
            + " or " * (len(others) > 1)
            + others[-1]
        )

    def log_partition(self, field: Array) -> Tensor:
        """Σ_i log(1 + exp(field_i + bias_i))."""
        return softplus(self.values(field) + self.bias).sum(-1)

    def mean(self, field: Array) -> Tensor:
        """σ(field + bias)."""
        bias = self.bias
        return (as_values(field, bias.dtype) + bias).sigmoid_()

    def sample(self, field: Array, generator: torch.Generator | None = None) -> Tensor:
        """x ~ p(x | field); what a draw is good for, rare events and NaN are in `dbn.rng.bernoulli_`."""
        return bernoulli_(self.mean(field).detach(), generator)

    def sample_and_expect(
        self, field: Array, generator: torch.Generator | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        mean = self.mean(field)
        return bernoulli(mean.detach(), generator), {"bias": mean}

    def divergence(self, x: Array, x_hat: Array) -> Tensor:
        """Σ_i x log(x/x̂) + (1−x) log((1−x)/(1−x̂)), x̂ kept one rounding step away from 0 and 1."""
        return kl_of_bits(self.values(x), self.values(x_hat))

    @torch.no_grad()
    def fit_marginals(self, mean: Tensor, variance: Tensor, n: int) -> None:
        """bias = log p/(1−p) with Laplace's p = (Σx + 1)/(n + 2)."""
        mean = floats(mean)
        # Not by p, which rounds to 1 where many rows are all 1.
        self.bias.copy_(torch.log(mean * n + 1) - torch.log((1 - mean) * n + 1))

    def as_linear(self, weight: Tensor) -> tuple[Tensor, Tensor, str]:
        """σ(W x + bias)."""
        return weight, self.bias, "sigmoid"

    def support(self) -> Tensor | None:
        return self.bias.new_tensor((0.0, 1.0))

    def quadratic_precision(self) -> Tensor | None:
        return None


def softplus(total: Tensor) -> Tensor:
    """log(1 + exp(total)) of every element, in the precision of its type."""
    return F.softplus(total, threshold=LINEAR_IN_DOUBLE if total.dtype == torch.float64 else 20)


def kl_of_bits(x: Tensor, x_hat: Tensor) -> Tensor:
    """Σ_i KL of a bit that is 1 with probability x_i from one with x̂_i, (B,), x̂ kept a rounding step from 0 and 1."""
    step = torch.finfo(x_hat.dtype).eps
    x_hat = x_hat.clamp(step, 1 - step)
    return (torch.xlogy(x, x) - torch.xlogy(x, x_hat) + torch.xlogy(1 - x, 1 - x) - torch.xlogy(1 - x, 1 - x_hat)).sum(
        -1
    )
