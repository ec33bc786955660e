"""Cells of text tables as numbers, and what is wrong with one that is none."""

import math
import re
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from dbn.columns import if_mark
from dbn.errors import InputError, MissingValue, shortened

TRUTH = {word: value for value, name in enumerate(("false", "true")) for word in (name, name.title(), name.upper())}
DECIMAL = re.compile(r"\s*[+-]?\d*,\d+(?:[eE][+-]?\d+)?\s*")
THOUSANDS = re.compile(r"\s*[+-]?[1-9]\d{0,2},\d{3}\s*")
"""A number with a comma that may stand for thousands as well."""


@final
class Cells:
    """Cells as numbers: True and False are 1 and 0, and decimal commas are read where they can be nothing else."""

    def __init__(self, name: str, decimal: str | None, *, empty: bool = False) -> None:
        """empty: whether a cell without a value is NaN."""
        self.name, self.decimal, self.empty = name, decimal, empty
        self.point: tuple[int, str] | None = None
        self.comma: tuple[int, str] | None = None
        self.is_certain = decimal is not None

    def __call__(self, line: int, cells: list[str]) -> list[float]:
        """The numbers of a row; ValueError where a cell is none."""
        joined = "".join(cells)
        if self.point is None and "." in joined:
            self.point = line, next(cell for cell in cells if "." in cell)
        if "_" not in joined:
            try:
                return list(map(float, cells))
            except ValueError:
                pass
        return [self.number(line, cell) for cell in cells]

    def number(self, line: int, cell: str) -> float:
        """Python's own reading of a number, but for its 1_000; or of a decimal comma, or a word for 1 or 0."""
        if "," in cell and self.decimal != "point" and DECIMAL.fullmatch(cell):
            self.is_certain = self.is_certain or not THOUSANDS.fullmatch(cell)
            self.comma = self.comma or (line, cell)
            return float(cell.replace(",", "."))
        if cell in TRUTH:
            return float(TRUTH[cell])
        return math.nan if self.empty and not cell.strip() else _number(cell)

    def cell(self, line: int, cell: str) -> Any:
        """A number, True or False, or the text itself; None where there is none."""
        cell = cell.strip()
        if not cell:
            return None
        if cell in TRUTH:
            return bool(TRUTH[cell])
        try:
            return self.number(line, cell)
        except ValueError:
            return cell

    def is_number(self, line: int, cell: str) -> bool:
        """Whether `number` reads it."""
        try:
            self.number(line, cell)
        except ValueError:
            return False
        return True

    def check(self) -> None:
        """InputError where commas may be those of thousands, or stand beside decimal points."""
        if self.comma is None and not (self.decimal == "comma" and self.point):
            return
        if self.point:
            line, cell = self.point
            other = "where --decimal comma is given"
            if self.comma:
                other = (
                    f"and line {self.comma[0]} {self.comma[1]!r}" if self.comma[0] != line else f"and {self.comma[1]!r}"
                )
            raise InputError(
                f"{self.name}, line {line} has {shortened(cell)} {other}: use one decimal mark, and none for thousands"
            )
        if not self.is_certain and self.comma:
            line, cell = self.comma
            raise InputError(
                f"{self.name}, line {line}: {cell!r} may be {cell.replace(',', '.')} or {cell.replace(',', '')}, say "
                "--decimal comma, or save numbers without commas for thousands"
            )


def _number(cell: str) -> float:
    if "_" in cell:
        raise ValueError(cell)
    return float(cell)


def is_number(cell: str) -> bool:
    """Whether `Cells` reads it without a decimal comma."""
    try:
        _number(cell)
    except ValueError:
        return False
    return True


def numbers_or_text(labels: list[str | None]) -> NDArray:
    """Numbers where all labels that are there are such, NaN for those that are not; else text and None."""
    there = {label for label in labels if label is not None}
    if not all(map(is_number, there)):
        return np.array(labels, object)
    numbers = {label: float(label) for label in there}
    return np.array([float("nan") if label is None else numbers[label] for label in labels])


def bad_cell(
    name: str, line: int, header: list[str], places: list[int], cells: list[str], values: Cells, *, labels: bool
) -> InputError:
    """The sentence for the first of `cells` (without those of `places`) that is not a number."""
    names = [column for index, column in enumerate(header) if index not in places]
    column, cell = next(pair for pair in zip(names, cells, strict=True) if not values.is_number(line, pair[1]))
    if not cell.strip():
        return MissingValue(
            f"{name}, line {line}, column {column!r}: the cell is empty: fill it in, or leave the row or the column out"
        )
    advice = "" if labels else " (if these are the labels, name the column with --label-column)"
    return InputError(
        f"{name}, line {line}, column {column!r}: {cell[:40]!r} is not a number: write one, such as a code, or leave "
        f"the row or the column out{advice}{if_mark(cell)}"
    )
