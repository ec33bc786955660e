"""Rows of numbers, checked: what every source of data is turned into before it is split.

Arrays saved as bytes (uint8, or bool) stay bytes, which are divided before use; everything else becomes float32.
Nothing is repaired: what is not a finite number is an error that says where it is.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dbn.errors import InputError


@dataclass(frozen=True, eq=False)
class Table:
    """`x` (N, V) uint8 or float32, `y` (N,) int64 indices into `classes`; test rows alike, where there are any.

    The last `n_valid` rows of `x` are for validation, where the source says which are.
    """

    x: NDArray
    y: NDArray | None
    x_test: NDArray | None
    y_test: NDArray | None
    classes: tuple[str, ...]
    image_shape: tuple[int, int, int] | None
    n_valid: int | None = None


def checked_table(
    name: str,
    x: NDArray,
    y: NDArray | None = None,
    x_test: NDArray | None = None,
    y_test: NDArray | None = None,
) -> Table:
    """The arrays as a `Table`; `name` is what errors call their source.

    `x` is (N, V), (N, H, W) or (N, C, H, W); labels are (N,) whole numbers or strings, their sorted values the
    classes.

    Raises:
        InputError: no rows, another shape or type, values that are not finite, labels of another length, labels
            that are not classes, or test rows unlike the others.
    """
    rows = _rows(name, "x", x)
    test_rows = None if x_test is None else _rows(name, "x_test", x_test)
    if test_rows is None and y_test is not None:
        raise InputError(f"{name}: y_test is there but x_test is not, give both or neither")
    if test_rows is not None and (y is None) != (y_test is None):
        there, missing = ("y_test", "y") if y is None else ("y", "y_test")
        raise InputError(f"{name}: {there} is there but {missing} is not, label both x and x_test or neither")
    if test_rows is not None:
        _check_alike(name, rows, test_rows)
    image_shape = _image_shape(name, x)
    if y is None:
        return Table(rows, None, test_rows, None, (), image_shape)

    values, codes = np.unique(_labels(name, "y", y, len(rows)), return_inverse=True)
    test_codes = None
    if test_rows is not None and y_test is not None:
        test_codes = _known_codes(name, values, _labels(name, "y_test", y_test, len(test_rows)))
    classes = tuple(str(value) for value in values)
    return Table(rows, codes.astype(np.int64), test_rows, test_codes, classes, image_shape)


def _rows(name: str, key: str, x: NDArray) -> NDArray:
    """`x` as (N, V) uint8 or float32, finite."""
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


def _check_alike(name: str, rows: NDArray, test_rows: NDArray) -> None:
    if test_rows.shape[1] != rows.shape[1]:
        raise InputError(f"{name}: x_test has {test_rows.shape[1]} columns but x has {rows.shape[1]}")
    if test_rows.dtype != rows.dtype:
        raise InputError(
            f"{name}: x is kept as {rows.dtype} but x_test as {test_rows.dtype}, and bytes are scaled where floats "
            "are not: save both as the same type"
        )


def _image_shape(name: str, x: NDArray) -> tuple[int, int, int] | None:
    """(C, H, W) of grey or colour pictures; other numbers of channels cannot be drawn and count as columns."""
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


def _labels(name: str, key: str, y: NDArray, n_rows: int) -> NDArray:
    """`y` as integers or strings, one a row."""
    if y.shape != (n_rows,):
        raise InputError(f"{name}: {key} has shape {y.shape}, but one label a row is needed, which is ({n_rows},)")
    if y.dtype.kind == "f":
        whole = np.isfinite(y) & (y == np.floor(y)) & (np.abs(y) < 2**53)
        if not whole.all():
            row = int(np.argmin(whole))
            raise InputError(
                f"{name}: {key} holds {y[row]} in row {row} (counted from 0), but labels are classes: whole numbers "
                "or strings"
            )
        return y.astype(np.int64)
    if y.dtype.kind not in "biuU":
        raise InputError(f"{name}: {key} holds {y.dtype}, but labels are whole numbers or strings")
    if y.dtype.kind == "U" and not all(map(_is_text, np.unique(y).tolist())):
        raise InputError(f"{name}: {key} holds half a character, which no file takes: save the labels as plain text")
    return y


def _is_text(label: str) -> bool:
    """Whether UTF-8 has all its characters: numpy takes halves of pairs."""
    return not any("\ud800" <= character <= "\udfff" for character in label)


def _known_codes(name: str, values: NDArray, labels: NDArray) -> NDArray:
    """The index of every label in the sorted `values`."""
    if (labels.dtype.kind == "U") != (values.dtype.kind == "U"):
        raise InputError(f"{name}: y holds {values.dtype} but y_test {labels.dtype}, save both as the same type")
    codes = np.searchsorted(values, labels).clip(max=len(values) - 1)
    unknown = values[codes] != labels
    if unknown.any():
        label = str(labels[np.argmax(unknown)])
        raise InputError(f"{name}: y_test holds the class {label!r}, which y never does")
    return codes.astype(np.int64)
