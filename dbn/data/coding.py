"""Tables of cells, text among them, as numbers by the kinds of their columns."""

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dbn.columns import Column, Kinds, inferred, is_missing
from dbn.data.table import Table
from dbn.errors import InputError, listed


def coded_table(table: Table, kinds: Kinds, *, missing: bool = False) -> tuple[Table, tuple[Column, ...]]:
    """The table with every column as numbers, (N, V) float32, and what its columns are.

    Kinds and categories are those of the training rows. InputError for a table that is none, a kind of a column that is
    not there, and as for `inferred` and `Column.codes`. missing: whether cells may be, which are NaN in the result.
    """
    cells = {part: _cells(table.name, x) for part, x in table.x.items()}
    names = table.columns or tuple(map(str, range(cells[""].shape[1])))
    asked = [name for name, kind in kinds.items() if isinstance(kind, str)]
    for name in asked:
        if name not in names:
            raise InputError(f"{table.name} has no column {name!r}, as --column-kinds says, only {listed(names)}")

    def where(part: str, place: int, row: int) -> str:
        return table.where(part, row, place)

    found: list[Column] = []
    coded = {part: np.empty(x.shape, np.float32) for part, x in cells.items()}
    for place, name in enumerate(names):
        kind = kinds.get(name)
        column = kind if isinstance(kind, Column) else None
        for part, x in cells.items():
            values, at = x[:, place].tolist(), partial(where, part, place)
            if column is None:  # the training rows come first
                there = [cell for cell in values if not is_missing(cell)] if missing else values
                if not there:
                    raise InputError(f"{table.name}: column {name!r} holds no value at all: leave it out")
                column = inferred(there, name, at, kind if isinstance(kind, str) else None, table.name)
            with np.errstate(over="ignore"):  # infinity is refused where it is checked
                coded[part][:, place] = column.codes(values, at, missing=missing)
        assert column is not None
        found.append(column)
    return replace(table, x=coded), tuple(found)


def _cells(name: str, x: Any) -> NDArray:
    if not isinstance(x, np.ndarray) or x.ndim != 2 or x.size == 0:
        raise InputError(f"{name} is no table in memory, which --visible auto is for: name the type of unit")
    return x
