"""Counts up to a given number."""

from numbers import Integral
from typing import Any, final

import torch
from torch import Tensor

from dbn.arrays import Array, floats
from dbn.errors import InputError
from dbn.models.units.base import Units
from dbn.models.units.bernoulli import kl_of_bits, softplus
from dbn.rng import bernoulli_

FEW_TRIALS = 32
"""Up to so many are drawn one by one, of which a CPU does several in the time of one binomial number."""


@final
class Binomial(Units):
    """x ∈ {0, …, n} with p(x | field) = C(n, x)·pˣ·(1 − p)ⁿ⁻ˣ and p = σ(field + bias), where n is `trials`.

    As n Bernoulli units that share their weights and bias, of which x counts those that are on. log C(n, x) is a part
    of the energy without a parameter: it is neither learned nor annealed. The mean n·p divided by n is what the layer
    of a network gives, the next layer's weights being multiplied by n.

    Teh & Hinton (2001), "Rate-coded restricted Boltzmann machines for face recognition".
    """

    kind = "binomial"
    linear_statistics = True
    counts = True

    def __init__(self, size: int, trials: int) -> None:
        super().__init__(size)
        given: Any = trials
        if not isinstance(given, Integral) or trials < 1:
            raise InputError(f"the trials of binomial units must be a whole number above 0, not {trials!r}")
        self.trials = int(trials)

    def range_error(self, least: float, greatest: float) -> str:
        if least < 0:
            return "binomial units need counts, of 0 or more: use --visible gaussian for real values"
        if greatest > self.trials:
            return (
                f"{self.spec} units have no counts above {self.trials}: give binomial(trials=…) with trials at least "
                f"the greatest value {greatest:g}"
            )
        return ""

    def energy(self, x: Array) -> Tensor:
        """−bias·x − Σ_i log C(n, x_i)."""
        return super().energy(x) - self._log_ways(x)

    def _log_ways(self, x: Array) -> Tensor:
        """Σ_i log C(n, x_i), between whole numbers by the gamma function: (B,)."""
        values = self.values(x)
        # The logarithms are far larger than what is left of them; not every device has float64.
        x = floats(values) if values.device.type == "mps" else values.double()
        n = torch.full_like(x[..., :1], self.trials)
        return (torch.lgamma(n + 1) - torch.lgamma(x + 1) - torch.lgamma(n - x + 1)).sum(-1).to(values.dtype)

    def log_partition(self, field: Array) -> Tensor:
        """n·Σ_i log(1 + exp(field_i + bias_i))."""
        return self.trials * softplus(self.values(field) + self.bias).sum(-1)

    def mean(self, field: Array) -> Tensor:
        """n·σ(field + bias)."""
        return self._probability(field) * self.trials

    def _probability(self, field: Array) -> Tensor:
        return (self.values(field) + self.bias).sigmoid_()

    def sample(self, field: Array, generator: torch.Generator | None = None) -> Tensor:
        """x ~ p(x | field), as the sum of few Bernoulli numbers (`dbn.rng.bernoulli_`) or by `torch.binomial`."""
        p = self._probability(field).detach()
        if self.trials <= FEW_TRIALS or p.device.type == "mps":  # which lacks the other
            total = torch.zeros_like(p)
            for _ in range(self.trials):
                total += bernoulli_(p.clone(), generator)
            return total
        p = floats(p)
        return torch.binomial(torch.full_like(p, self.trials), p, generator).to(self.bias.dtype)

    def divergence(self, x: Array, x_hat: Array) -> Tensor:
        """n·Σ_i p log(p/p̂) + (1−p) log((1−p)/(1−p̂)) with p = x/n, p̂ = x̂/n one rounding step away from 0 and 1."""
        return self.trials * kl_of_bits(self.values(x) / self.trials, self.values(x_hat) / self.trials)

    @torch.no_grad()
    def fit_marginals(self, mean: Tensor, variance: Tensor, n: int) -> None:
        """bias = log p/(1−p) with Laplace's p = (Σx + 1)/(trials·n + 2)."""
        mean = floats(mean)
        self.bias.copy_(torch.log(mean * n + 1) - torch.log((self.trials - mean) * n + 1))

    @property
    def mean_factor(self) -> float:
        return float(self.trials)

    def as_linear(self, weight: Tensor) -> tuple[Tensor, Tensor, str]:
        """σ(W x + bias), the mean divided by n."""
        return weight, self.bias, "sigmoid"

    @property
    def limits(self) -> tuple[float, float] | None:
        return 0.0, float(self.trials)

    def support(self) -> Tensor | None:
        return torch.arange(self.trials + 1, dtype=self.bias.dtype, device=self.bias.device)

    def quadratic_precision(self) -> Tensor | None:
        return None
