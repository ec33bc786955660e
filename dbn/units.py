"""Layers of stochastic units as exponential families in natural parameters.

A layer of independent units that receives an input `field` has the distribution

    p(x | field) ∝ exp(field·x + Σ_k θ_k·T_k(x))

with natural parameters θ and statistics T(x), named alike in the dictionaries below; the statistic that
belongs to `bias` is x itself. Energy, free energy, gradient and sampling of an RBM follow from what a unit type
states here, so this is the only file that knows one: a new type is a subclass and a line in `UNITS`.

Welling, Rosen-Zvi & Hinton (2004), "Exponential family harmoniums with an application to information retrieval".
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar, Self, final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dbn.errors import InputError
from dbn.randomness import bits_below


class Units(nn.Module, ABC):
    """`size` independent units. Fields, states and means are (B, size).

    Parameters are held in a form that any optimiser may move freely; `natural` maps them to θ.
    """

    kind: ClassVar[str]
    linear_statistics: ClassVar[bool]
    """Whether every learned statistic is linear in x, so that a mean may stand for a sample in the gradient."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(size))

    @property
    def size(self) -> int:
        """The number of units."""
        return self.bias.shape[-1]

    @abstractmethod
    def natural(self) -> dict[str, Tensor]:
        """θ by name, each (size,)."""

    @abstractmethod
    def held(self, natural: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The parameters as they are held that give θ = `natural`: the inverse of `natural()`."""

    @abstractmethod
    def statistics(self, x: Tensor) -> dict[str, Tensor]:
        """T(x) by name, each (B, size)."""

    @abstractmethod
    def expected_statistics(self, field: Tensor) -> dict[str, Tensor]:
        """E[T(x) | field] by name, each (B, size)."""

    @abstractmethod
    def log_partition(self, field: Tensor) -> Tensor:
        """log Σ_x exp(field·x + θ·T(x)) (an integral for continuous x), summed over units: (B,), in nats."""

    @abstractmethod
    def mean(self, field: Tensor) -> Tensor:
        """E[x | field], the gradient of `log_partition`."""

    @abstractmethod
    def sample(self, field: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """x ~ p(x | field)."""

    @abstractmethod
    def divergence(self, x: Tensor, x_hat: Tensor) -> Tensor:
        """KL of the units with mean x from those with mean x_hat, summed over units: (B,), in nats."""

    @abstractmethod
    def parameter_gradient(self, natural_gradient: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The gradient by θ carried to the parameters as they are held (chain rule)."""

    @abstractmethod
    def fit_marginals(self, mean: Tensor, variance: Tensor, n: int) -> None:
        """Set θ to reproduce the mean and variance of `n` examples, smoothed so that θ stays finite."""

    @abstractmethod
    def as_linear(self, weight: Tensor) -> tuple[Tensor, Tensor, str]:
        """The layer x ↦ mean(W x) of a network: its weight, its bias, the name of its activation."""

    @abstractmethod
    def domain(self) -> Tensor | None:
        """The values that one unit takes, (K,), or None where they are not a list but a continuum."""

    @abstractmethod
    def quadratic_precision(self) -> Tensor | None:
        """λ of a density that falls off as exp(−λx²/2), (size,), or None for a bounded domain."""

    def takes(self, x: Tensor) -> bool:
        """Whether every value of x is one of the domain; a continuum takes any."""
        domain = self.domain()
        return domain is None or bool(torch.isin(x, domain.to(x.device)).all())

    def check_rows(self, x: Tensor) -> None:
        """InputError unless x is (B, size)."""
        if x.ndim != 2 or x.shape[1] != self.size:
            raise InputError(
                f"{self.size} {self.kind} units need rows of {self.size} values, not a tensor of shape "
                f"{tuple(x.shape)}: bring data of the model's own width"
            )

    def energy(self, x: Tensor) -> Tensor:
        """−θ·T(x), summed over units: (B,)."""
        return -self.dot(self.natural(), x)

    def dot(self, theta: Mapping[str, Tensor], x: Tensor) -> Tensor:
        """θ·T(x) for any θ, each (size,) or (B, size), summed over units: (B,)."""
        statistics = self.statistics(x)
        return sum((torch.linalg.vecdot(statistics[name], theta[name]) for name in theta), x.new_zeros(()))

    @torch.no_grad()
    def with_natural(self, theta: Mapping[str, Tensor]) -> Self:
        """Units of this type at another θ, each (size,), or (B, size): one for every row of the states. Not learned."""
        units = type(self)(0)
        for name, value in self.held(theta).items():
            setattr(units, name, nn.Parameter(value, requires_grad=False))
        return units


@final
class Bernoulli(Units):
    """x ∈ {0, 1} with p(x = 1 | field) = σ(field + bias)."""

    kind = "bernoulli"
    linear_statistics = True

    def natural(self) -> dict[str, Tensor]:
        """Only the bias."""
        return {"bias": self.bias}

    def held(self, natural: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The bias is its own natural parameter."""
        return {"bias": natural["bias"]}

    def statistics(self, x: Tensor) -> dict[str, Tensor]:
        """T = x."""
        return {"bias": x}

    def expected_statistics(self, field: Tensor) -> dict[str, Tensor]:
        """E[T] = σ(field + bias)."""
        return {"bias": self.mean(field)}

    def log_partition(self, field: Tensor) -> Tensor:
        """Σ_i log(1 + exp(field_i + bias_i))."""
        return F.softplus(field + self.bias).sum(-1)

    def mean(self, field: Tensor) -> Tensor:
        """σ(field + bias)."""
        return (field + self.bias).sigmoid_()

    def sample(self, field: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """1 with the probability that is the mean."""
        return bits_below(self.mean(field).detach(), generator)

    def divergence(self, x: Tensor, x_hat: Tensor) -> Tensor:
        """Σ_i x log(x/x̂) + (1−x) log((1−x)/(1−x̂)), x̂ kept one rounding step away from 0 and 1."""
        step = torch.finfo(x_hat.dtype).eps
        x_hat = x_hat.clamp(step, 1 - step)
        return (
            torch.xlogy(x, x) - torch.xlogy(x, x_hat) + torch.xlogy(1 - x, 1 - x) - torch.xlogy(1 - x, 1 - x_hat)
        ).sum(-1)

    def parameter_gradient(self, natural_gradient: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The bias is its own natural parameter."""
        return {"bias": natural_gradient["bias"]}

    @torch.no_grad()
    def fit_marginals(self, mean: Tensor, variance: Tensor, n: int) -> None:
        """bias = log p/(1−p) with Laplace's p = (Σx + 1)/(n + 2)."""
        # Not by p, which rounds to 1 where many rows are all 1.
        self.bias.copy_(torch.log(mean * n + 1) - torch.log((1 - mean) * n + 1))

    def as_linear(self, weight: Tensor) -> tuple[Tensor, Tensor, str]:
        """σ(W x + bias)."""
        return weight, self.bias, "sigmoid"

    def domain(self) -> Tensor | None:
        """(0, 1)."""
        return self.bias.new_tensor((0.0, 1.0))

    def quadratic_precision(self) -> Tensor | None:
        """None: two states."""
        return None


@final
class Gaussian(Units):
    """x ∈ ℝ with precision λ > 0: p(x | field) = N(x; (field + bias)/λ, 1/λ).

    λ is learned as its logarithm, which keeps it positive.
    """

    kind = "gaussian"
    linear_statistics = False

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self.log_precision = nn.Parameter(torch.zeros(size))

    @property
    def precision(self) -> Tensor:
        """λ, (size,)."""
        return self.log_precision.exp()

    def natural(self) -> dict[str, Tensor]:
        """Bias and precision."""
        return {"bias": self.bias, "precision": self.precision}

    def held(self, natural: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The precision as its logarithm."""
        return {"bias": natural["bias"], "log_precision": natural["precision"].log()}

    def statistics(self, x: Tensor) -> dict[str, Tensor]:
        """T = (x, −x²/2)."""
        return {"bias": x, "precision": -0.5 * x * x}

    def expected_statistics(self, field: Tensor) -> dict[str, Tensor]:
        """E[T] = (μ, −(μ² + 1/λ)/2)."""
        mean = self.mean(field)
        return {"bias": mean, "precision": -0.5 * (mean * mean + 1 / self.precision)}

    def log_partition(self, field: Tensor) -> Tensor:
        """Σ_i (field_i + bias_i)²/(2λ_i) + ½ log(2π/λ_i)."""
        total = field + self.bias
        return (0.5 * (total * total / self.precision + math.log(2 * math.pi) - self.log_precision)).sum(-1)

    def mean(self, field: Tensor) -> Tensor:
        """(field + bias)/λ."""
        return (field + self.bias) / self.precision

    def sample(self, field: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """The mean plus noise of standard deviation λ^−½."""
        mean = self.mean(field)
        noise = torch.empty_like(mean, requires_grad=False).normal_(generator=generator)
        return mean + noise * torch.exp(-0.5 * self.log_precision)

    def divergence(self, x: Tensor, x_hat: Tensor) -> Tensor:
        """Σ_i λ_i (x_i − x̂_i)²/2."""
        return (0.5 * self.precision * (x - x_hat) ** 2).sum(-1)

    def parameter_gradient(self, natural_gradient: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """∂/∂ log λ = λ ∂/∂λ."""
        return {
            "bias": natural_gradient["bias"],
            "log_precision": self.precision * natural_gradient["precision"],
        }

    @torch.no_grad()
    def fit_marginals(self, mean: Tensor, variance: Tensor, n: int) -> None:
        """λ = 1/variance and bias = λ·mean; a variance under a thousandth of the greatest is raised to it."""
        floor = variance.max() * 1e-3
        precision = 1 / torch.maximum(variance, torch.where(floor > 0, floor, 1.0))
        self.log_precision.copy_(precision.log())
        self.bias.copy_(precision * mean)

    def as_linear(self, weight: Tensor) -> tuple[Tensor, Tensor, str]:
        """(W x + bias)/λ, without activation."""
        return weight / self.precision[:, None], self.bias / self.precision, "identity"

    def domain(self) -> Tensor | None:
        """None: the real line."""
        return None

    def quadratic_precision(self) -> Tensor | None:
        """λ itself."""
        return self.precision


UNITS: dict[str, type[Units]] = {units.kind: units for units in (Bernoulli, Gaussian)}
"""Every unit type by its name in files and on the command line."""
