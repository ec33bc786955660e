"""Training, validation and test examples: checked rows of a data set."""

from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dbn.data.checks import Array, as_array, check_alike, image_shape_of, rows_of
from dbn.data.labels import checked_labels, known_codes
from dbn.data.rows import Rows, in_memory, pieces, select
from dbn.errors import InputError


@dataclass(frozen=True, eq=False)
class Examples:
    """`x` (N, V) uint8 as stored, or float32; `y` (N,) int64 class indices, where there are labels.

    `x` is a tensor, or `Rows` where it is large: some rows of an array, or rows on the disk.
    """

    x: Tensor | Rows
    y: Tensor | None

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, rows: Tensor | slice) -> "Examples":
        """Some of the rows, by index or mask, in memory."""
        return Examples(self.x[rows], None if self.y is None else self.y[rows])

    def select(self, mask: Tensor) -> "Examples":
        """The rows of a mask (N,); many of them are not copied."""
        return Examples(select(self.x, mask), None if self.y is None else self.y[mask])

    @property
    def tensor(self) -> Tensor:
        """All rows in memory."""
        return in_memory(self.x)

    def to(self, device: torch.device | str) -> "Examples":
        """The same examples on `device`."""
        return Examples(self.x.to(device), None if self.y is None else self.y.to(device))


@dataclass(frozen=True, eq=False)
class Splits:
    """The rows of a data set: none is in two of `train`, `valid` and `test`. `valid` is empty until it is cut.

    `classes` are names in the order of their indices, () without labels. `image_shape` is (C, H, W) where rows are
    gray or color images. Bytes are divided by `divisor` before use: 255, or 1 where all bytes outside the test
    set are 0 or 1. `test_is_cut` says that the data came without a test set of its own. `columns` are their names where
    the source has such.
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

    @cached_property
    def fingerprint(self) -> str:
        """A hash of all values, labels and splits."""
        digest = blake2b(repr(self.classes).encode(), digest_size=8)
        for part in (self.train, self.valid, self.test):
            for values in () if part is None else (part.x, part.y):
                if values is not None:
                    digest.update(f"{values.dtype} {tuple(values.shape)}".encode())
                    for piece in pieces(values):
                        digest.update(piece.cpu().contiguous().numpy().data)
        return digest.hexdigest()

    @property
    def n_classes(self) -> int:
        """0 without labels."""
        return len(self.classes)

    def describe(self) -> str:
        """One sentence: sizes, and what is done to the values."""
        test = "no" if self.test is None else f"{len(self.test):,}"
        cut = ", the test examples cut from the same rows" if self.test_is_cut else ""
        labels = f"in {self.n_classes} classes" if self.classes else "without labels"
        values = "values are used as they are"
        if self.train.x.dtype == torch.uint8:
            values = f"bytes are divided by {self.divisor:g}" if self.divisor != 1 else "bytes are 0 or 1"
        return (
            f"{self.name}: {len(self.train):,} training, {len(self.valid):,} validation and {test} test examples of "
            f"{self.train.x.shape[1]:,} values {labels}{cut}; {values}."
        )


def unsplit(
    name: str, x: Array, y: Array | None = None, x_test: Array | None = None, y_test: Array | None = None
) -> Splits:
    """The arrays, checked, all rows of `x` in `train`; `name` is what errors call their source.

    `x` is (N, V), (N, H, W) or (N, C, H, W). Bytes and bool stay bytes, which are divided before use; all else becomes
    float32. Labels are (N,) whole numbers or strings, and their sorted values the classes.

    Raises:
        InputError: no rows, another shape or type, values that are not finite, labels of another length, labels
            that are not classes, or test rows unlike the others.
    """
    given = {"x": x, "y": y, "x_test": x_test, "y_test": y_test}
    arrays = {key: as_array(values) for key, values in given.items() if values is not None}
    rows = {key: rows_of(name, key, arrays[key]) for key in ("x", "x_test") if key in arrays}
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
    parts = {key: Examples(part, torch.from_numpy(codes[key]) if codes else None) for key, part in rows.items()}
    train = parts["x"]
    divisor = 255.0 if train.x.dtype == torch.uint8 and int(train.x.max()) > 1 else 1.0
    return Splits(name, train, train[:0], parts.get("x_test"), classes, image_shape, divisor)


def labels_of(examples: Examples) -> Tensor:
    """The labels, (N,); InputError where there are none."""
    if examples.y is None:
        raise InputError("these examples have no labels")
    return examples.y
