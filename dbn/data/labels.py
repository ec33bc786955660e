"""Checks of labels: classes as whole numbers or strings."""

import numpy as np
from numpy.typing import NDArray

from dbn.errors import InputError


def checked_labels(name: str, key: str, y: NDArray, n_rows: int) -> NDArray:
    """`y` (N,) as whole numbers or strings."""
    if y.shape != (n_rows,):
        raise InputError(f"{name}: {key} has shape {y.shape}, but one label a row is needed, which is ({n_rows},)")
    if y.dtype.kind == "O":  # text read from a file, None where a label is missing
        missing = np.array([label is None for label in y])
        if missing.any():
            row = int(np.argmax(missing))
            raise InputError(f"{name}: the label in row {row} of {key} (counted from 0) is missing")
        return y
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
    # numpy takes halves of surrogate pairs, which UTF-8 does not.
    if y.dtype.kind == "U" and any("\ud800" <= letter <= "\udfff" for label in np.unique(y) for letter in str(label)):
        raise InputError(f"{name}: {key} holds half a character, which no file takes: save the labels as plain text")
    return y


def known_codes(name: str, values: NDArray, key: str, labels: NDArray) -> NDArray:
    """The index of every label in the sorted `values`."""
    if (labels.dtype.kind in "UO") != (values.dtype.kind in "UO"):
        raise InputError(f"{name}: y holds {values.dtype} but {key} {labels.dtype}, save both as the same type")
    codes = np.searchsorted(values, labels).clip(max=len(values) - 1)
    unknown = values[codes] != labels
    if unknown.any():
        label = str(labels[np.argmax(unknown)])
        raise InputError(f"{name}: {key} holds the class {label!r}, which y never does")
    return codes.astype(np.int64)
