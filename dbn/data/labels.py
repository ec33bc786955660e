"""Labels as they come: classes, one-hot rows, or missing; an error for what is no class."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from dbn.columns import is_missing as is_missing
from dbn.errors import InputError
from dbn.storage.npz import of_characters


def coded(labels: Mapping[str, NDArray], n_rows: Mapping[str, int]) -> tuple[tuple[str, ...], dict[str, NDArray]]:
    """The sorted classes of all parts, and the labels of each as int64 indices (N,): −1 where one is missing.

    `labels` are whole numbers or strings, (N,) or (N, 1), or one-hot rows (N, C) by part: "" and "_test". None, NaN and
    empty strings are missing labels.

    Raises:
        InputError: labels of another length or shape, or that are no classes; a sentence without the data's name.

    >>> coded({"": np.array([5.0, np.nan, 3.0])}, {"": 3})
    (('3', '5'), {'': array([ 1, -1,  0])})
    """
    found = {part: _values(f"y{part}", y, n_rows[part]) for part, y in labels.items()}
    texts = {part: values.dtype.kind in "UO" for part, (values, there) in found.items() if there.any()}
    if len(set(texts.values())) > 1:
        _as_text(found, texts)
    if len(set(texts.values())) > 1:
        kinds = " but ".join(f"y{part} {'strings' if text else 'numbers'}" for part, text in texts.items())
        raise InputError(f"{kinds} are given as labels: save all as the same type")
    present = [values[there] for values, there in found.values() if there.any()]
    values, codes = np.unique(np.concatenate(present) if present else np.zeros(0, np.int64), return_inverse=True)
    coded, start = {}, 0
    for part, (_, there) in found.items():
        coded[part] = np.full(len(there), -1, np.int64)
        coded[part][there] = codes[start : start + int(there.sum())]
        start += int(there.sum())
    return tuple(map(str, values)), coded


def _as_text(found: dict[str, tuple[NDArray, NDArray]], texts: dict[str, bool]) -> None:
    """Numbers that are all among the words of other parts become words: a mark beside numbers makes words of these."""
    known = {str(each) for part in texts if texts[part] for each in found[part][0][found[part][1]]}
    for part in texts:
        values, there = found[part]
        words = values.astype(str).astype(object)
        if not texts[part] and known.issuperset(words[there]):
            found[part], texts[part] = (words, there), True


def _values(key: str, y: NDArray, n_rows: int) -> tuple[NDArray, NDArray]:
    """The labels (N,) as whole numbers or strings, and where they are not missing."""
    y = _one_a_row(key, y, n_rows)
    if y.dtype.kind == "O":
        there = np.array([not is_missing(label) for label in y], bool)
        kinds = {str if isinstance(label, str) else type(label) for label in y[there]}
        if kinds and kinds != {str}:
            whole = np.array(y[there].tolist())
            if whole.dtype.kind not in "biuf" or str in kinds:
                names = " and ".join(sorted(kind.__name__ for kind in kinds))
                raise InputError(f"{key} holds {names}, but labels are classes: whole numbers or strings")
            y = np.full(len(y), np.nan) if whole.dtype.kind == "f" else np.zeros(len(y), whole.dtype)
            y[there] = whole
    elif y.dtype.kind == "U":
        there = np.char.strip(of_characters(y)) != ""
    else:
        there = ~np.isnan(y) if y.dtype.kind == "f" else np.ones(len(y), bool)
    if y.dtype.kind == "f":
        whole = there & np.isfinite(y) & (y == np.floor(y)) & (np.abs(y) < 2**53)
        if not (whole == there).all():
            row = int(np.argmax(whole != there))
            raise InputError(
                f"{key} holds {y[row]} in row {row} (counted from 0), but labels are classes, whole numbers or "
                "strings: real-valued targets need --task regress"
            )
        return np.where(there, y, 0).astype(np.int64), there
    if y.dtype.kind not in "biuUO":
        raise InputError(f"{key} holds {y.dtype}, but labels are whole numbers or strings")
    # numpy takes halves of surrogate pairs, which UTF-8 does not.
    if y.dtype.kind in "UO" and any("\ud800" <= letter <= "\udfff" for each in set(y[there]) for letter in str(each)):
        raise InputError(f"{key} holds half a character, which no file takes: save the labels as plain text")
    return y, there


def _one_a_row(key: str, y: NDArray, n_rows: int) -> NDArray:
    """(N,): a single column is one label a row, and so is the place of the 1 in one-hot rows."""
    if y.shape == (n_rows, 1):
        return y[:, 0]
    if y.ndim == 2 and len(y) == n_rows and y.dtype.kind in "biuf":
        if ((y == 0) | (y == 1)).all() and (y.sum(1) == 1).all():
            places: NDArray = y.argmax(1)
            return places
        raise InputError(
            f"{key} has {y.shape[1]} columns, which are not one-hot, but labels are classes, one a row: keep one "
            "column, or say --task regress for numbers and --task multilabel for labels of 0 and 1"
        )
    if y.shape != (n_rows,):
        raise InputError(f"{key} has shape {y.shape}, but one label a row is needed, which is ({n_rows},)")
    return y
