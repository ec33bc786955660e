"""Examples: rows of a data set, with labels or without."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from dbn.data.rows import Rows, in_memory, select
from dbn.data.table import Place, place_among
from dbn.errors import InputError


@dataclass(frozen=True, eq=False)
class Examples:
    """`x` (N, V) uint8 as stored, or float32; `y` (N,) int64 class indices, or (N, T) float64 targets, where there are.

    A row without a label has y = −1, or NaN among its targets: it serves pre-training alone. Targets stay on the CPU,
    since not every device has their precision. `x` is a tensor, or `Rows` where it is large: some
    rows of an array, or rows on the disk.
    """

    x: Tensor | Rows
    y: Tensor | None
    weights: Tensor | None = None
    """(N,) float64 on the CPU: how much each row counts; None where all count alike."""
    place: Place | None = None
    """In the source, whichever rows were chosen from it."""

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, rows: Tensor | slice) -> "Examples":
        """Some of the rows, by index or mask, in memory."""
        return self._chosen(self.x[rows], rows)

    def _chosen(self, x: Tensor | Rows, rows: Tensor | slice) -> "Examples":
        y, weights = None if self.y is None else self.y[rows], self.weights
        if weights is not None:
            weights = weights[rows.cpu() if isinstance(rows, Tensor) else rows]
        return Examples(x, y, weights, place_among(self.place, rows, len(self)))

    def where(self, row: int, column: int, name: str = "") -> str:
        """The place of a value in the source, which the sentence may call `name` already."""
        place = self.place(row, column) if self.place else f"row {row}, column {column} (counted from 0)"
        if name and place.startswith((f"{name}, ", f"{name}: ")):
            return place[len(name) + 2 :].removeprefix("x, ")
        return place

    @property
    def n_labeled(self) -> int:
        """How many have a label."""
        return 0 if self.y is None else int(is_labeled(self.y).sum())

    def labeled(self) -> "Examples":
        """The examples with a label; InputError where no example has any."""
        there = is_labeled(labels_of(self))
        return self if there.all() else self[there]

    def with_columns(self, order: Sequence[int]) -> "Examples":
        """The same examples with their columns in another order."""
        x = self.x.with_columns(order) if isinstance(self.x, Rows) else self.x[:, list(order)]
        return replace(self, x=x, place=place_among(self.place, slice(None), len(self), order))

    def select(self, mask: Tensor) -> "Examples":
        """The rows of a mask (N,); many of them are not copied."""
        return self._chosen(select(self.x, mask), mask)

    @property
    def tensor(self) -> Tensor:
        """All rows in memory."""
        return in_memory(self.x)

    def to(self, device: torch.device | str) -> "Examples":
        """The same examples on `device`."""
        stays = self.y is None or self.y.is_floating_point()
        return replace(self, x=self.x.to(device), y=self.y if self.y is None or stays else self.y.to(device))


def labels_of(examples: Examples) -> Tensor:
    """The labels, (N,), or targets, (N, T); InputError where there are none."""
    if examples.y is None:
        raise InputError("these examples have no labels")
    return examples.y


def is_labeled(y: Tensor) -> Tensor:
    """(N,): the rows that have a label, or all targets."""
    return ~y.isnan().any(1) if y.is_floating_point() else y >= 0
