"""Checks of arrays: rows of numbers.

Nothing is repaired: what is not a finite number is an error that says where it is.
"""

from collections.abc import Callable
from numbers import Number

import numpy as np
from numpy.typing import NDArray

from dbn.arrays import Array as Array
from dbn.arrays import as_array as as_array
from dbn.errors import InputError, shortened


def checked_rows(name: str, key: str, x: NDArray, place: Callable[[int, int], str] | None = None) -> NDArray:
    """`x` (N, V), (N, H, W), (N, C, H, W) or (N, H, W, C) as (N, V): bytes and bool as uint8, else finite float32."""

    def where(row: int, column: int) -> str:
        return place(row, column) if place else f"{name}: {key}, row {row}, column {column} (counted from 0)"

    if x.dtype == object and x.ndim == 2:
        x = _numbers(x, where)
    if x.dtype.kind not in "biuf":
        raise InputError(f"{name}: {key} holds {x.dtype}, but numbers are needed (bytes, integers or floats)")
    if x.ndim not in (2, 3, 4):
        raise InputError(
            f"{name}: {key} has shape {x.shape}, but (rows, columns), (rows, height, width) or "
            "(rows, channels, height, width) is needed"
        )
    if x.size == 0:
        raise InputError(f"{name}: {key} is empty, its shape is {x.shape}")
    x = channels_first(x).reshape(len(x), -1)
    if x.dtype in (np.bool_, np.uint8):
        return np.require(x.view(np.uint8) if x.flags.c_contiguous else x.astype(np.uint8), None, ["C", "W"])
    with np.errstate(over="ignore"):
        floats = np.require(x, np.float32, ["C", "W"])
    check_finite(floats, where)
    return floats


def _numbers(x: NDArray, where: Callable[[int, int], str]) -> NDArray:
    """Objects (N, V) that are numbers or booleans as floats; InputError for the first that is none."""
    for row, cells in enumerate(x):
        for column, cell in enumerate(cells):
            if cell is None or not isinstance(cell, Number | np.bool_) or isinstance(cell, complex):
                what = "is missing" if cell is None else f"is {shortened(str(cell))}, which is no number"
                raise InputError(
                    f"{where(row, column)} {what}: fill in a number, leave the row or the column out, or give the "
                    "column as the labels"
                )
    return x.astype(np.float64)


def check_finite(x: NDArray, where: Callable[[int, int], str]) -> None:
    """Raises InputError for the first NaN or infinity in `x` (N, V), at `where(row, column)`."""
    finite = np.isfinite(x)
    if not finite.all():
        row, column = np.argwhere(~finite)[0].tolist()
        raise InputError(
            f"{where(row, column)} is {x[row, column]} as a 32-bit float, but only finite numbers can be learned: "
            "remove the row or fill in the value"
        )


def check_alike(name: str, rows: NDArray, key: str, others: NDArray) -> None:
    """InputError unless both have the same columns and the same type."""
    if others.shape[1] != rows.shape[1]:
        raise InputError(f"{name}: {key} has {others.shape[1]} columns but x has {rows.shape[1]}")
    if others.dtype != rows.dtype:
        raise InputError(
            f"{name}: x is kept as {rows.dtype} but {key} as {others.dtype}, and bytes are scaled where floats "
            "are not: save both as the same type"
        )


def channels_first(x: NDArray) -> NDArray:
    """Gray or color images (N, H, W, C) as (N, C, H, W); all else as it is."""
    return x.transpose(0, 3, 1, 2) if has_channels_last(x) else x


def has_channels_last(x: NDArray) -> bool:
    """Whether the last axis alone can be that of 1 or 3 channels."""
    return x.ndim == 4 and x.shape[3] in (1, 3) and x.shape[1] not in (1, 3)


def image_shape_of(x: NDArray) -> tuple[int, int, int] | None:
    """(C, H, W) of gray or color images; other numbers of channels cannot be drawn and count as columns."""
    if x.ndim == 2:
        return None
    channels, height, width = channels_first(x).shape[1:] if x.ndim == 4 else (1, *x.shape[1:])
    return (channels, height, width) if channels in (1, 3) else None
