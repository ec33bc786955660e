"""Checks of arrays: rows of numbers.

Nothing is repaired: what is not a finite number is an error that says where it is.
"""

import math
from collections.abc import Callable
from numbers import Number
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dbn.arrays import Array as Array
from dbn.arrays import as_array as as_array
from dbn.columns import is_missing
from dbn.data.row_sources import ChannelsFirst, Source
from dbn.data.rows import PIECE, Rows, fits, in_memory, in_place, pieces
from dbn.data.table import Place
from dbn.errors import InputError, MissingValue, shortened


def rows_of(name: str, key: str, x: Any, place: Place | None = None, *, missing: bool = False) -> Tensor | Rows:
    """`x` (N, V), (N, H, W), (N, C, H, W) or (N, H, W, C) as (N, V): bytes and bool as uint8, else finite float32.

    Sources of rows and large arrays stay where they are. missing: whether NaN, and None among objects, are taken as
    missing values, which are NaN in the result; then every array is copied into memory, and InputError names a row
    without any value.
    """

    def where(row: int, column: int) -> str:
        return place(row, column) if place else f"{name}: {key}, row {row}, column {column} (counted from 0)"

    if missing and not isinstance(x, np.ndarray):
        raise InputError(f"{name}: {key} is read from the disk, but rows with holes must be in memory: give an array")
    if isinstance(x, Rows):
        return x
    in_memory_alone = isinstance(x, np.ndarray) and (x.dtype.hasobject or missing)
    source = None if in_memory_alone else in_place(x)
    if source is None:
        return torch.from_numpy(checked_rows(name, key, x, where, missing=missing))
    check_kind(name, key, source)
    rows = Rows(ChannelsFirst(source) if has_channels_last(source) else source)
    kept = in_memory(rows) if fits(rows.nbytes) else rows
    start = 0
    for part in pieces(kept) if kept.dtype == torch.float32 else ():
        check_finite(part.numpy(), lambda row, column, start=start: where(start + row, column))  # type: ignore[misc]
        start += len(part)
    return kept


def check_kind(name: str, key: str, x: NDArray | Source) -> None:
    """InputError unless `x`, an array or a source of rows, has the shape and type of rows of numbers."""
    if x.dtype.kind not in "biuf":
        raise InputError(f"{name}: {key} holds {x.dtype}, but numbers are needed (bytes, integers or floats)")
    if len(x.shape) not in (2, 3, 4):
        raise InputError(
            f"{name}: {key} has shape {x.shape}, but (rows, columns), (rows, height, width) or "
            "(rows, channels, height, width) is needed"
        )
    if math.prod(x.shape) == 0:
        raise InputError(f"{name}: {key} is empty, its shape is {x.shape}")


def checked_rows(name: str, key: str, x: NDArray, where: Place, *, missing: bool = False) -> NDArray:
    """`rows_of` for an array in memory."""
    if x.dtype == object and x.ndim == 2:
        x = _numbers(x, where, missing=missing)
    check_kind(name, key, x)
    x = channels_first(x).reshape(len(x), -1)
    if x.dtype in (np.bool_, np.uint8):
        return np.require(x.view(np.uint8) if x.flags.c_contiguous else x.astype(np.uint8), None, ["C", "W"])
    with np.errstate(over="ignore"):
        floats = np.require(x, np.float32, ["C", "W"])
    check_finite(floats, where, missing=missing)
    if missing and (empty := np.isnan(floats).all(1)).any():
        row, _, column = where(int(empty.argmax()), 0).rpartition(", column")
        counted = " (counted from 0)" * column.endswith("(counted from 0)")
        raise InputError(f"{row}{counted} holds no value at all: leave the row out")
    return floats


def _numbers(x: NDArray, where: Callable[[int, int], str], *, missing: bool) -> NDArray:
    """Objects (N, V) that are numbers or booleans as floats; InputError for the first that is none."""
    for row, cells in enumerate(x):
        for column, cell in enumerate(cells):
            if missing and is_missing(cell):
                continue
            if cell is None or not isinstance(cell, Number | np.bool_) or isinstance(cell, complex):
                what = "is missing" if cell is None else f"is {shortened(str(cell))}, which is not a number"
                raise (MissingValue if cell is None else InputError)(
                    f"{where(row, column)} {what}: fill in a number, leave the row or the column out, or give the "
                    "column as y, where labels are taken"
                )
    return (
        np.where(np.vectorize(is_missing, [bool])(x), np.nan, x).astype(np.float64) if missing else x.astype(np.float64)
    )


def check_finite(x: NDArray, where: Callable[[int, int], str], *, missing: bool = False) -> None:
    """Raises InputError for the first NaN or infinity in `x` (N, V), at `where(row, column)`; `missing` allows NaN."""
    n = max(1, PIECE // max(1, x.shape[1]))
    for start in range(0, len(x), n):
        finite = ~np.isinf(x[start : start + n]) if missing else np.isfinite(x[start : start + n])
        if finite.all():
            continue
        row, column = np.argwhere(~finite)[0].tolist()
        row += start
        raise (MissingValue if np.isnan(x[row, column]) else InputError)(
            f"{where(row, column)} is {x[row, column]} as a 32-bit float, but only finite numbers can be learned: "
            "remove the row or fill in the value"
        )


def check_alike(name: str, rows: Tensor | Rows, key: str, others: Tensor | Rows) -> None:
    """InputError unless both have the same columns and the same type."""
    if others.shape[1] != rows.shape[1]:
        raise InputError(f"{name}: {key} has {others.shape[1]} columns but x has {rows.shape[1]}")
    if others.dtype != rows.dtype:
        raise InputError(
            f"{name}: x is kept as {str(rows.dtype)[6:]} but {key} as {str(others.dtype)[6:]}, and bytes are scaled "
            "where floats are not: save both as the same type"
        )


def channels_first(x: NDArray) -> NDArray:
    """Gray or color images (N, H, W, C) as (N, C, H, W); all else as it is."""
    return x.transpose(0, 3, 1, 2) if has_channels_last(x) else x


def has_channels_last(x: NDArray | Source) -> bool:
    """Whether the last axis alone can be that of 1 or 3 channels."""
    return len(x.shape) == 4 and x.shape[3] in (1, 3) and x.shape[1] not in (1, 3)


def image_shape_of(x: NDArray | Source) -> tuple[int, int, int] | None:
    """(C, H, W) of gray or color images; other numbers of channels cannot be drawn and count as columns."""
    if len(x.shape) == 2:
        return None
    shape = x.shape[1:]
    if len(shape) == 3 and has_channels_last(x):
        shape = (shape[2], *shape[:2])
    channels, height, width = shape if len(shape) == 3 else (1, *shape)
    return (channels, height, width) if channels in (1, 3) else None
