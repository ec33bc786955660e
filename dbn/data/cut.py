"""Cuts: validation and test rows from training rows, and subsets of the labels.

A cut depends on the rows and their classes alone, never on a run's seed: pre-training and fine-tuning cut the same
rows.
"""

from bisect import bisect_right
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor

from dbn.columns import Kinds
from dbn.data.examples import Examples, is_labeled
from dbn.data.labels import coded
from dbn.data.marks import NO_LABEL, has_minus_one, marked, without_labels
from dbn.data.splits import Divisor, Reader, Splits, unsplit
from dbn.errors import InputError
from dbn.rng import permutation, stream

LEAST_ROWS = 10
MOST_VALIDATION = 5000
SPLIT_SEED = 0
Split = Literal["proportional", "balanced"]


def splits_from_arrays(
    x: Any,
    y: Any = None,
    x_test: Any = None,
    y_test: Any = None,
    *,
    name: str = "x",
    cut_test: bool = False,
    divisor: Divisor = None,
    unlabeled: str | float | None = None,
    split: Split | None = None,
    read_labels: Reader = coded,
    kinds: Kinds | None = None,
    sample_weight: Any = None,
    missing: bool = False,
) -> Splits:
    """Objects in memory (`as_table`), checked and split as a file of them would be.

    Without `x_test` there are test rows only if `cut_test`.

    A class −1 beside 0, 1, … is the mark of rows without a label, as in scikit-learn.

    divisor: of the values, a number or "max", the greatest of `x`; by default see `Splits`.
    read_labels, kinds, sample_weight, missing: as for `unsplit`.

    Raises:
        InputError: as `unsplit` and `cut`.
    """
    more: dict[str, Any] = {"read_labels": read_labels, "kinds": kinds, "sample_weight": sample_weight}
    more["missing"] = missing
    splits = unsplit(name, x, y, x_test, y_test, divisor=divisor, **more)
    if unlabeled is None and has_minus_one(splits.classes):
        unlabeled = NO_LABEL
    return cut(splits, test=cut_test, unlabeled=unlabeled, split=split)


def cut(splits: Splits, *, test: bool, unlabeled: str | float | None = None, split: Split | None = None) -> Splits:
    """The splits with validation rows cut from the training rows where there are none, and test rows if `test`.

    One fifth of every class goes to the test rows, and then one tenth of the rows, at most 5,000, to the validation
    rows: in the classes' proportions and at least one of each, but never half of a class or more with the test rows.
    Rows without a label, such as those of the class `unlabeled`, are none of the test rows; one tenth of them, too, is
    for validation. Without any labels there is no test set.

    Rows of weight 0 are left out first.

    A `balanced` split has equal numbers of every class among the validation rows, as far as half of each class goes,
    and test rows without labels: the rule of earlier versions.

    Targets are cut as the labels of a single class: at random.

    Labels that no split can be made with are left out, as in `marked`.

    Raises:
        InputError: fewer than 10 rows, a `balanced` split of targets, or as `marked`.
    """
    splits = of_some_weight(splits)
    n = len(splits.train) + len(splits.valid)
    if n < LEAST_ROWS:
        raise InputError(f"{splits.name}: {n} rows are too few to split, at least {LEAST_ROWS} are needed")
    if splits.targets and split == "balanced":
        raise InputError(f"{splits.name}: --split balanced is for classes, and these are targets: leave it out")
    splits = replace(marked(splits, unlabeled), balanced=split == "balanced")
    try:
        return _cut_parts(splits, test=test)
    except InputError as error:
        return _cut_parts(without_labels(splits, str(error)), test=test)


def of_some_weight(splits: Splits) -> Splits:
    """The same without the rows of weight 0, which count nothing."""
    left_out, parts = 0, dict[str, Any]()
    for name, part in (("train", splits.train), ("valid", splits.valid), ("test", splits.test)):
        if part is None or part.weights is None or part.weights.all():
            continue
        parts[name] = part.select(part.weights > 0)
        left_out += len(part) - len(parts[name])
    note = f"Rows of weight 0 are left out: {left_out:,}."
    return replace(splits, **parts, notes=(*splits.notes, note)) if left_out else splits


def _cut_parts(splits: Splits, *, test: bool) -> Splits:
    """As `cut`, after the checks; InputError for classes with too few rows."""
    n = 1 if splits.targets else splits.n_classes
    train, valid, held_out = splits.train, splits.valid, splits.test
    cut_valid = not len(valid)
    test = test and held_out is None and bool(n or splits.balanced)
    tested = torch.zeros(n + 1, dtype=torch.int64, device="cpu")
    if test:
        tested = (_sizes(train, n) + 2) // 5
        tested[n] *= not n
        train, held_out = _cut(train, n, tested, "test")
    if cut_valid:
        quotas = _validation_quotas(_sizes(train, n), tested, balanced=splits.balanced)
        train, valid = _cut(train, n, quotas, "validation")
    return replace(splits, train=train, valid=valid, test=held_out, test_is_cut=test, valid_is_cut=cut_valid)


def _groups(examples: Examples, n_classes: int) -> Tensor:
    """(N,): the classes, and after them the rows without a label as one more."""
    if examples.y is None:
        return torch.zeros(len(examples), dtype=torch.int64, device=examples.x.device)
    there = is_labeled(examples.y)
    return torch.where(there, 0 if examples.y.is_floating_point() else examples.y, n_classes)


def _sizes(examples: Examples, n_classes: int) -> Tensor:
    return torch.bincount(_groups(examples, n_classes), minlength=n_classes + 1)


def _validation_quotas(sizes: Tensor, tested: Tensor, *, balanced: bool) -> Tensor:
    """The validation rows of each class and of the rows without a label, where `tested` rows are test rows already."""
    quotas = torch.zeros_like(sizes)
    classes, unlabeled = sizes[:-1], int(sizes[-1])
    if n_labeled := int(classes.sum()):
        n = min(max(n_labeled // 10, 1), MOST_VALIDATION)
        limits = ((classes + tested[:-1] - 1) // 2 - tested[:-1]).clamp(min=0)
        if balanced:
            quotas[:-1] = _level_quotas(classes // 2, n)
        elif limits.any():
            quotas[:-1] = _proportional_quotas(classes, limits, max(n, int((limits > 0).sum())))
        else:  # too few for both sets
            quotas[:-1] = _proportional_quotas(classes, classes // 2, n)
    left = MOST_VALIDATION - int(quotas.sum())
    quotas[-1] = min(max(unlabeled // 10, 0 if len(classes) else 1), left)
    if not quotas[:-1].any() and len(classes):
        quotas[-1] = 0
    return quotas


def _proportional_quotas(sizes: Tensor, limits: Tensor, n: int) -> Tensor:
    """`n` shared out in proportion to the sizes, one for each class first; at most the limit of each class.

    By Sainte-Laguë's method, with which a larger `n` takes nothing from any class.

    >>> sizes = torch.tensor([60, 30, 9, 1])
    >>> _proportional_quotas(sizes, sizes, 20).tolist(), _proportional_quotas(sizes, sizes, 3).tolist()
    ([11, 6, 2, 1], [1, 1, 1, 0])
    """
    largest_first = torch.argsort(sizes, descending=True, stable=True)
    limits = limits[largest_first]
    share = largest_first.repeat_interleave(limits)  # the class of every row that may go
    rank = torch.arange(len(share), device=share.device) - (limits.cumsum(0) - limits).repeat_interleave(limits)
    cost = torch.where(rank == 0, 0.0, (2.0 * rank.double() + 1.0) / sizes[share])
    return torch.bincount(share[torch.argsort(cost, stable=True)[:n]], minlength=len(sizes))


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


def _cut(examples: Examples, n_classes: int, quotas: Tensor, purpose: str) -> tuple[Examples, Examples]:
    """The rows that stay and those that go, both in their old order."""
    if int(quotas.sum()) == 0:
        raise InputError(f"every class has too few rows for a {purpose} split, give more rows or merge classes")
    goes = torch.zeros(len(examples), dtype=torch.bool, device=examples.x.device)
    goes[_draw(_groups(examples, n_classes), quotas, stream(SPLIT_SEED, "split", purpose))] = True
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


def draw_labels(
    y: Tensor, n: int, n_classes: int, generator: torch.Generator, asked: str = "", *, balanced: bool = True
) -> Tensor:
    """Indices (n,), rising, of a random subset of `y` (N,), which holds classes alone.

    If `balanced`, with equal numbers of every class; what is left of an uneven division goes to the largest classes,
    one each. Otherwise in the classes' proportions, and at least one of each. Under the same seed a smaller subset lies
    within a larger one. `asked` is the option that errors speak of.

    Raises:
        InputError: fewer labels than classes, or a class with fewer examples than its share.
    """
    asked = asked or f"--labels {n}"
    sizes = torch.bincount(y, minlength=n_classes).cpu()
    least = n_classes if balanced else int((sizes > 0).sum())
    if n < least:
        raise InputError(f"{asked} is fewer than the {least} classes, ask for one a class at least")
    if not balanced:
        return _draw(y, _proportional_quotas(sizes, sizes, n), generator)
    quotas = torch.full_like(sizes, n // n_classes)
    quotas[torch.argsort(sizes, descending=True, stable=True)[: n % n_classes]] += 1
    if (sizes < quotas).any():
        poor = int((sizes < quotas).nonzero()[0])
        raise InputError(
            f"{asked} needs {int(quotas[poor])} examples of class {poor} (counted from 0), which has "
            f"{int(sizes[poor])}: ask for fewer labels"
        )
    return _draw(y, quotas, generator)
