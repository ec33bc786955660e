"""CSV files: a cell that is missing or not a number is an error that says where it is."""

import csv
from array import array
from collections.abc import Iterator
from dataclasses import replace
from typing import IO

import numpy as np
from numpy.typing import NDArray

from dbn.data.checks import check_finite
from dbn.data.splits import Splits, unsplit
from dbn.errors import InputError, listed, shortened


def read_csv(file: IO[bytes], name: str, label_column: str | None) -> Splits:
    """The columns of an open CSV file with a header; all but `label_column` hold numbers."""
    try:
        text = (line.decode() for line in _without_mark(file))
        reader = csv.reader(text, skipinitialspace=True)
        header = next(reader, [])
        label_index = _check_header(name, header, label_column)
        numbers, lines = array("f"), array("q")
        labels: list[str | None] = []
        known: dict[str, str] = {}  # one string for each class
        for line, cells in _full_lines(name, reader, len(header)):
            lines.append(line)
            if label_index is not None:
                label = cells.pop(label_index)
                labels.append(known.setdefault(label, label) if label.strip() else None)
            try:
                numbers.extend(map(_number, cells) if "_" in "".join(cells) else map(float, cells))
            except ValueError:
                raise _bad_cell(name, line, header, label_index, cells) from None
    except UnicodeDecodeError as error:
        raise InputError(f"{name} is not UTF-8 text, save it as one") from error
    except csv.Error as error:
        why = str(error).partition(" - ")[0]  # then comes advice to programmers
        raise InputError(f"{name}, line {reader.line_num} cannot be read ({why}): save the table again") from error
    if not lines:
        raise InputError(f"{name} is empty: there is a header line and no row below it")

    names = [column for index, column in enumerate(header) if index != label_index]
    x = np.frombuffer(numbers, np.float32).reshape(len(lines), len(names))
    check_finite(x, lambda row, column: f"{name}, line {lines[row]}, column {names[column]!r}")
    splits = unsplit(name, x, None if label_index is None else _labels(labels))
    return replace(splits, columns=tuple(names))


def _without_mark(file: IO[bytes]) -> Iterator[bytes]:
    """The lines of a file, without the byte-order mark that some spreadsheets put before the first."""
    yield file.readline().removeprefix(b"\xef\xbb\xbf")
    yield from file


def _check_header(name: str, header: list[str], label_column: str | None) -> int | None:
    """The index of the label column; without a name for it, None."""
    if not header:
        raise InputError(f"{name} is empty or begins with an empty line, but a header line is needed")
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
    if label_column is None:
        return None
    if label_column not in header:
        raise InputError(f"{name}: there is no column {label_column!r}, only {listed(header)}")
    if len(header) == 1:
        raise InputError(f"{name}: there is no column beside the label column {label_column!r}")
    return header.index(label_column)


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


def _number(cell: str) -> float:
    """Python's own reading of a number, but for its 1_000."""
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


def _bad_cell(name: str, line: int, header: list[str], label_index: int | None, cells: list[str]) -> InputError:
    """The sentence for the first of `cells` (without the label's) that is not a number."""
    names = [column for index, column in enumerate(header) if index != label_index]
    column, cell = next(pair for pair in zip(names, cells, strict=True) if not _is_number(pair[1]))
    what = f"{cell[:40]!r} is not a number" if cell.strip() else "the cell is empty"
    hint = "" if label_index is not None else " (if these are the labels, name the column with --label-column)"
    return InputError(f"{name}, line {line}, column {column!r}: {what}{hint}")
