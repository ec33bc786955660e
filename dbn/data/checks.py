"""Checks of arrays: rows of numbers.

Nothing is repaired: what is not a finite number is an error that says where it is.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from dbn.errors import InputError

Array = Tensor | NDArray


def as_array(values: Array) -> NDArray:
    """The values in numpy, on the CPU."""
    return values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)


def names_of(x: object) -> tuple[str, ...]:
    """The names of the columns of a data frame, () for what has none."""
    names = getattr(x, "columns", ())
    return tuple(names) if not callable(names) and all(type(each) is str for each in names) else ()


def checked_rows(name: str, key: str, x: NDArray) -> NDArray:
    """`x` (N, V), (N, H, W) or (N, C, H, W) as (N, V): bytes and bool as uint8, all else as finite float32."""
    if x.dtype.kind not in "biuf":
        raise InputError(f"{name}: {key} holds {x.dtype}, but numbers are needed (bytes, integers or floats)")
    if x.ndim not in (2, 3, 4):
        raise InputError(
            f"{name}: {key} has shape {x.shape}, but (rows, columns), (rows, height, width) or "
            "(rows, channels, height, width) is needed"
        )
    if x.size == 0:
        raise InputError(f"{name}: {key} is empty, its shape is {x.shape}")
    x = x.reshape(len(x), -1)
    if x.dtype in (np.bool_, np.uint8):
        return np.require(x.view(np.uint8) if x.flags.c_contiguous else x.astype(np.uint8), None, ["C", "W"])
    with np.errstate(over="ignore"):
        floats = np.require(x, np.float32, ["C", "W"])
    check_finite(floats, lambda row, column: f"{name}: {key}, row {row}, column {column} (counted from 0)")
    return floats


def check_finite(x: NDArray, where: Callable[[int, int], str]) -> None:
    """Raises InputError for the first NaN or infinity in `x` (N, V), at `where(row, column)`."""
    finite = np.isfinite(x)
    if not finite.all():
        row, column = np.argwhere(~finite)[0].tolist()
        raise InputError(
            f"{where(row, column)} is {x[row, column]} as a 32-bit float, but only finite numbers can be learned: "
            "remove the row or fill in the value"
        )


def check_alike(name: str, rows: NDArray, test_rows: NDArray) -> None:
    """InputError unless both have the same columns and the same type."""
    if test_rows.shape[1] != rows.shape[1]:
        raise InputError(f"{name}: x_test has {test_rows.shape[1]} columns but x has {rows.shape[1]}")
    if test_rows.dtype != rows.dtype:
        raise InputError(
            f"{name}: x is kept as {rows.dtype} but x_test as {test_rows.dtype}, and bytes are scaled where floats "
            "are not: save both as the same type"
        )


def image_shape_of(name: str, x: NDArray) -> tuple[int, int, int] | None:
    """(C, H, W) of gray or color images; other numbers of channels cannot be drawn and count as columns."""
    if x.ndim == 2:
        return None
    channels, height, width = x.shape[1:] if x.ndim == 4 else (1, *x.shape[1:])
    if channels in (1, 3):
        return channels, height, width
    if width in (1, 3):
        raise InputError(
            f"{name}: x has shape {x.shape}, which looks like channels last: transpose it to "
            "(rows, channels, height, width)"
        )
    return None
