"""Training, validation and test examples: checked rows of a data set."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b

import torch
from numpy.typing import NDArray
from torch import Tensor

from dbn.data.checks import Array, as_array, check_alike, checked_rows, image_shape_of
from dbn.data.labels import coded
from dbn.errors import InputError


@dataclass(frozen=True, eq=False)
class Examples:
    """`x` (N, V) uint8 as stored, or float32; `y` (N,) int64 class indices, where there are labels.

    A row without a label has y = −1: it serves pre-training alone.
    """

    x: Tensor
    y: Tensor | None

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, rows: Tensor | slice) -> "Examples":
        """Some of the rows, by index or mask."""
        return Examples(self.x[rows], None if self.y is None else self.y[rows])

    def labeled(self) -> "Examples":
        """The examples with a label; InputError where no example has any."""
        there = labels_of(self) >= 0
        return self if there.all() else self[there]

    def to(self, device: torch.device | str) -> "Examples":
        """The same examples on `device`."""
        return Examples(self.x.to(device), None if self.y is None else self.y.to(device))


@dataclass(frozen=True, eq=False)
class Splits:
    """The rows of a data set: none is in two of `train`, `valid` and `test`. `valid` is empty until it is cut.

    `classes` are names in the order of their indices, () without labels. `image_shape` is (C, H, W) where rows are
    gray or color images. Bytes are divided by `divisor` before use: 255, or 1 where all bytes outside the test
    set are 0 or 1. `test_is_cut` says that the data came without a test set of its own. `columns` are their names where
    the source has such. `label_error` says why labels that were given cannot be used: `check_labels` raises it.
    `balanced` data have equal numbers of every class among validation rows and labels drawn, others their own
    proportions.
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
    label_error: str = ""
    balanced: bool = False

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

    def check_labels(self) -> None:
        """InputError unless the examples have labels that a classifier can learn."""
        if self.label_error:
            raise InputError(f"{self.name}: {self.label_error}")
        if not self.classes:
            raise InputError(f"{self.name} has no labels, and fine-tuning needs them: add y, or --label-column")

    def describe(self) -> str:
        """One sentence: sizes, and what is done to the values."""
        test = "no" if self.test is None else f"{len(self.test):,}"
        cut = ", the test examples cut from the same rows" if self.test_is_cut else ""
        told = self.describe_labels()
        labels = f"in {self.n_classes} classes" if self.classes else "without labels"
        values = "values are used as they are"
        if self.train.x.dtype == torch.uint8:
            values = f"bytes are divided by {self.divisor:g}" if self.divisor != 1 else "bytes are 0 or 1"
        return (
            f"{self.name}: {len(self.train):,} training, {len(self.valid):,} validation and {test} test examples of "
            f"{self.train.x.shape[1]:,} values {labels}{cut}; {values}." + (told and f" {told}")
        )

    def describe_labels(self) -> str:
        """A sentence: why labels are left unused, or how many examples have one; empty where all have."""
        if self.label_error:
            return f"Labels are left unused: {self.label_error}."
        labeled = [int((labels_of(part) >= 0).sum()) for part in (self.train, self.valid) if self.classes]
        if not labeled or sum(labeled) == len(self.train) + len(self.valid):
            return ""
        return f"{labeled[0]:,} training and {labeled[1]:,} validation examples have labels, the others have none."


def unsplit(
    name: str, x: Array, y: Array | None = None, x_test: Array | None = None, y_test: Array | None = None
) -> Splits:
    """The arrays, checked, all rows of `x` in `train`; `name` is what errors call their source.

    `x` is (N, V), (N, H, W) or (N, C, H, W). Bytes and bool stay bytes, which are divided before use; all else becomes
    float32. Labels are whole numbers or strings, (N,) or (N, 1), or one-hot rows, and their sorted values the classes;
    None, NaN and empty strings are missing ones. Other labels are left out, with the reason as `label_error`.

    Raises:
        InputError: no rows, another shape or type, values that are not finite, or test rows unlike the others.
    """
    given = {"x": x, "x_test": x_test}
    arrays = {key: as_array(values) for key, values in given.items() if values is not None}
    rows = {key: checked_rows(name, key, values) for key, values in arrays.items()}
    if "x_test" in arrays:
        check_alike(name, rows["x"], rows["x_test"])
    labels = {part: as_array(values) for part, values in (("", y), ("_test", y_test)) if values is not None}
    classes, codes, label_error = _coded(labels, {key.removeprefix("x"): len(part) for key, part in rows.items()})
    parts = {
        key: Examples(torch.from_numpy(part), torch.from_numpy(codes[key.removeprefix("x")]) if codes else None)
        for key, part in rows.items()
    }
    train = parts["x"]
    divisor = 255.0 if train.x.dtype == torch.uint8 and int(train.x.max()) > 1 else 1.0
    image_shape = image_shape_of(name, arrays["x"])
    return Splits(name, train, train[:0], parts.get("x_test"), classes, image_shape, divisor, label_error=label_error)


def _coded(labels: Mapping[str, NDArray], n_rows: Mapping[str, int]) -> tuple[tuple[str, ...], dict[str, NDArray], str]:
    """Classes and their indices by part as `coded` finds them; nothing, and a sentence, for labels that are none."""
    for part in [*labels, *n_rows] if labels else ():
        if part not in n_rows:
            return (), {}, f"y{part} is there but x{part} is not, give both or neither"
        if part not in labels:
            there = ", ".join(f"y{each}" for each in labels)
            return (), {}, f"{there} is there but y{part} is not, label both x and x_test or neither"
    try:
        return (*coded(labels, n_rows), "") if labels else ((), {}, "")
    except InputError as error:
        return (), {}, str(error)


def labels_of(examples: Examples) -> Tensor:
    """The labels, (N,); InputError where there are none."""
    if examples.y is None:
        raise InputError("these examples have no labels")
    return examples.y
