"""Sites: columns of a layer that take a state together, and the list of these states."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor


@final
@dataclass(frozen=True, eq=False)
class Sites:
    """`count` sites side by side, each of W columns that as a whole take one of `states` (K, W).

    The sites of a layer are a sequence of these, in the order of its columns: 30 units of 0 and 1 are 30 sites of one
    column and two states, and 10 categories of 3 values are 10 sites of three columns and three states.
    """

    states: Tensor
    count: int

    @property
    def width(self) -> int:
        """W, the number of columns of a site."""
        return self.states.shape[1]


def number_of_states(sites: Sequence[Sites]) -> int:
    """The number of states of the layer, Π K^count."""
    return math.prod(len(each.states) ** each.count for each in sites)


def in_words(sites: Sequence[Sites]) -> str:
    """The number of states of the layer as a product of powers: 2^30."""
    return " · ".join(f"{len(each.states)}^{each.count}" for each in sites)


def states_at(sites: Sequence[Sites], index: Tensor) -> Tensor:
    """The states of the layer with these numbers, (B, V): their digits to the bases K, the first site the highest.

    >>> states_at([Sites(torch.tensor([[0.0], [1.0]]), 3)], torch.tensor([5, 6]))
    tensor([[1., 0., 1.],
            [1., 1., 0.]])
    """
    parts = []
    for each in reversed(sites):
        base = len(each.states)
        places = base ** torch.arange(each.count - 1, -1, -1, device=index.device)
        parts.append(each.states[index[:, None] // places % base].flatten(1))
        index = index // base**each.count
    return torch.cat(parts[::-1], 1)


def columns_of(sites: Sequence[Sites]) -> Iterator[tuple[Sites, slice]]:
    """The sites, and the columns of the layer that they fill."""
    start = 0
    for each in sites:
        end = start + each.count * each.width
        yield each, slice(start, end)
        start = end


def takes(each: Sites, x: Tensor) -> Tensor:
    """Whether each site has one of its states in these columns (B, count·W): (B, count)."""
    if each.width == 1:
        return torch.isin(x, each.states[:, 0].to(x.device))
    return index_of(each, x) >= 0


def index_of(each: Sites, x: Tensor) -> Tensor:
    """The number of the state that each site has in these columns (B, count·W), −1 for none: (B, count)."""
    groups = x.unflatten(1, (each.count, each.width))
    found = torch.full(groups.shape[:2], -1, device=x.device)
    for number, state in enumerate(each.states.to(x.device)):  # one after another, for memory
        found.masked_fill_((groups == state).all(2), number)
    return found


def is_binary(sites: Sequence[Sites] | None) -> bool:
    """Whether every column is 0 or 1 by itself."""
    return sites is not None and all(each.states.tolist() == [[0.0], [1.0]] for each in sites)
