"""The sites of a layer one by one: log-partitions and log-probabilities that are not summed over the layer."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from dbn.models.units.base import Units
from dbn.models.units.mixed import Mixed
from dbn.models.units.sites import Sites


class Apart(NamedTuple):
    """Sites of one type side by side, whose θ are (count, W): what units sum over columns is then of one site."""

    units: Units
    columns: slice
    sites: Sites | None
    """Their states; None where a site takes any number, so that its probability is a density."""

    @property
    def width(self) -> int:
        """W, the columns of a site."""
        return self.sites.width if self.sites else 1

    def split(self, x: Tensor) -> Tensor:
        """The columns of these sites, (B, V) -> (B, count, W)."""
        found: Tensor = x[..., self.columns].unflatten(-1, (-1, self.width))
        return found


@torch.no_grad()
def sites_apart(units: Units) -> list[Apart]:
    """The sites of a layer; a unit that takes any number is one of its own."""
    found = []
    for part, columns in units.each() if isinstance(units, Mixed) else [(units, slice(0, units.size))]:
        (sites,) = part.sites() or (None,)
        width = sites.width if sites else 1
        theta = {name: value.unflatten(-1, (-1, width)) for name, value in part.natural().items()}
        found.append(Apart(part.with_natural(theta), columns, sites))
    return found


def log_partitions(apart: list[Apart], field: Tensor) -> tuple[Tensor, Tensor]:
    """log Z of each site under the field (B, V): (B, sites), and that of the site of each column, (B, V)."""
    parts = [each.units.log_partition(each.split(field)) for each in apart]
    columns = [part.repeat_interleave(each.width, -1) for part, each in zip(parts, apart, strict=True)]
    return torch.cat(parts, -1), torch.cat(columns, -1)


def log_probabilities(apart: list[Apart], x: Tensor, field: Tensor) -> Tensor:
    """log p(x_i | field) of each site of states x (B, V), or the log-density: (B, sites), nats."""
    parts = []
    for each in apart:
        states, fields = each.split(x), each.split(field)
        log_z = each.units.log_partition(fields)
        parts.append((fields * states).sum(-1) - each.units.energy(states) - log_z)
    return torch.cat(parts, -1)


def of_sites(apart: list[Apart], draw: Callable[[int], Tensor]) -> Tensor:
    """For each column the number of its site: `draw` gives (B, n) for n sites, the result is (B, V)."""
    drawn = []
    for each in apart:
        n = each.units.bias.shape[-2]
        drawn.append(draw(n).repeat_interleave(each.width, -1))
    return torch.cat(drawn, -1)
