"""Weights of rows: how much each counts, as a whole number of equal rows would."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dbn.columns import is_missing, number_of
from dbn.data.table import Table
from dbn.errors import InputError, shortened

LARGEST = 1e100


def checked_weights(values: Any, n_rows: int, called: str, where: Callable[[int], str]) -> Tensor:
    """The weights (N,) as float64 on the CPU; `called` is what errors call them, `where` the place of one of them.

    InputError for another number of them, for one that is missing, negative, infinite or no number, and where all are
    0.

    >>> checked_weights([1, 0.5], 2, "sample_weight", "row {}".format)
    tensor([1.0000, 0.5000], dtype=torch.float64)
    """
    cells = np.asarray(values)
    if cells.shape == (n_rows, 1):
        cells = cells[:, 0]
    if cells.shape != (n_rows,):
        raise InputError(f"{called} has shape {cells.shape}, but one weight a row is needed, which is ({n_rows},)")
    if cells.dtype.kind in "biuf":
        found = cells.astype(np.float64)
    else:
        numbers = (number_of(each) for each in cells)
        found = np.array([np.nan if each is None else each for each in numbers])
    wrong = ~(np.isfinite(found) & (found >= 0))
    if wrong.any():
        row = int(wrong.argmax())
        cell = cells[row]
        shown = (
            f"{found[row]:g}" if not np.isnan(found[row]) else "nothing" if is_missing(cell) else shortened(str(cell))
        )
        raise InputError(
            f"{where(row)} holds {shown}, but weights are numbers of at least 0: correct it, or leave the row out"
        )
    if not found.any():
        raise InputError(f"{called} is 0 in every row, so that none counts: give some rows a weight above 0")
    if not 1 / LARGEST < found.max() < LARGEST:  # whose sums or squares are not finite, and ratios alone count
        found /= found.max()
    return torch.from_numpy(found)


def weights_of(table: Table, n_rows: Mapping[str, int]) -> dict[str, Tensor]:
    """Of the rows by part; InputError for such as count nothing, and for a part without them beside the test rows."""
    found = {}
    for part, n in n_rows.items() if table.weights else ():
        called = f"{table.weight_column or 'sample_weight'}{part}"
        if part in table.weights:
            place = partial(_place_of_weight, table, part, called)
            named = f"{table.name}: {called}" if table.weight_column else called
            found[part] = checked_weights(table.weights[part], n, named, place)
        elif part != "_test":
            raise InputError(f"{table.name}: there is no {called!r}, but other rows have weights: give both or neither")
    return found


def _place_of_weight(table: Table, part: str, called: str, row: int) -> str:
    if table.place:
        return f"{table.place(part, row)}, column {table.weight_column!r}"
    named = f"{table.name}: {called}" if table.weight_column else called
    return f"{named}, row {row} (counted from 0),"
