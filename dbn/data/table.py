"""Tables: the arrays that a reader found in a source, not checked yet."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from dbn.errors import InputError, listed

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

    def where(self, part: str, row: int, column: int) -> str:
        """The place of a value, as errors call it."""
        start = self.place(part, row) if self.place else f"{self.name}: x{part}, row {row}"
        if not self.columns:
            return f"{start}, column {column} (counted from 0)"
        return f"{start}, column {self.columns[column]!r}" + ("" if self.place else " (rows counted from 0)")


def table_of(name: str, arrays: Mapping[str, Any], **more: Any) -> Table:
    """Arrays called `x`, `y`, `x_valid`, `y_valid`, `x_test` and `y_test`, as far as they are there."""
    x, y = ({part: arrays[key + part] for part in PARTS if arrays.get(key + part) is not None} for key in "xy")
    for part in y:
        if part not in x:
            raise InputError(f"{name}: y{part} is there but x{part} is not, give both or neither")
    return Table(name, x, y, **more)


def joined(tables: Mapping[str, Table]) -> Table:
    """Tables of one part each as one; columns with names are matched by them, in any order.

    InputError for a column that a table lacks or has in excess.
    """
    first = tables[""]
    tables = {part: _in_order(table, first) for part, table in tables.items()}
    return replace(
        first,
        x={part: table.x[""] for part, table in tables.items()},
        y={part: table.y[""] for part, table in tables.items() if "" in table.y},
        place=lambda part, row: _start(tables[part], row),
        needs_all_labels=False,
    )


def _start(table: Table, row: int) -> str:
    return table.place("", row) if table.place else f"{table.name}: row {row} (counted from 0)"


def _in_order(table: Table, first: Table) -> Table:
    """The table with its columns in the order of `first`."""
    if len(table.x) > 1:
        raise InputError(f"{table.name} has test or validation rows of its own, but a file of one kind is needed")
    if table.columns == first.columns:
        return table
    check_same_columns(table.name, table.columns, first.name, first.columns)
    places = {column: place for place, column in enumerate(table.columns)}
    order = [places[column] for column in first.columns]
    return replace(table, x={"": np.asarray(table.x[""])[:, order]}, columns=first.columns)


def check_same_columns(name: str, columns: tuple[str, ...], other: str, wanted: tuple[str, ...]) -> None:
    """InputError unless both have the same names, in any order."""
    for words in _differences(name, columns, other, wanted):
        raise InputError(f"{words}: both need the same columns")


def _differences(name: str, columns: tuple[str, ...], other: str, wanted: tuple[str, ...]) -> Iterator[str]:
    for here, names, there, others in ((name, columns, other, wanted), (other, wanted, name, columns)):
        missing = [column for column in others if column not in set(names)]
        if missing:
            what = "column" if len(missing) == 1 else "columns"
            yield f"{here} lacks the {what} {listed(missing, 5)} that {there} has"
