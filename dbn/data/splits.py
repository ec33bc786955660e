"""Training, validation and test examples, cut from checked rows."""

from bisect import bisect_right
from dataclasses import dataclass, field
from hashlib import blake2b

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dbn.data.table import Table, checked_table
from dbn.errors import InputError
from dbn.rng import permutation, stream

LEAST_ROWS = 10


MOST_VALIDATION = 5000


SPLIT_SEED = 0


@dataclass(frozen=True, eq=False)
class Examples:
    """`x` (N, V) uint8 as stored, or float32; `y` (N,) int64 class indices, where there are labels."""

    x: Tensor
    y: Tensor | None

    def __len__(self) -> int:
        return len(self.x)

    def to(self, device: torch.device | str) -> "Examples":
        """The same examples on `device`."""
        return Examples(self.x.to(device), None if self.y is None else self.y.to(device))


@dataclass(frozen=True, eq=False)
class Splits:
    """What a data set gives: no row is in two of `train`, `valid` and `test`.

    `classes` are names in the order of their indices, () without labels. `image_shape` is (C, H, W) where rows are
    grey or colour pictures. Bytes are divided by `divisor` before use: 255, or 1 where all bytes outside the test
    set are 0 or 1. `fingerprint` changes with any value, label or split. `test_is_cut` says that the data came
    without a test set of its own.
    """

    name: str
    train: Examples
    valid: Examples
    test: Examples | None
    classes: tuple[str, ...]
    image_shape: tuple[int, int, int] | None
    divisor: float
    test_is_cut: bool = False
    fingerprint: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "fingerprint", _fingerprint(self))

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


def _fingerprint(splits: Splits) -> str:
    digest = blake2b(repr(splits.classes).encode(), digest_size=8)
    for part in (splits.train, splits.valid, splits.test):
        for tensor in () if part is None else (part.x, part.y):
            if tensor is not None:
                digest.update(f"{tensor.dtype} {tuple(tensor.shape)}".encode())
                digest.update(tensor.cpu().contiguous().numpy().data)
    return digest.hexdigest()


def splits_from_arrays(
    x: Tensor | NDArray,
    y: Tensor | NDArray | None = None,
    *,
    name: str = "x",
    cut_test: bool = False,
) -> Splits:
    """Arrays in memory, checked and split as a file of them would be; without a test set unless `cut_test`.

    Raises:
        InputError: as for a file.
    """
    table = checked_table(name, as_array(x), None if y is None else as_array(y))
    return split_table(name, table, cut_test=cut_test)


def as_array(values: Tensor | NDArray) -> NDArray:
    """Tensors as numpy arrays on the CPU."""
    return values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)


def split_table(name: str, table: Table, *, cut_test: bool) -> Splits:
    """Training, validation and test rows of a table; see `load_splits`."""
    if len(table.x) < LEAST_ROWS:
        raise InputError(f"{name}: {len(table.x)} rows are too few to split, at least {LEAST_ROWS} are needed")
    if len(table.classes) == 1:
        raise InputError(f"{name}: all labels are {table.classes[0]!r}, but at least two classes are needed")
    rest = _examples(table.x, table.y)
    binary = rest.x.dtype == torch.uint8 and int(rest.x.max()) <= 1
    divisor = 255.0 if rest.x.dtype == torch.uint8 and not binary else 1.0
    test = None if table.x_test is None else _examples(table.x_test, table.y_test)
    test_is_cut = test is None and cut_test
    if test_is_cut:
        rest, test = _cut(name, rest, (_class_sizes(rest) + 2) // 5, "test")
    if table.n_valid is not None:
        train, valid = _parted(rest, torch.arange(len(rest)) >= len(rest) - table.n_valid)
    else:
        n_valid = min(max(len(rest) // 10, 1), MOST_VALIDATION)
        train, valid = _cut(name, rest, _level_quotas(_class_sizes(rest) // 2, n_valid), "validation")
    return Splits(name, train, valid, test, table.classes, table.image_shape, divisor, test_is_cut)


def _examples(x: NDArray, y: NDArray | None) -> Examples:
    return Examples(torch.from_numpy(x), None if y is None else torch.from_numpy(y))


def _classes_of(examples: Examples) -> Tensor:
    """Unlabelled rows are one class to the cuts."""
    return torch.zeros(len(examples), dtype=torch.int64) if examples.y is None else examples.y


def _class_sizes(examples: Examples) -> Tensor:
    return torch.bincount(_classes_of(examples))


def _level_quotas(limits: Tensor, n: int) -> Tensor:
    """`n` shared out evenly: min(limit, level) of each class, one more for the largest classes until `n` is reached."""

    def total(level: int) -> int:
        return int(limits.clamp(max=level).sum())

    level = bisect_right(range(n + 1), n, key=total) - 1
    quotas = limits.clamp(max=level)
    left = min(n, int(limits.sum())) - total(level)
    largest_first = torch.argsort(limits, descending=True, stable=True)
    quotas[largest_first[:left]] += 1
    return quotas


def _cut(name: str, examples: Examples, quotas: Tensor, purpose: str) -> tuple[Examples, Examples]:
    if int(quotas.sum()) == 0:
        raise InputError(f"{name}: every class has too few rows for a {purpose} split, give more rows or merge classes")
    goes = torch.zeros(len(examples), dtype=torch.bool)
    goes[_draw(_classes_of(examples), quotas, stream(SPLIT_SEED, "split", purpose))] = True
    return _parted(examples, goes)


def _parted(examples: Examples, goes: Tensor) -> tuple[Examples, Examples]:
    """The rows that stay and those that go, (N,) bool, both in their old order."""
    y = examples.y
    stays, gone = ((examples.x[rows], None if y is None else y[rows]) for rows in (~goes, goes))
    return Examples(*stays), Examples(*gone)


def _draw(y: Tensor, quotas: Tensor, generator: torch.Generator) -> Tensor:
    """Rows at random, `quotas[c]` of every class c, in rising order; larger quotas only add rows."""
    order = permutation(len(y), generator).to(y.device)
    order = order[torch.argsort(y[order], stable=True)]
    sizes = torch.bincount(y, minlength=len(quotas))
    rank = torch.arange(len(y), device=y.device) - (sizes.cumsum(0) - sizes)[y[order]]
    return order[rank < quotas.to(y.device)[y[order]]].sort().values


def draw_labels(y: Tensor, n: int, n_classes: int, generator: torch.Generator, option: str = "--labels") -> Tensor:
    """Indices (n,), rising, of a random subset of `y` (N,) with equal numbers of every class.

    What is left of an uneven division goes to the largest classes, one each. Under the same seed a smaller subset
    lies within a larger one.

    Raises:
        InputError: fewer labels than classes, or a class with fewer examples than its share.
    """
    if n < n_classes:
        raise InputError(f"{option} {n} is fewer than the {n_classes} classes, ask for one a class at least")
    sizes = torch.bincount(y, minlength=n_classes).cpu()
    quotas = torch.full_like(sizes, n // n_classes)
    quotas[torch.argsort(sizes, descending=True, stable=True)[: n % n_classes]] += 1
    if (sizes < quotas).any():
        poor = int((sizes < quotas).nonzero()[0])
        raise InputError(
            f"{option} {n} needs {int(quotas[poor])} examples of class {poor} (counted from 0), which has "
            f"{int(sizes[poor])}: ask for fewer labels"
        )
    return _draw(y, quotas, generator)


def labels_of(examples: Examples) -> Tensor:
    """The labels, (N,); InputError where there are none."""
    if examples.y is None:
        raise InputError("these examples have no labels")
    return examples.y
