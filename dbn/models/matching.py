"""Data brought to the scale and the columns of a model, or refused: what every meeting of the two passes through.

Values of another scale are brought over where that is certain, as bytes of 0 … 255 are for a model that was trained on
fractions, and refused in one sentence elsewhere. A divisor that is named goes before all that is guessed.
"""

import math
from collections.abc import Sequence
from numbers import Real
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor

from dbn.arrays import TOP, AnyRows, observed_ends
from dbn.columns import Column
from dbn.errors import InputError, listed
from dbn.models.matmul import is_exporting
from dbn.models.scaling import Limits, Scaling
from dbn.models.values import SLICE, Where, counted, kind_of, likely_divisor, place_of, to_fractions

FAR = 8
"""Divided values whose greatest is so many times smaller than in training are of another scale."""
FAR_FLOATS = 100
"""The same of values that are not divided, in ENOUGH rows or more."""
ENOUGH = 20
FAR_OUT = 10.0
"""Standard deviations: no data of the same scale lie so far out in most of their columns."""
FLAT = 0.05
"""Of the standard deviation in training: no data of the same scale vary so little in every column."""
MEASURED = 10_000
"""Rows that standardized values are judged by."""


Rows = TypeVar("Rows", bound=AnyRows)


class Match(NamedTuple):
    """How data become the values that a model takes."""

    scaling: Scaling
    """From these data as they are stored."""
    order: tuple[int, ...] | None
    """Places of the model's columns among those of the data; None where they are the same."""
    notes: tuple[str, ...]
    """Sentences: what was done beyond what training did."""

    def rows(self, x: Rows) -> Rows:
        """The rows (N, V), their columns in the model's order."""
        if self.order is None:
            return x
        return x[..., list(self.order)] if isinstance(x, Tensor) else x.with_columns(self.order)  # type: ignore[return-value]


def match(
    scaling: Scaling,
    x: AnyRows,
    name: str = "x",
    *,
    width: int,
    divisor: float | None = None,
    columns: Sequence[str] = (),
    table: Sequence[Column] | None = None,
    bounded: bool = True,
    by_row: bool = False,
    missing: bool = False,
    what: str = "the model",
    where: Where | None = None,
) -> Match:
    """How rows `x` (N, V) or (V,) become what a model with `scaling` takes.

    width: values of a row that the model takes. divisor: of the data, where it is named; columns: their names, () where
    there are none. table: what the columns of a table are, None where they are known to be the model's. bounded:
    whether a model of which no range is known takes values in [0, 1] alone. by_row: whether a row must be judged alike
    whatever rows are beside it. missing: whether values may be NaN. `name` and `what` are what errors call the
    data and the model, `where` a row and column.

    InputError for rows of another width, a missing or another column, values outside the model's range, and values
    that may be of another scale: one sentence that says what to do.
    """
    number: Any = divisor
    if number is not None and not (isinstance(number, Real) and 0 < float(number) < math.inf):
        raise InputError(f"--divisor must be a number above 0 for data that meet a model, not {divisor!r}")
    notes = []
    order = column_order(scaling, tuple(columns), name, what)
    if order is not None:
        x = Match(scaling, order, ()).rows(x)
    if x.shape[-1] != width:
        raise InputError(
            f"{name} has {x.shape[-1]} values an example, but {what} takes {width}: give data like those it was "
            "trained on"
        )
    if order and len(order) < len(columns):
        notes.append(f"{name}: the column {scaling.weight_column!r}, of weights in training, is left out")
    elif order:
        notes.append(f"{name}: columns are matched by their names")
    elif scaling.columns and not columns:
        notes.append(f"{name}: columns have no names and are taken by their places")
    if table is not None:
        _check_table(scaling, tuple(table), order, name, what)
    if is_exporting():
        _check_traced(scaling, x, bounded, name, what)
        return Match(scaling, order, tuple(notes))
    kind, given = kind_of(x), divisor
    rows = torch.atleast_2d(x.detach()) if isinstance(x, Tensor) else x
    data = _Data(name, what, kind, rows, order, where)
    if scaling.codes is not None:
        if divisor not in (None, 1.0):
            raise InputError(f"{name} holds codes of categories, which are not divided: leave --divisor out")
        found = Match(scaling.of_data(1.0, kind), order, tuple(notes))
        scaling.check_codes(rows, name, data.where, missing=missing)
        if scaling.limits is not None:
            _check_limits(scaling.limits, rows, data)
        if scaling.shift is not None and given is None and x.shape.numel():
            _check_standardized(found, rows, data)
        return found
    fractions = _is_of_fractions(scaling, bounded)
    if divisor is None:
        divisor = 1.0 if x.dtype == torch.bool else _divisor(scaling, data, fractions)
        if divisor == 255.0 != scaling.divisor:
            parts = [rows] if isinstance(rows, Tensor) else rows.split(MEASURED)
            if by_row and any(bool((part.amax(-1) == 1).any()) for part in parts):
                raise InputError(
                    f"{name} has rows whose bytes are all 0 or 1 beside others up to {data.greatest:g}: say which "
                    "scale they are on, --divisor 255 or --divisor 1"
                )
            notes.append(f"{name}: bytes are divided by 255, as {what} was trained on values in [0, 1]")
    found = Match(scaling.of_data(divisor, kind), order, tuple(notes))
    if scaling.shift is None:
        on = divisor if found.scaling.is_divided(x) else 1.0
        if fractions:
            _check_fractions(on, data)
        elif scaling.limits is not None:
            _check_limits(scaling.limits, rows, data, on)
    elif given is None and x.shape.numel():
        _check_standardized(found, rows, data)
    return found


def _check_traced(scaling: Scaling, x: AnyRows, bounded: bool, name: str, what: str) -> None:
    """InputError for bytes of which no scale is certain without their values."""
    of_fractions = scaling.divisor == 1 and scaling.codes is None and _is_of_fractions(scaling, bounded)
    if x.dtype == torch.uint8 and scaling.stored != "bytes" and of_fractions:
        raise InputError(f"{name} holds bytes, but {what} was trained on floats in [0, 1]: export it for such floats")


class _Data:
    """Data as they are stored, (N, V), for a sentence."""

    def __init__(
        self, name: str, what: str, kind: str, x: AnyRows, order: Sequence[int] | None, where: Where | None
    ) -> None:
        self.name, self.what, self.kind, self.x = name, what, kind, x
        self.least: float
        self.greatest: float
        self.least, self.greatest = (end.item() for end in observed_ends(x)) if x.shape.numel() else (0.0, 0.0)
        self.order, self.place = order, where or counted

    def where(self, row: int, column: int) -> str:
        """The place of a value in one of the model's columns."""
        return self.place(row, self.order[column] if self.order else column)

    def refused(self, why: str, *likely: float) -> InputError:
        options = [f"--divisor {each:g}" for each in dict.fromkeys(likely)]
        is_finite = math.isfinite(self.least) and math.isfinite(self.greatest)
        advice = (
            f"say what they are to be divided by, {' or '.join(options)}" if is_finite else "replace what is infinite"
        )
        return InputError(
            f"{self.name} has {self.kind} from {self.least:g} to {self.greatest:g}, but {self.what} was trained on "
            f"{why}: {advice}"
        )


def _check_table(
    scaling: Scaling, table: tuple[Column, ...], order: Sequence[int] | None, name: str, what: str
) -> None:
    """InputError for codes that stand for other categories than the model's."""
    table = tuple(table[place] for place in order) if table and order else table
    for called, known, found in zip(scaling.names, scaling.table, table or scaling.table, strict=False):
        if known != found or not (table or known.is_plain):
            raise InputError(
                f"{name}: column {called!r} has other kinds or categories than {what} was trained on: give a table "
                "like that of training"
            )
    if table and not scaling.table:
        raise InputError(f"{name} is a table of categories, but {what} was trained on numbers: give such")


def _check_fractions(divisor: float, data: _Data) -> None:
    """InputError unless values are in [0, 1] once divided."""
    if data.least < 0 or data.greatest > divisor:
        divided = f" divided by {divisor:g}" if divisor != 1 else ""
        outside = data.least if data.least < 0 else data.greatest
        raise InputError(
            f"{data.name} has values from {data.least:g} to {data.greatest:g}{divided}, {outside:g} in "
            f"{data.where(*place_of(data.x, outside))}, but {data.what} was trained on values in [0, 1]: "
            f"{to_fractions(data.least, data.greatest, of_training=False)}"
        )


def _check_limits(limits: Limits, rows: AnyRows, data: _Data, divisor: float = 1.0) -> None:
    """InputError for a value, of `rows` in the model's order of columns, that its units cannot take, once divided."""
    low, high = (divisor * end for end in torch.tensor(limits, dtype=torch.float32, device=rows.device).unbind(-1))
    if low.ndim == 0 and low <= data.least and data.greatest <= high:
        return
    for number, part in enumerate(rows.split(SLICE)):
        if len(wrong := ((part < low) | (part > high)).nonzero()):
            row, column = wrong[0].tolist()
            least, greatest = (float(end if end.ndim == 0 else end[column]) / divisor for end in (low, high))
            takes = "of 0 or more" if math.isinf(greatest) else f"in [{least:g}, {greatest:g}]"
            raise InputError(
                f"{data.name} has {part[row, column].item():g} in {data.where(number * SLICE + row, column)}, but "
                f"{data.what} was trained on values {takes}" + (" there" if low.ndim else "") + ": correct the value, "
                "or bring the data to the scale of the training data"
            )


def column_order(scaling: Scaling, given: tuple[str, ...], name: str, what: str) -> tuple[int, ...] | None:
    """Places of the columns of `what`, by its `scaling`, among those `given` in `name`; None where they are alike or
    unnamed.

    A column that held weights in training is left out. InputError for a missing or another column.
    """
    known = scaling.columns
    others = {*known, scaling.weight_column} if scaling.weight_column else {*known}
    if not known or not given or known == given:
        return None
    places = {column: place for place, column in enumerate(given)}
    missing, extra = [each for each in known if each not in places], [each for each in given if each not in others]
    if missing or extra:
        lacks = [f"lacks {_columns(missing)}"] if missing else []
        lacks += [f"has {_columns(extra)} that {what} was not trained on"] if extra else []
        advice = "" if missing else ", or name one that holds labels with --label-column"
        raise InputError(f"{name} {' and '.join(lacks)}: give the columns of the training data{advice}")
    return tuple(places[column] for column in known)


def _columns(names: list[str]) -> str:
    return f"the {'column' if len(names) == 1 else 'columns'} {listed(names, 5)}"


def _is_of_fractions(scaling: Scaling, bounded: bool) -> bool:
    """Whether the model takes values in [0, 1] after dividing, by those of its training."""
    if scaling.limits is not None:
        return False
    if scaling.values is None:
        return bounded if scaling.shift is None else scaling.divisor == 255.0
    return scaling.values[0] >= 0 and scaling.values[1] <= 1


def _greatest(scaling: Scaling) -> float:
    """The greatest training value, as stored; in older files no less than it."""
    if scaling.values is not None:
        return scaling.values[1] * scaling.divisor
    if scaling.shift is None or scaling.spread is None:
        return scaling.divisor
    return min(1.0, float((scaling.shift + 3 * scaling.spread).max())) * scaling.divisor


def _divisor(scaling: Scaling, data: _Data, fractions: bool) -> float:
    """What the data are to be divided by, where no one says; InputError where that is not certain."""
    divisor, greatest = scaling.divisor, data.greatest
    stored = scaling.stored or ("bytes" if divisor != 1 else None)
    if greatest == 0 == data.least:
        return divisor
    if data.kind == "bytes" or stored == "floats":
        if divisor != 1:  # both kinds hold the numbers that training divided
            if greatest * FAR <= _greatest(scaling):
                raise data.refused(f"values up to {_greatest(scaling):g}", likely_divisor(greatest), divisor)
            return divisor
        if data.kind == "bytes" and fractions and greatest > 1:
            if greatest > TOP:
                return 255.0
            raise data.refused("values in [0, 1]", likely_divisor(greatest), 255)
    elif stored == "bytes" and divisor != 1 and (fractions or scaling.shift is not None):
        _check_fractions(1.0, data)
    is_many = data.kind == "floats" and len(data.x) >= ENOUGH and scaling.shift is None
    if is_many and scaling.values and 0 < greatest * FAR_FLOATS < scaling.values[1]:
        raise data.refused(f"values up to {scaling.values[1]:g}", greatest, 1)
    return 1.0


def _check_standardized(found: Match, x: AnyRows, data: _Data) -> None:
    """InputError for values that no data of the training data's scale have."""
    as_it_is = f"say --divisor {found.scaling.divisor:g} to take them as they are"
    shift, spread = found.scaling.shift, found.scaling.spread
    z = found.scaling(x[:MEASURED].to(None if shift is None else shift.device))  # where values are missing, NaN
    if found.scaling.codes is not None and shift is not None and spread is not None:
        z = z[:, (shift != 0) | (spread != 1)]  # those of numbers
    far = float(z.abs().nanmean(0).nanmedian())
    if far > FAR_OUT:
        raise InputError(
            f"{data.name} is of another scale than {data.what} was trained on, as most columns lie {far:.3g} standard "
            f"deviations from their training means: give the values in the units of training, or {as_it_is}"
        )
    varies = (z - z.nanmean(0)).square().nanmean(0).nan_to_num(torch.inf).max().sqrt()
    if len(z) >= ENOUGH and float(varies) < FLAT:
        raise InputError(
            f"{data.name} is of another scale than {data.what} was trained on, as no column varies by a twentieth of "
            f"what it did: give the values in the units of training, or {as_it_is}"
        )
