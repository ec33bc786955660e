"""Text tables with a header: a cell that is missing or not a number is an error that says where it is."""

import csv
import gzip
import io
import math
import re
import zlib
from array import array
from codecs import BOM_UTF16_BE, BOM_UTF16_LE
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dbn.columns import if_mark
from dbn.data.table import Table, beside, label_places, table_of, weight_places
from dbn.errors import InputError, MissingValue, shortened

DELIMITERS = {"comma": ",", "semicolon": ";", "tab": "\t", "pipe": "|", "space": " "}
TRUTH = {word: value for value, name in enumerate(("false", "true")) for word in (name, name.title(), name.upper())}
LONGEST_LINE = 1 << 26
DECIMAL = re.compile(r"\s*[+-]?\d*,\d+(?:[eE][+-]?\d+)?\s*")
THOUSANDS = re.compile(r"\s*[+-]?[1-9]\d{0,2},\d{3}\s*")
"""A number with a comma that may stand for thousands as well."""


def read_csv(
    path: Path,
    label_column: str | Sequence[str] | None = None,
    needs_label: bool = True,
    delimiter: str | None = None,
    decimal: str | None = None,
    cells: bool = False,
    weight_column: str | None = None,
    empty: bool = False,
) -> Table:
    """The columns of a text table with a header; all but `label_column` hold numbers, or True and False.

    With `cells` they may hold text too, and with `empty` nothing, which is read as NaN.

    Without `delimiter` and `decimal` they are found where only one reading is possible. UTF-16 with a mark is read, and
    so is what gzip packed.
    """
    name = str(path)
    try:
        with ExitStack() as opened:
            text = _open(path, opened)
            delimiter = _delimiter(text, name, path, delimiter)
            read = _Cells(name, decimal, empty=empty)
            return _read(text, name, label_column, needs_label, delimiter, read, weight_column, as_they_are=cells)
    except UnicodeError as error:
        raise InputError(f"{name} is not UTF-8 text: save it with that encoding") from error
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise InputError(f"{name} is damaged (not a whole gzip file): take another copy") from error


def text_cells(path: Path, delimiter: str | None = None) -> tuple[list[str], list[list[str]]]:
    """The header and the rows of a text table that `read_csv` has read, as they are written."""
    with ExitStack() as opened:
        text = _open(path, opened)
        found = _delimiter(text, str(path), path, delimiter)
        header, *rows = csv.reader(text, delimiter=found, skipinitialspace=True)
        return header, [cells for cells in rows if cells]


def _open(path: Path, opened: ExitStack) -> io.TextIOWrapper:
    """The text of a file, which gzip may have packed."""
    file: Any = opened.enter_context(path.open("rb"))
    is_packed = file.read(2) == b"\x1f\x8b"
    file.seek(0)
    if is_packed:
        file = opened.enter_context(gzip.GzipFile(fileobj=file))
    return opened.enter_context(io.TextIOWrapper(file, _encoding(file), newline=""))


def _encoding(file: Any) -> str:
    """UTF-8 with or without a byte-order mark, or UTF-16 by its mark."""
    mark = file.read(2)
    file.seek(0)
    return "utf-16" if mark in (BOM_UTF16_LE, BOM_UTF16_BE) else "utf-8-sig"


def _delimiter(text: io.TextIOWrapper, name: str, path: Path, given: str | None) -> str:
    """What separates the cells: as `given`, else by the first two lines."""
    if given:
        return DELIMITERS[given]
    if ".tsv" in path.suffixes[-2:]:
        return "\t"
    first, second = text.readline(LONGEST_LINE), text.readline(LONGEST_LINE)
    text.seek(0)
    there = [each for each in ",;\t|" if each in first]
    if len(there) < 2:
        return there[0] if there else ","
    widths = {each: [len(next(csv.reader([line], delimiter=each), [])) for line in (first, second)] for each in there}
    fitting = [each for each, (header, row) in widths.items() if header == row > 1]
    if len(fitting) > 1:
        raise InputError(
            f"{name}: cells may be separated by {' or '.join(map(repr, fitting))}, say which with --delimiter"
        )
    return fitting[0] if fitting else there[0]


def _read(
    text: io.TextIOWrapper,
    name: str,
    label_column: str | Sequence[str] | None,
    needs_label: bool,
    delimiter: str,
    cell_values: "_Cells",
    weight_column: str | None,
    *,
    as_they_are: bool,
) -> Table:
    reader = csv.reader(_lines(text, name), delimiter=delimiter, skipinitialspace=True)
    try:
        header = next(reader, [])
        _check_header(name, header)
        places = label_places(name, header, label_column, needs_label)
        weight_place = weight_places(name, header, weight_column, places, needs_label)
        last_first = sorted([*places, *weight_place], reverse=True)
        numbers, lines = array("f"), array("q")
        labels: list[list[str | None]] = [[] for _ in places]
        values: list[list[Any]] = []
        weights: list[Any] = []
        known: dict[str, str] = {}  # one string for each class
        for line, cells in _full_lines(name, reader, len(header)):
            lines.append(line)
            for place, column in zip(places, labels, strict=True):
                label = cells[place]
                column.append(known.setdefault(label, label) if label.strip() else None)
            weights.extend(cell_values.cell(line, cells[place]) for place in weight_place)
            for place in last_first:
                del cells[place]
            if as_they_are:
                values.append([cell_values.cell(line, cell) for cell in cells])
                continue
            try:
                numbers.fromlist(cell_values(line, cells))
            except ValueError:
                raise _bad_cell(name, line, header, last_first, cells, cell_values, labels=bool(places)) from None
    except csv.Error as error:
        why = str(error).partition(" - ")[0]  # then comes advice to programmers
        raise InputError(f"{name}, line {reader.line_num} cannot be read ({why}): save the table again") from error
    if not lines:
        raise InputError(f"{name} is empty: there is a header line and no row below it")
    cell_values.check()
    columns = tuple(column for index, column in enumerate(header) if index not in last_first)
    x: Any = np.array(values, object) if as_they_are else np.frombuffer(numbers, np.float32)
    x = x.reshape(len(lines), len(columns))
    y = {} if not places else {"y": beside([_labels(column) for column in labels])}
    targets = tuple(header[place] for place in places)
    return table_of(
        name,
        {"x": x, **y, "w": np.array(weights, object) if weight_place else None},
        columns=columns,
        targets=targets,
        weight_column=weight_column or "",
        place=lambda part, row: f"{name}, line {lines[row]}",
    )


def _lines(text: io.TextIOWrapper, name: str) -> Iterator[str]:
    """The lines, each with its end; InputError for one that no table has, as a small packed file may unpack to."""
    while line := text.readline(LONGEST_LINE):
        if len(line) == LONGEST_LINE:
            raise InputError(f"{name} has a line of more than {LONGEST_LINE:,} characters: it is no table")
        yield line


def _check_header(name: str, header: list[str]) -> None:
    if not header:
        raise InputError(f"{name} is empty or begins with an empty line, but a header line is needed")
    if any("\0" in column for column in header):
        raise InputError(f"{name} is not UTF-8 text: save it with that encoding")
    first = {column: len(header) - 1 - index for index, column in enumerate(reversed(header))}
    for index, column in enumerate(header):
        if not column.strip():
            raise InputError(f"{name}: column {index + 1} has no name in the header line, name it or remove it")
        if first[column] != index:
            raise InputError(
                f"{name}: two columns of the header line are called {shortened(column)} (is the header line missing?)"
            )
    counted = [str(number) for number in range(len(header) + 1)]
    if all(map(_is_number, header)) and header not in (counted[:-1], counted[1:]):
        raise InputError(f"{name}: the first line holds only numbers, but a header line is needed")


def _full_lines(name: str, reader: Iterator[list[str]], width: int) -> Iterator[tuple[int, list[str]]]:
    """Line numbers and cells; empty lines are accepted at the end only."""
    empty = None
    for cells in reader:
        line: int = reader.line_num  # type: ignore[attr-defined]
        if not cells:
            empty = empty or line
            continue
        if empty is not None:
            raise InputError(f"{name}, line {empty} is empty but there are rows below it, remove it")
        if len(cells) != width:
            raise InputError(f"{name}, line {line} has {len(cells)} cells but the header line has {width}")
        yield line, cells


class _Cells:
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


def _is_number(cell: str) -> bool:
    try:
        _number(cell)
    except ValueError:
        return False
    return True


def _labels(labels: list[str | None]) -> NDArray:
    """Numbers where all labels that are there are such, NaN for those that are not; else text and None."""
    there = {label for label in labels if label is not None}
    if not all(map(_is_number, there)):
        return np.array(labels, object)
    numbers = {label: float(label) for label in there}
    return np.array([float("nan") if label is None else numbers[label] for label in labels])


def _bad_cell(
    name: str, line: int, header: list[str], places: list[int], cells: list[str], values: _Cells, *, labels: bool
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
