"""Tables: the arrays that a reader found in a source, not checked yet."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dbn.data.row_sources import ChosenColumns, Source
from dbn.errors import InputError, listed

Place = Callable[[int, int], str]
"""What errors call a row and column."""
PARTS = ("", "_valid", "_test")
"""What follows `x` and `y`: training, validation and test rows."""


@dataclass(frozen=True, eq=False)
class Table:
    """Rows `x` and labels `y`, as they were read, by part: "" for training, "_valid", "_test".

    A missing label is None or NaN.

    `name` is what errors call the source. `columns` are the names of the columns of `x` where the source has such.
    `place` says where a row of a part stands, for sources that do not count rows from 0.
    """

    name: str
    x: Mapping[str, Any]
    y: Mapping[str, Any]
    columns: tuple[str, ...] = ()
    place: Callable[[str, int], str] | None = None
    needs_all_labels: bool = True
    """Whether all parts or none have labels; test files of competitions have none."""
    targets: tuple[str, ...] = ()
    """The names of the columns of `y` where the source has such."""
    weights: Mapping[str, Any] = field(default_factory=dict)
    """Of the rows, (N,), by part."""
    weight_column: str = ""
    """What the source calls them."""
    divisor: float | None = None
    """What the values are divided by where the source says so, as pictures do; None where their type and range say."""

    def start(self, part: str, row: int) -> str:
        """The place of a row, as errors call it."""
        return self.place(part, row) if self.place else f"{self.name}: x{part}, row {row} (counted from 0)"

    @property
    def emptied(self) -> "Table":
        """The same without its values, which `where` and `start` do not need."""
        return replace(self, x={}, y={}, weights={})

    def where(self, part: str, row: int, column: int) -> str:
        """The place of a value, as errors call it."""
        if self.columns:
            return f"{self.start(part, row)}, column {self.columns[column]!r}"
        start = self.place(part, row) if self.place else f"{self.name}: x{part}, row {row}"
        return f"{start}, column {column} (counted from 0)"


def table_of(name: str, arrays: Mapping[str, Any], **more: Any) -> Table:
    """Arrays called `x`, `y` and `w` (weights), `x_valid`, …, `x_test`, …, as far as they are there."""
    x, y, w = ({part: arrays[key + part] for part in PARTS if arrays.get(key + part) is not None} for key in "xyw")
    return Table(name, x, y, weights=w, **more)


def place_among(
    place: Place | None, rows: Tensor | slice, n: int, columns: Sequence[int] | None = None
) -> Place | None:
    """The place of chosen `rows` of `n`, an index, a mask or a slice, and columns."""
    if place is None:
        return None
    known = place

    def found(row: int, column: int) -> str:
        if isinstance(rows, slice):
            number = range(n)[rows][row]
        else:
            number = int((rows.nonzero().flatten() if rows.dtype == torch.bool else rows)[row])
        return known(number, column if columns is None else columns[column])

    return found


def label_places(
    name: str, columns: Sequence[str], label_column: str | Sequence[str] | None, needs_label: bool = True
) -> list[int]:
    """The indices of the columns with the labels; none without names for them, and where they may lack and do.

    InputError where one lacks, and where there is no other column.
    """
    wanted = [label_column] if isinstance(label_column, str) else list(label_column or ())
    missing = [each for each in wanted if each not in columns]
    if not wanted or (not needs_label and len(missing) == len(wanted)):
        return []
    if missing:
        raise InputError(f"{name}: there is no column {missing[0]!r}, only {listed(columns)}")
    if len(columns) == len(wanted):
        raise InputError(f"{name}: there is no column beside the label column {wanted[0]!r}")
    return [list(columns).index(each) for each in wanted]


def weight_places(
    name: str, columns: Sequence[str], weight_column: str | None, labels: Sequence[int], needs_weight: bool = True
) -> list[int]:
    """The index of the column with the weights; none without a name for it, and where it may lack and does.

    InputError where it lacks, is one of the `labels`, or is the only other column.
    """
    if weight_column is None or (not needs_weight and weight_column not in columns):
        return []
    if weight_column not in columns:
        raise InputError(f"{name}: there is no column {weight_column!r}, only {listed(columns)}")
    place = list(columns).index(weight_column)
    if place in labels:
        raise InputError(f"{name}: the column {weight_column!r} cannot hold labels and weights: name two columns")
    if len(columns) == len(labels) + 1:
        raise InputError(f"{name}: there is no column beside the weights {weight_column!r}")
    return [place]


def beside(columns: Sequence[NDArray]) -> NDArray:
    """Columns (N,) of labels: one as it is, several as (N, T), numbers as such where all are."""
    return columns[0] if len(columns) == 1 else np.stack(columns, 1)


def joined(tables: Mapping[str, Table]) -> Table:
    """Tables of one part each as one; columns with names are matched by them, in any order.

    InputError for a column that a table lacks or has in excess, and for a table of several parts.
    """
    first = tables[""]
    for table in tables.values():
        if len(table.x) > 1:
            raise InputError(
                f"{table.name} has {listed([f'x{part}' for part in table.x if part])} besides x: leave --test-file and "
                "--valid-file out, or save one part a file"
            )
    emptied = {part: table.emptied for part, table in tables.items()}
    return replace(
        first,
        x={
            part: in_order(table.x[""], table.columns, table.name, first.name, first.columns)
            for part, table in tables.items()
        },
        y={part: each.y[""] for part, each in tables.items() if each.y},
        weights={part: each.weights[""] for part, each in tables.items() if each.weights},
        place=lambda part, row: emptied[part].start("", row),
        needs_all_labels=False,
    )


def in_order(x: Any, columns: tuple[str, ...], name: str, other: str, wanted: tuple[str, ...]) -> Any:
    """`x`, whose `columns` have these names, with its columns in the order `wanted`, that of `other`.

    Where either has no names, columns are matched by their places. InputError for a column that one has alone.
    """
    if not columns or not wanted or columns == wanted:
        return x
    for here, names, there, others in ((name, columns, other, wanted), (other, wanted, name, columns)):
        known = set(names)
        missing = [column for column in others if column not in known]
        if missing:
            what = "column" if len(missing) == 1 else "columns"
            raise InputError(
                f"{here} lacks the {what} {listed(missing, 5)} that {there} has, but both need the same columns"
            )
    places = {column: place for place, column in enumerate(columns)}
    order = [places[column] for column in wanted]
    return ChosenColumns(x, order) if isinstance(x, Source) else x[:, order]
