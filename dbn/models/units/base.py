"""Layers of stochastic units as exponential families in natural parameters.

A layer of independent units that receives an input `field` has the distribution

    p(x | field) ∝ m(x)·exp(field·x + Σ_k θ_k·T_k(x))

with natural parameters θ and statistics T(x), by name in the dictionaries below; the statistic of `bias` is x itself.
The base measure m(x) has no parameter, and is 1 where a type does not add it to its energy.
Energy, free energy, gradient and sampling of an RBM follow from these: a new type is a subclass and a line in `UNITS`.

Welling, Rosen-Zvi & Hinton (2004), "Exponential family harmoniums with an application to information retrieval".
"""

import inspect
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from functools import cache
from numbers import Integral
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from dbn.arrays import Array, as_values
from dbn.errors import InputError
from dbn.models.units.sites import Sites, columns_of, is_binary, takes


class Units(nn.Module, ABC):
    """`size` independent units. Fields, states and means are (B, size).

    States and fields may be of any numeric type: they are taken as values of the parameters' own type, which results
    have.

    What is not learned, such as a number of states per site, is an argument of the constructor beside `size` and an
    attribute of the same name: files, copies and `spec` then have it.

    Parameters are stored in a form that any optimizer may move freely; `natural` maps them to θ. The defaults of
    `natural`, `statistics` and their companions are those of units with a bias alone.
    """

    kind: ClassVar[str]
    linear_statistics: bool
    """Whether every learned statistic is linear in x, so that a mean may replace a sample in the gradient."""
    standardized: bool = False
    """Whether data are standardized to mean 0 and variance 1 for these units."""
    nonnegative: ClassVar[bool] = False
    """Whether unbounded values are 0 or more."""
    even: ClassVar[bool] = True
    """Whether a density falls off alike towards both ends, at `quadratic_precision`, which is else a lower bound."""
    counts: ClassVar[bool] = False
    """Whether data are whole numbers, which no divisor but one that is given divides."""

    def __init__(self, size: int) -> None:
        super().__init__()
        given: Any = size
        if not isinstance(given, Integral) or size < 0:
            raise InputError(f"the number of {self.kind} units must be a whole number, not {size!r}")
        self.bias = nn.Parameter(torch.zeros(size, dtype=torch.float32))

    @property
    def size(self) -> int:
        """The number of units."""
        return self.bias.shape[-1]

    @property
    def settings(self) -> dict[str, Any]:
        """What is not learned, by the name of the constructor's argument: {"states": 3}."""
        return {name: getattr(self, name) for name in _settings_of(type(self))}

    @property
    def spec(self) -> str:
        """The type with its settings, as options name it: "gaussian", "categorical(states=3)"."""
        inside = ", ".join(f"{name}={value}" for name, value in self.settings.items())
        return f"{self.kind}({inside})" if inside else self.kind

    def description(self) -> dict[str, Any]:
        """Kind, size and settings, as JSON data."""
        return {"kind": self.kind, "size": self.size, **self.settings}

    def extra_repr(self) -> str:
        """The size and the settings."""
        return ", ".join([str(self.size), *(f"{name}={value}" for name, value in self.settings.items())])

    def natural(self) -> dict[str, Tensor]:
        """θ by name, each (size,)."""
        return {"bias": self.bias}

    def from_natural(self, natural: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The stored parameters that give θ = `natural`: the inverse of `natural()`."""
        return dict(natural)

    def parameter_gradient(self, natural_gradient: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The gradient with respect to the stored parameters, from that with respect to θ (chain rule)."""
        return dict(natural_gradient)

    def values(self, x: Array) -> Tensor:
        """States or fields in the type of the parameters, the same tensor where they have it."""
        return as_values(x, self.bias.dtype)

    def statistics(self, x: Array) -> dict[str, Tensor]:
        """T(x) by name, each (B, size)."""
        return {"bias": self.values(x)}

    def expected_statistics(self, field: Array) -> dict[str, Tensor]:
        """E[T(x) | field] by name, each (B, size)."""
        return {"bias": self.mean(field)}

    @abstractmethod
    def log_partition(self, field: Array) -> Tensor:
        """log Σ_x m(x)·exp(field·x + θ·T(x)) (an integral for continuous x), summed over units: (B,), in nats."""

    @abstractmethod
    def mean(self, field: Array) -> Tensor:
        """E[x | field], the gradient of `log_partition`."""

    @abstractmethod
    def sample(self, field: Array, generator: torch.Generator | None = None) -> Tensor:
        """x ~ p(x | field)."""

    def sample_and_expect(
        self, field: Array, generator: torch.Generator | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """x ~ p(x | field), and `expected_statistics(field)`, for types that compute the one from the other."""
        return self.sample(field, generator), self.expected_statistics(field)

    @abstractmethod
    def divergence(self, x: Array, x_hat: Array) -> Tensor:
        """KL of the units with mean x from those with mean x_hat, summed over units: (B,), in nats."""

    @abstractmethod
    def fit_marginals(self, mean: Tensor, variance: Tensor, n: int) -> None:
        """Set θ to reproduce the mean and variance of `n` examples, smoothed so that θ stays finite."""

    @abstractmethod
    def as_linear(self, weight: Tensor) -> tuple[Tensor, Tensor, str | nn.Module]:
        """The layer x ↦ mean(W x)/`mean_factor` of a network: its weight, its bias, its activation.

        That is a name (`dbn.models.mlp.activation_module`), or a module where it has parameters of its own.
        """

    @property
    def mean_factor(self) -> float:
        """What the weights of the next layer are multiplied by in a network, where activations are a part of means."""
        return 1.0

    @abstractmethod
    def support(self) -> Tensor | None:
        """The values of one unit, (K,), or None where they are a continuum."""

    def sites(self) -> tuple[Sites, ...] | None:
        """Which columns take a state together, and these states; None where a column has a continuum of them."""
        support = self.support()
        return None if support is None else (Sites(support[:, None], self.size),)

    @abstractmethod
    def quadratic_precision(self) -> Tensor | None:
        """λ of a density that falls off as exp(−λx²/2), (size,), or None for bounded values."""

    @property
    def codes(self) -> int | tuple[int, ...] | None:
        """The number of codes 0, 1, … that a column of data has, each of which becomes a unit; None for numbers."""
        return None

    @property
    def standardized_units(self) -> Tensor:
        """Whether data are standardized for each unit, (size,) bool."""
        return torch.full((self.size,), self.standardized, device=self.bias.device)

    def of_data(self) -> Iterator[tuple["Units", slice]]:
        """Units of one type, and the columns of data that they take."""
        yield self, slice(None)

    def centered(self, x: Tensor) -> tuple[Tensor, Tensor] | None:
        """Coefficients x (…, size) of the units as ones of sum 0 at each site and the rest of every state alike, (…,).

        None where states have no such part. One-hot groups have: what all columns of a group share multiplies 1.
        """
        return None

    @property
    def limits(self) -> tuple[float, float] | tuple[tuple[float, float], ...] | None:
        """The least and the greatest value of data, or those of each column; None for all, for fractions and codes."""
        return None

    def in_support(self, x: Tensor) -> bool:
        """Whether every site has one of its states in every row of x (B, size); a continuum has any."""
        sites = self.sites()
        x = x.byte() if x.dtype == torch.bool else x  # which `isin` lacks
        return sites is None or all(bool(takes(each, x[:, columns]).all()) for each, columns in columns_of(sites))

    def range_error(self, least: float, greatest: float) -> str:
        """What is wrong with data from `least` to `greatest`, and what to do; empty where nothing is."""
        return ""

    def check_rows(self, x: Tensor) -> None:
        """InputError unless x is (B, size)."""
        if x.ndim != 2 or x.shape[1] != self.size:
            raise InputError(
                f"{self.size} {self.kind} units need rows of {self.size} values, not a tensor of shape "
                f"{tuple(x.shape)}: give data of the model's own width"
            )

    def check_states(self, x: Tensor, first: int = 0) -> None:
        """InputError unless x is (B, size) with states of the sites; it names the first that is none.

        first: the place of the first column among those of the layer.
        """
        self.check_rows(x)
        sites = self.sites()
        if sites is None or self.in_support(x):
            return
        advice = "binarize the data" if is_binary(sites) else "give states alone"
        for each, columns in columns_of(sites):
            if (wrong := ~takes(each, x[:, columns])).any():
                row, site = wrong.nonzero()[0].tolist()
                start = columns.start + site * each.width
                found = ", ".join(f"{value:g}" for value in x[row, start : start + each.width].tolist())
                place, last = first + start, first + start + each.width - 1
                where = f"column {place}" if each.width == 1 else f"columns {place} to {last}"
                raise InputError(
                    f"{self.spec} units have states of {_listed(each.states)} only, not {found} as in row {row}, "
                    f"{where} (counted from 0): {advice}"
                )

    def energy(self, x: Array) -> Tensor:
        """−θ·T(x) − log m(x), summed over units: (B,)."""
        return -self.dot(self.natural(), x)

    def dot(self, theta: Mapping[str, Tensor], x: Array) -> Tensor:
        """θ·T(x) for any θ, each (size,) or (B, size), summed over units: (B,)."""
        x = self.values(x)
        statistics = self.statistics(x)
        terms = (torch.linalg.vecdot(statistics[name], value.to(x.dtype)) for name, value in theta.items())
        return sum(terms, x.new_zeros(()))

    @torch.no_grad()
    def with_natural(self, theta: Mapping[str, Tensor]) -> Self:
        """Units of this type at another θ, each (size,), or (B, size): one for every row of the states. Not learned."""
        units = type(self)(0, **self.settings)
        for name, value in self.from_natural(theta).items():
            setattr(units, name, nn.Parameter(value, requires_grad=False))
        return units


@cache
def _settings_of(kind: type[Units]) -> tuple[str, ...]:
    return tuple(name for name in inspect.signature(kind).parameters if name != "size")


def _listed(states: Tensor) -> str:
    """The states (K, W), at most six of them: "0, 1"; "1 0 0, 0 1 0, 0 0 1"."""
    shown = [" ".join(f"{value:g}" for value in state) for state in states.tolist()]
    return ", ".join(shown if len(shown) <= 6 else [*shown[:4], "…", shown[-1]])
