"""Training, validation and test examples: checked rows of a data set."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from hashlib import blake2b
from numbers import Real
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dbn.data.checks import Array, as_array, check_alike, checked_rows, image_shape_of, names_of
from dbn.data.labels import checked_labels, known_codes
from dbn.errors import InputError, listed

TOP = 127
"""Bytes above it are of 0 … 255: nothing else sets the highest of eight bits."""

Divisor = float | Literal["max"] | None


@dataclass(frozen=True, eq=False)
class Examples:
    """`x` (N, V) uint8 as stored, or float32; `y` (N,) int64 class indices, where there are labels."""

    x: Tensor
    y: Tensor | None

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, rows: Tensor | slice) -> "Examples":
        """Some of the rows, by index or mask."""
        return Examples(self.x[rows], None if self.y is None else self.y[rows])

    def with_columns(self, order: Sequence[int]) -> "Examples":
        """The same examples with their columns in another order."""
        return Examples(self.x[:, list(order)], self.y)

    def to(self, device: torch.device | str) -> "Examples":
        """The same examples on `device`."""
        return Examples(self.x.to(device), None if self.y is None else self.y.to(device))


@dataclass(frozen=True, eq=False)
class Splits:
    """The rows of a data set: none is in two of `train`, `valid` and `test`. `valid` is empty until it is cut.

    `classes` are names in the order of their indices, () without labels. `image_shape` is (C, H, W) where rows are
    gray or color images. Values are divided by `divisor` before use: for bytes it is 255 where any outside the test
    set is above 127, else 1, as for all other values, unless one is given, which `divisor_given` tells. `test_is_cut`
    says that the data came without a test set of its own. `columns` are their names where the source has such.
    `unchecked` are data sets made to show what test values of another scale do.
    """

    name: str
    train: Examples
    valid: Examples
    test: Examples | None
    classes: tuple[str, ...]
    image_shape: tuple[int, int, int] | None
    divisor: float
    test_is_cut: bool = False
    columns: tuple[str, ...] = ()
    divisor_given: bool = False
    unchecked: bool = False

    @property
    def parts(self) -> dict[str, Examples]:
        """The examples that there are, by what they are for."""
        named = {"training": self.train, "validation": self.valid, "test": self.test}
        return {purpose: part for purpose, part in named.items() if part}

    def with_columns(self, order: Sequence[int] | None) -> "Splits":
        """The same examples with their columns in another order; None for theirs."""
        if order is None:
            return self
        parts = {name: getattr(self, name) for name in ("train", "valid", "test")}
        ordered: dict[str, Any] = {name: part and part.with_columns(order) for name, part in parts.items()}
        return replace(self, **ordered, columns=tuple(self.columns[place] for place in order))

    @cached_property
    def fingerprint(self) -> str:
        """A hash of all values, labels and splits."""
        digest = blake2b(repr(self.classes).encode(), digest_size=8)
        for part in (self.train, self.valid, self.test):
            for tensor in () if part is None else (part.x, part.y):
                if tensor is not None:
                    digest.update(f"{tensor.dtype} {tuple(tensor.shape)}".encode())
                    digest.update(tensor.cpu().contiguous().numpy().data)
        return digest.hexdigest()

    @property
    def n_classes(self) -> int:
        """0 without labels."""
        return len(self.classes)

    def describe(self, *, standardized: bool = False) -> str:
        """One sentence: sizes, and what is done to the values, whether they are `standardized` included."""
        test = "no" if self.test is None else f"{len(self.test):,}"
        cut = ", the test examples cut from the same rows" if self.test_is_cut else ""
        labels = f"in {self.n_classes} classes" if self.classes else "without labels"
        values = "bytes are" if self.train.x.dtype == torch.uint8 else "values are"
        done = [f"divided by {self.divisor:g}"] * (self.divisor != 1) + ["standardized"] * standardized
        if values == "bytes are" and not done and int(self.train.x.aminmax().max) <= 1:
            done = ["0 or 1"]
        return (
            f"{self.name}: {len(self.train):,} training, {len(self.valid):,} validation and {test} test examples of "
            f"{self.train.x.shape[1]:,} values {labels}{cut}; {values} {' and '.join(done) or 'used as they are'}."
        )


def unsplit(
    name: str,
    x: Array,
    y: Array | None = None,
    x_test: Array | None = None,
    y_test: Array | None = None,
    *,
    divisor: Divisor = None,
) -> Splits:
    """The arrays, checked, all rows of `x` in `train`; `name` is what errors call their source.

    `x` is (N, V), (N, H, W) or (N, C, H, W). Bytes and bool stay bytes, which are divided before use; all else becomes
    float32. Labels are (N,) whole numbers or strings, and their sorted values the classes. `divisor` goes before that
    of `Splits`; "max" is the greatest value of `x`.

    Raises:
        InputError: no rows, another shape or type, values that are not finite, labels of another length, labels
            that are not classes, or test rows unlike the others.
    """
    columns = names_of(x)
    if columns and names_of(x_test) not in ((), columns):
        if set(names_of(x_test)) != set(columns):
            raise InputError(f"{name}: x_test has the columns {listed(names_of(x_test))}, but x {listed(columns)}")
        x_test = x_test[list(columns)]  # type: ignore[index]
    given = {"x": x, "y": y, "x_test": x_test, "y_test": y_test}
    arrays = {key: as_array(values) for key, values in given.items() if values is not None}
    rows = {key: checked_rows(name, key, arrays[key]) for key in ("x", "x_test") if key in arrays}
    if "y_test" in arrays and "x_test" not in arrays:
        raise InputError(f"{name}: y_test is there but x_test is not, give both or neither")
    if "x_test" in arrays:
        if ("y" in arrays) != ("y_test" in arrays):
            there, missing = ("y", "y_test") if "y" in arrays else ("y_test", "y")
            raise InputError(f"{name}: {there} is there but {missing} is not, label both x and x_test or neither")
        check_alike(name, rows["x"], rows["x_test"])
    image_shape = image_shape_of(name, arrays["x"])
    classes: tuple[str, ...] = ()
    codes: dict[str, NDArray] = {}
    if "y" in arrays:
        values, found = np.unique(checked_labels(name, "y", arrays["y"], len(rows["x"])), return_inverse=True)
        classes, codes["x"] = tuple(map(str, values)), found.astype(np.int64)
        if "y_test" in arrays:
            labels = checked_labels(name, "y_test", arrays["y_test"], len(rows["x_test"]))
            codes["x_test"] = known_codes(name, values, labels)
    parts = {
        key: Examples(torch.from_numpy(part), torch.from_numpy(codes[key]) if codes else None)
        for key, part in rows.items()
    }
    train = parts["x"]
    splits = Splits(name, train, train[:0], parts.get("x_test"), classes, image_shape, 1.0, columns=columns)
    return with_divisor(splits, divisor)


def with_divisor(splits: Splits, divisor: Divisor = None) -> Splits:
    """The splits with this divisor: a number, "max" for the greatest training value, None for what the type says."""
    x = splits.train.x
    greatest = x.aminmax().max.item()
    if divisor is None:
        return replace(splits, divisor=255.0 if x.dtype == torch.uint8 and greatest > TOP else 1.0)
    number: Any = greatest if divisor == "max" else divisor
    if divisor != "max" and not (isinstance(number, Real) and 0 < float(number) < math.inf):
        raise InputError(f"--divisor must be a number above 0 or max, not {divisor!r}")
    if divisor == "max" and greatest <= 0:
        raise InputError(f"{splits.name}: the greatest training value is {greatest:g}, so --divisor max is none")
    return replace(splits, divisor=float(number), divisor_given=True)


def labels_of(examples: Examples) -> Tensor:
    """The labels, (N,); InputError where there are none."""
    if examples.y is None:
        raise InputError("these examples have no labels")
    return examples.y
