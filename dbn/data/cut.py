"""Cuts: validation and test rows from training rows, and subsets of the labels.

A cut depends on the rows and their classes alone, never on a run's seed: pre-training and fine-tuning cut the same
rows.
"""

from bisect import bisect_right
from dataclasses import replace

import torch
from torch import Tensor

from dbn.data.checks import Array
from dbn.data.splits import Examples, Splits, unsplit
from dbn.errors import InputError
from dbn.rng import permutation, stream

LEAST_ROWS = 10
MOST_VALIDATION = 5000
SPLIT_SEED = 0


def splits_from_arrays(
    x: Array,
    y: Array | None = None,
    x_test: Array | None = None,
    y_test: Array | None = None,
    *,
    name: str = "x",
    cut_test: bool = False,
) -> Splits:
    """Arrays in memory, checked and split as a file of them would be; without `x_test` test rows only if `cut_test`.

    Raises:
        InputError: as `unsplit` and `cut`.
    """
    return cut(unsplit(name, x, y, x_test, y_test), test=cut_test)


def cut(splits: Splits, *, test: bool) -> Splits:
    """The splits with validation rows cut from the training rows where there are none, and test rows if `test`.

    One fifth of every class goes to the test rows, then one tenth of the rows, at most 5,000, to the validation rows,
    with equal numbers of every class as far as half of each class goes.

    Raises:
        InputError: too few rows, in all or of every class, or a single class.
    """
    name, train, valid, held_out = splits.name, splits.train, splits.valid, splits.test
    if len(train) + len(valid) < LEAST_ROWS:
        raise InputError(
            f"{name}: {len(train) + len(valid)} rows are too few to split, at least {LEAST_ROWS} are needed"
        )
    if len(splits.classes) == 1:
        raise InputError(f"{name}: all labels are {splits.classes[0]!r}, but at least two classes are needed")
    test = test and held_out is None
    if test:
        train, held_out = _cut(name, train, (_class_sizes(train) + 2) // 5, "test")
    if not len(valid):
        n_valid = min(max(len(train) // 10, 1), MOST_VALIDATION)
        train, valid = _cut(name, train, _level_quotas(_class_sizes(train) // 2, n_valid), "validation")
    return replace(splits, train=train, valid=valid, test=held_out, test_is_cut=test)


def _classes_of(examples: Examples) -> Tensor:
    """Rows without labels are one class to the cuts."""
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
    """The rows that stay and those that go, both in their old order."""
    if int(quotas.sum()) == 0:
        raise InputError(f"{name}: every class has too few rows for a {purpose} split, give more rows or merge classes")
    goes = torch.zeros(len(examples), dtype=torch.bool)
    goes[_draw(_classes_of(examples), quotas, stream(SPLIT_SEED, "split", purpose))] = True
    return examples.select(~goes), examples.select(goes)


def _draw(y: Tensor, quotas: Tensor, generator: torch.Generator) -> Tensor:
    """Rows at random, `quotas[c]` of every class c, in rising order; larger quotas only add rows."""
    order = permutation(len(y), generator).to(y.device)
    if len(quotas) == 1:  # as below, in a fifth of the memory
        return order[: int(quotas[0])].sort().values
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
