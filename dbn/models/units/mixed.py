"""Units of several types side by side."""

import copy
import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate, pairwise
from typing import Any, Self, final

import torch
from torch import Tensor, nn

from dbn.arrays import Array
from dbn.columns import Column
from dbn.errors import InputError
from dbn.models.units.base import Units
from dbn.models.units.naming import make_units
from dbn.models.units.sites import Sites
from dbn.registry import split_sum


@final
class Mixed(Units):
    """`size` visible units, the `parts` of one type after the other: "3 bernoulli + 2 gaussian".

    All is that of the parts: p(x | field) is the product of theirs. The bias is one parameter, of which each part has
    its share; other parameters are the parts' own. InputError for parts of another number of units than `size`.

    >>> units = Mixed(5, "3 bernoulli + 2 gaussian")
    >>> units.mean(torch.zeros(1, 5))
    tensor([[0.5000, 0.5000, 0.5000, 0.0000, 0.0000]], grad_fn=<CatBackward0>)
    """

    kind = "mixed"

    def __init__(self, size: int, parts: str) -> None:
        super().__init__(size)
        found = split_sum(parts)
        if found is None:
            raise InputError(
                f"invalid units {parts!r}: expected NUMBER TYPE + NUMBER TYPE, as 3 bernoulli + 2 gaussian"
            )
        if (total := sum(count for count, _ in found)) != size:
            raise InputError(f"{parts!r} are {total} units, not {size}: count the columns")
        self._set_parts([make_units(text, count) for count, text in found])

    def _set_parts(self, units: Sequence[Units]) -> None:
        self.parts = " + ".join(f"{each.size} {each.spec}" for each in units)
        ends = accumulate((each.size for each in units), initial=0)
        self.columns = [slice(*pair) for pair in pairwise(ends)]
        self.linear_statistics = all(each.linear_statistics for each in units)
        self.standardized = any(each.standardized for each in units)
        for each in units:
            del each.bias  # a share of the one that all have
        self.kinds = nn.ModuleList(units)

    def __repr__(self) -> str:
        return f"Mixed({self.extra_repr()})"  # not that of the parts, which have no bias

    @property
    def spec(self) -> str:
        return self.parts

    @property
    def codes(self) -> tuple[int, ...]:
        """Of each column of data, 0 for one of numbers."""
        found: list[int] = []
        for part, _ in self.each():
            codes = part.codes
            assert not isinstance(codes, tuple)  # a part is of one type
            found += [codes or 0] * (part.size // (codes or 1))
        return tuple(found)

    @property
    def table(self) -> tuple[Column, ...]:
        """What the columns of data are, each category called by its code."""
        return tuple(
            Column("categorical", tuple(map(str, range(codes)))) if codes else Column(part.kind)
            for part, columns in self.of_data()
            for codes in self.codes[columns]
        )

    @property
    def standardized_units(self) -> Tensor:
        return torch.cat([part.standardized_units for part, _ in self.each()])

    def of_data(self) -> Iterator[tuple[Units, slice]]:
        start = 0
        for part, _ in self.each():
            codes: Any = part.codes or 1
            end = start + part.size // codes
            yield part, slice(start, end)
            start = end

    @property
    def limits(self) -> tuple[tuple[float, float], ...]:
        """Of each column of data; codes are checked by themselves."""
        found: list[tuple[float, float]] = []
        for part, columns in self.of_data():
            own: Any = part.limits or (
                (0.0, 1.0) if part.codes is None and part.range_error(0.0, 2.0) else (-math.inf, math.inf)
            )
            found += [own] * (columns.stop - columns.start)
        return tuple(found)

    def range_error(self, least: float, greatest: float) -> str:
        # Of which columns the ends are is not known here: an end that one part can take is let pass.
        for end in (least, greatest):
            errors = [part.range_error(end, end) for part, _ in self.each()]
            if all(errors):
                return errors[0]
        return ""

    def centered(self, x: Tensor) -> tuple[Tensor, Tensor] | None:
        found = [(part.centered(x[..., columns]), x[..., columns]) for part, columns in self.each()]
        if all(own is None for own, _ in found):
            return None
        shared: list[Tensor] = [own[1] for own, _ in found if own is not None]
        return torch.cat([rest if own is None else own[0] for own, rest in found], -1), torch.stack(shared).sum(0)

    def each(self) -> Iterator[tuple[Units, slice]]:
        """The parts, with their share of the bias, and the columns that they have."""
        for units, columns in zip(self.kinds, self.columns, strict=True):
            part = copy.copy(units)
            part.bias = self.bias[..., columns]
            assert isinstance(part, Units)
            yield part, columns

    def natural(self) -> dict[str, Tensor]:
        return self._joined([part.natural() for part, _ in self.each()])

    def from_natural(self, natural: Mapping[str, Tensor]) -> dict[str, Tensor]:
        parts = [part.from_natural(theta) for part, theta in self._shares(natural)]
        return self._joined(parts, "kinds.")

    def parameter_gradient(self, natural_gradient: Mapping[str, Tensor]) -> dict[str, Tensor]:
        parts = [part.parameter_gradient(theta) for part, theta in self._shares(natural_gradient)]
        return self._joined(parts, "kinds.")

    def statistics(self, x: Array) -> dict[str, Tensor]:
        """Those of the parts by name, "1.precision"; x itself for the bias."""
        x = self.values(x)
        return self._joined([part.statistics(x[..., columns]) for part, columns in self.each()])

    def expected_statistics(self, field: Array) -> dict[str, Tensor]:
        field = self.values(field)
        return self._joined([part.expected_statistics(field[..., columns]) for part, columns in self.each()])

    def log_partition(self, field: Array) -> Tensor:
        """The sum over the parts."""
        field = self.values(field)
        return sum((part.log_partition(field[..., columns]) for part, columns in self.each()), field.new_zeros(()))

    def mean(self, field: Array) -> Tensor:
        field = self.values(field)
        return torch.cat([part.mean(field[..., columns]) for part, columns in self.each()], -1)

    def sample(self, field: Array, generator: torch.Generator | None = None) -> Tensor:
        field = self.values(field)
        return torch.cat([part.sample(field[..., columns], generator) for part, columns in self.each()], -1)

    def divergence(self, x: Array, x_hat: Array) -> Tensor:
        """The sum over the parts."""
        x, x_hat = self.values(x), self.values(x_hat)
        parts = (part.divergence(x[..., columns], x_hat[..., columns]) for part, columns in self.each())
        return sum(parts, x.new_zeros(()))

    @torch.no_grad()
    def fit_marginals(self, mean: Tensor, variance: Tensor, n: int) -> None:
        for part, columns in self.each():
            part.fit_marginals(mean[..., columns], variance[..., columns], n)

    def energy(self, x: Array) -> Tensor:
        """The sum over the parts."""
        x = self.values(x)
        return sum((part.energy(x[..., columns]) for part, columns in self.each()), x.new_zeros(()))

    def as_linear(self, weight: Tensor) -> tuple[Tensor, Tensor, str]:
        """InputError: a layer of a network has one activation."""
        raise InputError(f"{self.parts} hidden units are no layer of a network: use hidden units of one type")

    def support(self) -> Tensor | None:
        """The values that a unit of any part may have; None where one of them has a continuum."""
        found = [support for part, _ in self.each() if (support := part.support()) is not None]
        return None if len(found) < len(self.kinds) else torch.cat(found).unique()

    def sites(self) -> tuple[Sites, ...] | None:
        """Those of all parts; None where one of them has a continuum of states."""
        found = [part.sites() for part, _ in self.each()]
        return None if any(each is None for each in found) else tuple(site for each in found for site in each or ())

    def in_support(self, x: Tensor) -> bool:
        return all(part.in_support(x[:, columns]) for part, columns in self.each())

    def check_states(self, x: Tensor, first: int = 0) -> None:
        self.check_rows(x)
        for part, columns in self.each():
            part.check_states(x[:, columns], first + columns.start)

    def quadratic_precision(self) -> Tensor | None:
        """Infinite for bounded units, which no field carries away."""
        found = [(part.quadratic_precision(), part.bias) for part, _ in self.each()]
        if all(precision is None for precision, _ in found):
            return None
        return torch.cat([torch.full_like(bias, torch.inf) if own is None else own for own, bias in found])

    @torch.no_grad()
    def with_natural(self, theta: Mapping[str, Tensor]) -> Self:
        parts = [part.with_natural(share) for part, share in self._shares(theta)]
        units = copy.copy(self)
        units._parameters, units._modules = {}, {}
        units.bias = nn.Parameter(torch.cat([part.bias for part in parts], -1), requires_grad=False)
        units._set_parts(parts)
        return units

    def _joined(self, parts: Sequence[Mapping[str, Tensor]], prefix: str = "") -> dict[str, Tensor]:
        """What is by name in each part, for all: biases side by side, and others named after the part."""
        found = {"bias": torch.cat([part["bias"] for part in parts], -1)}
        for number, part in enumerate(parts):
            found |= {f"{prefix}{number}.{name}": value for name, value in part.items() if name != "bias"}
        return found

    def _shares(self, natural: Mapping[str, Tensor]) -> Iterator[tuple[Units, dict[str, Tensor]]]:
        """The inverse of `_joined`: each part, and what is its own."""
        for number, (part, columns) in enumerate(self.each()):
            own = {name: natural[f"{number}.{name}"] for name in part.natural() if name != "bias"}
            yield part, {"bias": natural["bias"][..., columns], **own}
