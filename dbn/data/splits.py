"""Training, validation and test examples: checked rows of a data set."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from hashlib import blake2b
from numbers import Real
from typing import Any, Literal

import torch
from numpy.typing import NDArray
from torch import Tensor

from dbn.arrays import TOP, observed_ends
from dbn.columns import Column, Kinds
from dbn.data.checks import check_alike, has_channels_last, image_shape_of, rows_of
from dbn.data.coding import coded_table
from dbn.data.examples import Examples, labels_of
from dbn.data.labels import coded
from dbn.data.objects import as_table
from dbn.data.rows import Rows, pieces
from dbn.data.table import Table
from dbn.data.weights import weights_of
from dbn.errors import InputError

LAST = "Images have their channels last, and were brought to channels first."

Divisor = float | Literal["max"] | None
Reader = Callable[[Mapping[str, NDArray], Mapping[str, int]], tuple[tuple[str, ...], dict[str, NDArray]]]
"""Of labels by part, as `coded`: names, and by part classes (N,), int64, or targets (N, T), float64."""


@dataclass(frozen=True, eq=False)
class Splits:
    """The rows of a data set: none is in two of `train`, `valid` and `test`. `valid` is empty until it is cut.

    `classes` are names in the order of their indices, () without labels; `targets` those of the columns of `y` where
    it holds numbers. `image_shape` is (C, H, W) where rows are gray or color images. Values are divided by `divisor`
    before use: for bytes it is 255 where any outside the test set is above 127, else 1, as for all other values, unless
    one is given, which `divisor_given` tells. `test_is_cut` and `valid_is_cut` say that the data came without such a
    set of their own. `columns` are their names where the source has such. `notes` are sentences on how the rows were
    read. `label_error` says why labels that were given cannot be used:
    `check_labels` raises it. `balanced` data have equal numbers of every class among validation rows and labels drawn,
    others their own proportions. `unchecked` are data sets made to show what test values of another scale do. `table`
    says what the columns of a table are whose cells became codes.
    """

    name: str
    train: Examples
    valid: Examples
    test: Examples | None
    classes: tuple[str, ...]
    image_shape: tuple[int, int, int] | None
    divisor: float
    test_is_cut: bool = False
    valid_is_cut: bool = False
    columns: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    label_error: str = ""
    balanced: bool = False
    divisor_given: bool = False
    unchecked: bool = False
    targets: tuple[str, ...] = ()
    table: tuple[Column, ...] = ()
    weight_column: str = ""
    """What the source calls the weights of the rows."""

    @property
    def parts(self) -> dict[str, Examples]:
        """The examples that there are, by what they are for."""
        named = {"training": self.train, "validation": self.valid, "test": self.test}
        return {purpose: part for purpose, part in named.items() if part}

    @property
    def brought(self) -> dict[str, Examples]:
        """Validation and test rows that the data came with, which may be of another scale, by the key of their rows."""
        parts = {"x_valid": not self.valid_is_cut and self.valid, "x_test": not self.test_is_cut and self.test}
        return {key: part for key, part in parts.items() if part and not self.unchecked}

    def with_columns(self, order: Sequence[int] | None) -> "Splits":
        """The same examples with their columns in another order; None for theirs."""
        if order is None:
            return self
        parts = {name: getattr(self, name) for name in ("train", "valid", "test")}
        ordered: dict[str, Any] = {name: part and part.with_columns(order) for name, part in parts.items()}
        table = tuple(self.table[place] for place in order) if self.table else ()
        return replace(self, **ordered, columns=tuple(self.columns[place] for place in order), table=table)

    @cached_property
    def fingerprint(self) -> str:
        """A hash of all values, labels and splits."""
        digest = blake2b(repr(self.classes or self.targets).encode(), digest_size=8)
        digest.update(repr(self.table).encode() if self.table else b"")
        for part in (self.train, self.valid, self.test):
            for values in () if part is None else (part.x, part.y, part.weights):
                if values is not None:
                    digest.update(f"{values.dtype} {tuple(values.shape)}".encode())
                    for piece in pieces(values):
                        digest.update(piece.cpu().contiguous().numpy().data)
        return digest.hexdigest()

    @property
    def n_classes(self) -> int:
        """0 without labels."""
        return len(self.classes)

    def class_names(self, part: Examples) -> list[str] | None:
        """The class of each example of a part by name, "" without a label; None where there are no classes."""
        return [self.classes[y] if y >= 0 else "" for y in labels_of(part).tolist()] if self.classes else None

    def check_labels(self) -> None:
        """InputError unless the examples have labels that can be learned."""
        if self.label_error:
            raise InputError(f"{self.name}: {self.label_error}")
        if not self.classes and not self.targets:
            raise InputError(f"{self.name} has no labels, and fine-tuning needs them: add y, or --label-column")
        if self.test is not None and not self.test.n_labeled:
            raise InputError(
                f"{self.name}: the test rows have no labels, and fine-tuning scores on them: label them, or name the "
                "data set without --test-file, which cuts test rows from the labeled ones, and leave these to predict"
            )

    def describe(self, *, standardized: bool = False, codes: bool = False) -> str:
        """Sizes, and what is done to the values: whether they are `standardized`, or `codes` of categories."""
        test = "no" if self.test is None else f"{len(self.test):,}"
        cut = ", the test examples cut from the same rows" if self.test_is_cut else ""
        weights = f", weighted by {self.weight_column or 'sample_weight'!r}" if self.train.weights is not None else ""
        labels = f"in {self.n_classes} classes" if self.classes else "without labels"
        if self.targets:
            labels = f"with {len(self.targets)} target{'s' * (len(self.targets) > 1)}"
        values = "bytes are" if self.train.x.dtype == torch.uint8 else "values are"
        done = [f"divided by {self.divisor:g}"] * (self.divisor != 1) + ["standardized"] * standardized
        if codes:
            done = ["taken by the kind of their column" if self.table else "taken for codes of categories"]
        elif values == "bytes are" and not done and int(self.train.x.aminmax().max) <= 1:
            done = ["0 or 1"]
        return (
            f"{self.name}: {len(self.train):,} training, {len(self.valid):,} validation and {test} test examples of "
            f"{self.train.x.shape[1]:,} values {labels}{cut}{weights}; "
            f"{values} {' and '.join(done) or 'used as they are'}."
            + "".join(f" {note}" for note in (*self.notes, self.describe_labels()) if note)
        )

    def describe_labels(self) -> str:
        """A sentence: why labels are left unused, or how many examples have one; empty where all have."""
        if self.label_error:
            return f"Labels are left unused: {self.label_error}."
        parts = (self.train, self.valid) if self.classes or self.targets else ()
        labeled = [part.n_labeled for part in parts]
        if not labeled or sum(labeled) == len(self.train) + len(self.valid):
            return ""
        what, some = ("targets", "lack one") if self.targets else ("labels", "have none")
        return f"{labeled[0]:,} training and {labeled[1]:,} validation examples have {what}, the others {some}."


def unsplit(
    name: str,
    x: Any,
    y: Any = None,
    x_test: Any = None,
    y_test: Any = None,
    *,
    divisor: Divisor = None,
    read_labels: Reader = coded,
    kinds: Kinds | None = None,
    sample_weight: Any = None,
    missing: bool = False,
) -> Splits:
    """Objects in memory as `as_table` takes them, checked, all rows of `x` in `train`; errors call them `name`.

    `x` is (N, V), (N, H, W), (N, C, H, W) or, with 1 or 3 channels, (N, H, W, C). Bytes and bool stay bytes, which are
    divided before use; all else becomes float32. Labels are whole numbers or strings, (N,) or (N, 1), or one-hot rows,
    and their sorted values the classes; None, NaN and empty strings are missing ones. Other labels are left out, with
    the reason as `label_error`. `divisor` goes before that of `Splits`; "max" is the greatest value of `x`.
    `read_labels` takes other labels than classes, as `dbn.data.targets` has them.
    With `kinds` text is taken too: columns become numbers as `dbn.columns` says. `sample_weight` is (N,), of the rows
    of `x`, or names a column of it. missing: whether values may be, which are NaN in the splits.

    Raises:
        InputError: no rows, another shape or type, values that are not finite, or test rows unlike the others.
    """
    cells = kinds is not None
    table = as_table(name, x, y, x_test, y_test, cells=cells, sample_weight=sample_weight, missing=missing)
    return checked(table, divisor, read_labels, kinds, missing=missing)


def checked(
    table: Table,
    divisor: Divisor = None,
    read_labels: Reader = coded,
    kinds: Kinds | None = None,
    *,
    missing: bool = False,
) -> Splits:
    """The rows of a table, checked, each part where it belongs; `valid` is empty where there is none.

    InputError as for `unsplit`.
    """
    name = table.name
    table, coded_as = (table, ()) if kinds is None else coded_table(table, kinds, missing=missing)
    rows = {
        part: rows_of(name, f"x{part}", x, partial(table.where, part), missing=missing) for part, x in table.x.items()
    }
    for part, others in rows.items():
        check_alike(name, rows[""], f"x{part}", others)
    names, codes, label_error = _coded(table, {part: len(x) for part, x in rows.items()}, read_labels)
    are_numbers = any(y.dtype.kind == "f" for y in codes.values())
    if are_numbers and len(table.targets) == len(names):
        names = table.targets
    weights = weights_of(table, {part: len(x) for part, x in rows.items()})
    emptied = table.emptied
    parts = {
        part: Examples(
            x,
            torch.from_numpy(codes[part]) if part in codes else None,
            weights.get(part),
            partial(emptied.where, part),
        )
        for part, x in rows.items()
    }
    train = parts[""]
    splits = Splits(
        name,
        train,
        parts.get("_valid", train[:0]),
        parts.get("_test"),
        () if are_numbers else names,
        image_shape_of(table.x[""]),
        1.0,
        columns=table.columns,
        notes=(LAST if has_channels_last(table.x[""]) else "", _numbering(train.x, table.columns), _holes(train.x)),
        label_error=label_error,
        targets=names if are_numbers else (),
        table=coded_as,
        weight_column=table.weight_column if weights else "",
    )
    return with_divisor(splits, divisor) if divisor or not table.divisor else replace(splits, divisor=table.divisor)


def _holes(x: Tensor | Rows) -> str:
    """A sentence on missing values; empty where there are none."""
    if not isinstance(x, Tensor) or not x.is_floating_point() or not (n := int(x.isnan().sum())):
        return ""
    return f"{n:,} of {x.numel():,} values, {n / x.numel():.1%}, are missing."


def _numbering(x: Tensor | Rows, columns: Sequence[str]) -> str:
    """A sentence for a first column that counts the rows, as tables are often saved with; else empty."""
    if not columns or not isinstance(x, Tensor) or len(x) < 2:
        return ""
    first = x[:, 0].double()
    if not torch.equal(first - first[0], torch.arange(len(x), dtype=torch.float64, device=x.device)):
        return ""
    return f"The column {columns[0]!r} numbers the rows and is taken for a value of them: remove it if it is none."


def _coded(table: Table, n_rows: Mapping[str, int], read: Reader) -> tuple[tuple[str, ...], dict[str, NDArray], str]:
    """Names and values by part as `read` finds them; nothing, and a sentence, for labels that are none."""
    for part in [*table.y, *n_rows] if table.y else ():
        if part not in n_rows:
            return (), {}, f"y{part} is there but x{part} is not, give both or neither"
        if part not in table.y and table.needs_all_labels:
            there = ", ".join(f"y{each}" for each in table.y)
            return (), {}, f"{there} is there but y{part} is not, label both x and x_test or neither"
    try:
        return (*read(table.y, n_rows), "") if "" in table.y else ((), {}, "")
    except InputError as error:
        said = str(error)
        if len(table.targets) == 1 and said.startswith("y holds"):
            said = f"the column {table.targets[0]!r}{said.removeprefix('y')}"
        return (), {}, said


def with_divisor(splits: Splits, divisor: Divisor = None) -> Splits:
    """The splits with this divisor: a number, "max" for the greatest training value, None for what the type says."""
    x = splits.train.x
    greatest = observed_ends(x).max.item()
    if divisor is None:
        return replace(splits, divisor=255.0 if x.dtype == torch.uint8 and greatest > TOP else 1.0)
    number: Any = greatest if divisor == "max" else divisor
    if divisor != "max" and not (isinstance(number, Real) and 0 < float(number) < math.inf):
        raise InputError(f"--divisor must be a number above 0 or max, not {divisor!r}")
    if divisor == "max" and greatest <= 0:
        raise InputError(f"{splits.name}: the greatest training value is {greatest:g}, so --divisor max is none")
    return replace(splits, divisor=float(number), divisor_given=True)
