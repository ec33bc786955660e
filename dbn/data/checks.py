"""Checks of arrays: rows of numbers.

Nothing is repaired: what is not a finite number is an error that says where it is.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from dbn.data.dataset_rows import DatasetRows
from dbn.data.rows import PIECE, Rows, Source, fits, in_memory, in_place, pieces
from dbn.errors import InputError

Array = Tensor | NDArray | Dataset | Source | Rows


def as_array(values: Any) -> Any:
    """The values in numpy, on the CPU; a source of rows as it is, and for a `Dataset`."""
    if isinstance(values, Source | Rows):
        return values
    if isinstance(values, Dataset):
        return DatasetRows(values)
    return values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)


def rows_of(name: str, key: str, x: Any) -> Tensor | Rows:
    """`checked_rows` of what `as_array` gives; large ones stay where they are."""
    if isinstance(x, Rows):
        return x
    source = in_place(x)
    if source is None:
        return torch.from_numpy(checked_rows(name, key, x))
    check_kind(name, key, source)
    rows = Rows(source)
    kept = in_memory(rows) if fits(rows.nbytes) else rows
    start = 0
    for part in pieces(kept) if kept.dtype == torch.float32 else ():
        check_finite(part.numpy(), _place(name, key, start))
        start += len(part)
    return kept


def _place(name: str, key: str, start: int = 0) -> Callable[[int, int], str]:
    return lambda row, column: f"{name}: {key}, row {start + row}, column {column} (counted from 0)"


def check_kind(name: str, key: str, x: Any) -> None:
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


def checked_rows(name: str, key: str, x: NDArray) -> NDArray:
    """`x` (N, V), (N, H, W) or (N, C, H, W) as (N, V): bytes and bool as uint8, all else as finite float32."""
    check_kind(name, key, x)
    x = x.reshape(len(x), -1)
    if x.dtype in (np.bool_, np.uint8):
        return np.require(x.view(np.uint8) if x.flags.c_contiguous else x.astype(np.uint8), None, ["C", "W"])
    with np.errstate(over="ignore"):
        floats = np.require(x, np.float32, ["C", "W"])
    check_finite(floats, _place(name, key))
    return floats


def check_finite(x: NDArray, where: Callable[[int, int], str]) -> None:
    """Raises InputError for the first NaN or infinity in `x` (N, V), at `where(row, column)`."""
    n = max(1, PIECE // max(1, x.shape[1]))
    for start in range(0, len(x), n):
        finite = np.isfinite(x[start : start + n])
        if finite.all():
            continue
        row, column = np.argwhere(~finite)[0].tolist()
        row += start
        raise InputError(
            f"{where(row, column)} is {x[row, column]} as a 32-bit float, but only finite numbers can be learned: "
            "remove the row or fill in the value"
        )


def check_alike(name: str, rows: Tensor | Rows, test_rows: Tensor | Rows) -> None:
    """InputError unless both have the same columns and the same type."""
    if test_rows.shape[1] != rows.shape[1]:
        raise InputError(f"{name}: x_test has {test_rows.shape[1]} columns but x has {rows.shape[1]}")
    if test_rows.dtype != rows.dtype:
        raise InputError(
            f"{name}: x is kept as {str(rows.dtype)[6:]} but x_test as {str(test_rows.dtype)[6:]}, and bytes are "
            "scaled where floats are not: save both as the same type"
        )


def image_shape_of(name: str, x: Any) -> tuple[int, int, int] | None:
    """(C, H, W) of gray or color images; other numbers of channels cannot be drawn and count as columns."""
    if len(x.shape) == 2:
        return None
    channels, height, width = x.shape[1:] if len(x.shape) == 4 else (1, *x.shape[1:])
    if channels in (1, 3):
        return channels, height, width
    if width in (1, 3):
        raise InputError(
            f"{name}: x has shape {x.shape}, which looks like channels last: transpose it to "
            "(rows, channels, height, width)"
        )
    return None
