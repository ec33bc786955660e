"""Targets as they come: numbers to predict, or labels that a row has or has not; an error for what is neither."""

from collections.abc import Mapping
from numbers import Real

import numpy as np
from numpy.typing import NDArray

from dbn.data.labels import is_missing
from dbn.errors import InputError, shortened

TRUTH = {"false": 0.0, "true": 1.0}
LARGEST = 1e100
"""Of greater numbers the squares may be infinite in double precision."""


def numbers(targets: Mapping[str, NDArray], n_rows: Mapping[str, int]) -> tuple[tuple[str, ...], dict[str, NDArray]]:
    """Names of the targets, and those of each part as float64 (N, T): NaN where one is missing.

    `targets` are numbers (N,) or (N, T) by part: "" and "_test". None, NaN and empty strings are missing ones.

    Raises:
        InputError: targets of another length or number of columns, or that are no finite numbers; a sentence without
            the data's name.

    >>> numbers({"": np.array([5.5, np.nan])}, {"": 2})
    (('y',), {'': array([[5.5],
           [nan]])})
    """
    found = {part: _matrix(f"y{part}", y, n_rows[part]) for part, y in targets.items()}
    widths = {part: values.shape[1] for part, values in found.items()}
    if len(set(widths.values())) > 1:
        raise InputError(
            f"{' but '.join(f'y{part} has {width}' for part, width in widths.items())} columns: give all the same"
        )
    width = next(iter(widths.values()))
    return ("y",) if width == 1 else tuple(f"y{place}" for place in range(1, width + 1)), found


def truths(targets: Mapping[str, NDArray], n_rows: Mapping[str, int]) -> tuple[tuple[str, ...], dict[str, NDArray]]:
    """As `numbers`, for labels that a row has (1, true) or has not (0, false)."""
    names, found = numbers(targets, n_rows)
    for part, values in found.items():
        _refuse(
            f"y{part}",
            values,
            (values != 0) & (values != 1) & ~np.isnan(values),
            "but every column is one label, 0 or 1, under --task multilabel",
        )
    return names, found


def _matrix(key: str, y: NDArray, n_rows: int) -> NDArray:
    if y.ndim not in (1, 2) or len(y) != n_rows or y.size == 0:
        raise InputError(
            f"{key} has shape {y.shape}, but one target a row is needed, or several in columns: ({n_rows}, …)"
        )
    y = y.reshape(n_rows, -1)
    if y.dtype.kind in "OU":
        y = np.array(
            [[_number(key, row, column, each) for column, each in enumerate(cells)] for row, cells in enumerate(y)]
        )
    if y.dtype.kind not in "biuf":
        raise InputError(f"{key} holds {y.dtype}, but targets are numbers")
    values = y.astype(np.float64)
    _refuse(key, values, np.abs(values) > LARGEST, "but only finite numbers can be learned: remove the row")
    return values


def _number(key: str, row: int, column: int, cell: object) -> float:
    if is_missing(cell):
        return float("nan")
    if isinstance(cell, str) and cell.strip().lower() in TRUTH:
        return TRUTH[cell.strip().lower()]
    if isinstance(cell, Real | np.bool_):
        return float(cell)
    raise InputError(f"{key} holds {shortened(str(cell))} {_place(row, column)}, but targets are numbers")


def _refuse(key: str, values: NDArray, wrong: NDArray, why: str) -> None:
    """InputError for the first wrong value."""
    if wrong.any():
        row, column = np.argwhere(wrong)[0].tolist()
        raise InputError(f"{key} holds {values[row, column]:g} {_place(row, column)}, {why}")


def _place(row: int, column: int) -> str:
    return f"in row {row}, column {column} (counted from 0)"
