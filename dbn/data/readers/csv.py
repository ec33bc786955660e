"""Text tables with a header: a cell that is missing or not a number is an error that says where it is."""

import csv
import gzip
import io
import zlib
from array import array
from codecs import BOM_UTF16_BE, BOM_UTF16_LE
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from dbn.data.readers.cells import Cells, bad_cell, is_number, numbers_or_text
from dbn.data.table import Table, beside, label_places, table_of, weight_places
from dbn.errors import InputError, shortened

DELIMITERS = {"comma": ",", "semicolon": ";", "tab": "\t", "pipe": "|", "space": " "}
LONGEST_LINE = 1 << 26


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
            read = Cells(name, decimal, empty=empty)
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
    cell_values: Cells,
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
                raise bad_cell(name, line, header, last_first, cells, cell_values, labels=bool(places)) from None
    except csv.Error as error:
        why = str(error).partition(" - ")[0]  # then comes advice to programmers
        raise InputError(f"{name}, line {reader.line_num} cannot be read ({why}): save the table again") from error
    if not lines:
        raise InputError(f"{name} is empty: there is a header line and no row below it")
    cell_values.check()
    columns = tuple(column for index, column in enumerate(header) if index not in last_first)
    x: Any = np.array(values, object) if as_they_are else np.frombuffer(numbers, np.float32)
    x = x.reshape(len(lines), len(columns))
    y = {} if not places else {"y": beside([numbers_or_text(column) for column in labels])}
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
    if all(map(is_number, header)) and header not in (counted[:-1], counted[1:]):
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
