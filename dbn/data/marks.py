"""Rows without a label: the mark that stands for none, and labels that nothing can be learned from."""

from collections.abc import Callable
from dataclasses import replace

import torch

from dbn.data.examples import Examples, is_labeled
from dbn.data.splits import Splits
from dbn.errors import InputError, listed

NO_LABEL = "-1"
"""scikit-learn's mark of rows without a label."""


def marked(splits: Splits, unlabeled: str | float | None, *, needed: bool = True) -> Splits:
    """The splits, in which rows of the class `unlabeled` have no label.

    Labels that nothing can be learned from are left out, with the reason as `label_error`: a single class, or a class
    that only test rows have. A class −1 beside others of 0 and more is taken for the mark, but is asked about.

    InputError where no row has the label `unlabeled`, unless that is not `needed`.
    """
    if splits.targets:
        return _marked_targets(splits, unlabeled, needed)
    has_labels = splits.train.y is not None
    if unlabeled is not None and has_labels:
        if (name := _class_called(unlabeled, splits.classes)) is not None:
            splits = _without_class(splits, name)
        elif needed and str(unlabeled).lower() not in ("nan", "none"):  # which are missing in any case
            raise InputError(
                f"{splits.name}: no label is {str(unlabeled)!r}, which --unlabeled names, only {listed(splits.classes)}"
            )
    elif has_minus_one(splits.classes):
        place = splits.classes.index(NO_LABEL)
        rows = sum(int((part.y == place).sum()) for part in (splits.train, splits.valid) if part.y is not None)
        others = listed([name for name in splits.classes if name != NO_LABEL], most=3)
        splits = replace(
            _without_class(splits, NO_LABEL),
            label_error=f"y holds -1 in {rows:,} rows, beside {others}: if it stands for no label, say --unlabeled -1, "
            "otherwise call that class something else",
        )
    if splits.classes and len(splits.classes) < 2:
        return without_labels(splits, f"all labels are {splits.classes[0]!r}, but at least two classes are needed")
    if not splits.classes and has_labels:
        return without_labels(splits, "no row has a label")
    return _check_test(splits)


def _class_called(mark: str | float, classes: tuple[str, ...]) -> str | None:
    """The class of that name, or of the whole number that it is: -1.0 is -1."""
    try:
        number = float(mark)
    except ValueError:
        number = 0.5
    names = [str(mark), *([str(int(number))] if number.is_integer() else [])]
    return next((name for name in names if name in classes), None)


def _marked_targets(splits: Splits, unlabeled: str | float | None, needed: bool) -> Splits:
    """As `marked`, for targets: of each column, the number `unlabeled` stands for none; one that is constant is left
    out."""
    if unlabeled is not None and str(unlabeled).lower() not in ("nan", "none"):
        try:
            mark = float(unlabeled)
        except ValueError:
            raise InputError(
                f"{splits.name}: targets are numbers, but --unlabeled names {str(unlabeled)!r}: name a number"
            ) from None
        parts = [
            part.y for part in (splits.train, splits.valid, splits.test) if part is not None and part.y is not None
        ]
        if needed and not any(bool((y == mark).any()) for y in parts):
            raise InputError(f"{splits.name}: no target is {mark:g}, which --unlabeled names: leave it out")
        splits = _each(
            splits,
            lambda part: part if part.y is None else replace(part, y=part.y.masked_fill(part.y == mark, torch.nan)),
        )
    known = torch.cat([part.y[is_labeled(part.y)] for part in (splits.train, splits.valid) if part.y is not None])
    if not len(known):
        return without_labels(splits, "no row has a target, or all of them")
    least, greatest = known.aminmax(dim=0)
    constant = (least == greatest).nonzero().flatten().tolist()
    if constant:
        name, value = splits.targets[constant[0]], float(least[constant[0]])
        return without_labels(
            splits, f"the target {name!r} is {value:g} in all rows, so that nothing can be learned: leave it out"
        )
    return splits


def has_minus_one(classes: tuple[str, ...]) -> bool:
    """Whether −1 is among at least two classes 0, 1, …: −1 and 1 alone are two classes.

    >>> has_minus_one(("-1", "0", "1")), has_minus_one(("-1", "1")), has_minus_one(("-1", "-2", "0"))
    (True, False, False)
    """
    return NO_LABEL in classes and len(classes) > 2 and all(name.isdecimal() for name in classes if name != NO_LABEL)


def without_labels(splits: Splits, why: str) -> Splits:
    """The same rows without labels."""
    return replace(_each(splits, lambda part: replace(part, y=None)), classes=(), targets=(), label_error=why)


def _without_class(splits: Splits, name: str) -> Splits:
    place = splits.classes.index(name)

    def part_without(part: Examples) -> Examples:
        if part.y is None:
            return part
        return replace(part, y=torch.where(part.y == place, -1, part.y - (part.y > place).long()))

    return replace(_each(splits, part_without), classes=splits.classes[:place] + splits.classes[place + 1 :])


def _check_test(splits: Splits) -> Splits:
    """The splits, without labels if test rows are of a class that no other rows have."""
    if splits.test is None or splits.test.y is None:
        return splits
    known = torch.cat([part.y for part in (splits.train, splits.valid) if part.y is not None])
    unseen = splits.test.y[~torch.isin(splits.test.y, known) & (splits.test.y >= 0)]
    if not len(unseen):
        return splits
    return without_labels(splits, f"y_test holds {splits.classes[int(unseen[0])]!r}, which is none of the classes of y")


def _each(splits: Splits, change: Callable[[Examples], Examples]) -> Splits:
    return replace(
        splits,
        train=change(splits.train),
        valid=change(splits.valid),
        test=None if splits.test is None else change(splits.test),
    )
