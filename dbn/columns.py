"""Kinds of the columns of a table: numbers, two values or categories, and the codes of cells."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from dbn.errors import InputError, MissingValue, listed, shortened

COLUMN_KINDS = ("gaussian", "bernoulli", "categorical")
MOST_CODES = 10
"""Whole numbers of at most so many values, each in ENOUGH rows on average, are codes of categories."""
ENOUGH = 5
MOST_CATEGORIES = 100
"""Columns with more texts are taken for names or free text."""
MARKS = ("", "-", ".", "?", "na", "n/a", "nan", "none", "null", "missing")
"""What stands in files for a missing value, in any case."""
TRUTH = {"False": "0", "True": "1"}


@dataclass(frozen=True)
class Column:
    """What the cells of a column are to a model, and what they are called.

    Numbers have no `categories`; of two values the second is 1; of categories each is a unit.

    >>> color = Column("categorical", ("blue", "green", "red"))
    >>> color.codes(["red", "blue"], "row {}".format), color.cells([2.0, 0.0])
    ([2.0, 0.0], ['red', 'blue'])
    """

    kind: str
    categories: tuple[str, ...] = ()

    @property
    def states(self) -> int:
        """The number of one-hot units, 0 where the value itself is the unit's."""
        return len(self.categories) if self.kind == "categorical" else 0

    @property
    def units(self) -> str:
        """The type of unit: "gaussian", "categorical(states=3)"."""
        return f"categorical(states={self.states})" if self.states else self.kind

    @property
    def is_plain(self) -> bool:
        """Whether cells that are numbers are their own codes."""
        return self.categories == tuple(map(str, range(len(self.categories))))

    def codes(self, cells: Sequence[Any], where: Callable[[int], str], *, missing: bool = False) -> list[float]:
        """A number for each cell, NaN for one that is `missing` where that may be; `where` is a row's place in errors.

        InputError for the first cell that is missing, not a number where numbers are needed, or no category.
        """
        place = {category: float(code) for code, category in enumerate(self.categories)}
        place |= {other: place[own] for one in TRUTH.items() for own, other in (one, one[::-1]) if own in place}
        known: dict[Any, float] = {}
        found = []
        for row, cell in enumerate(cells):
            if missing and is_missing(cell):
                found.append(math.nan)
                continue
            key = type(cell), cell
            if key not in known:
                check_there(cell, row, where)
                code = place.get(text_of(cell)) if place else number_of(cell)
                if code is None or (self.kind == "bernoulli" and not 0 <= code <= 1):
                    raise InputError(f"{where(row)} is {shortened(str(cell))}, {self._refusal}{if_mark(cell)}")
                known[key] = code
            found.append(known[key])
        return found

    @property
    def _refusal(self) -> str:
        if self.categories:
            return (
                f"which is none of the categories {listed(self.categories, 6)}: correct the cell, or leave the row out"
            )
        if self.kind == "bernoulli":
            return "but values from 0 to 1 are needed: correct the cell, or leave the row out"
        return "which is not a number: correct the cell, or leave the row out"

    def cells(self, values: Sequence[float]) -> list[Any]:
        """The inverse of `codes`: categories by name, numbers as they are."""
        return [self.categories[round(value)] for value in values] if self.categories else list(values)

    def description(self) -> dict[str, Any]:
        """As JSON data."""
        return {"kind": self.kind, "categories": list(self.categories)}

    @classmethod
    def from_description(cls, found: Mapping[str, Any]) -> "Column":
        """The inverse of `description`; ValueError for what is none."""
        kind, categories = found["kind"], found["categories"]
        if type(kind) is not str or not all(type(each) is str for each in categories):
            raise ValueError(f"{found!r} describes no column")
        if len(set(categories)) != len(categories) or (kind == "categorical" and len(categories) < 2):
            raise ValueError(f"{found!r} describes no column")
        return cls(kind, tuple(categories))


Kinds = Mapping[str, str | Column]
"""Of the columns of a table by name, or by place ("0", "1", …) where they have none: a kind, or all that is known of
the column. Others are inferred."""


def read_kinds(words: Sequence[str]) -> dict[str, str]:
    """The kinds in COLUMN=KIND; ValueError for other words.

    >>> read_kinds(["age=gaussian", "a=b=categorical"])
    {'age': 'gaussian', 'a=b': 'categorical'}
    """
    found = {}
    for word in words:
        name, _, kind = word.rpartition("=")
        if not name or kind not in COLUMN_KINDS:
            raise ValueError(word)
        found[name] = kind
    return found


def check_there(cell: Any, row: int, where: Callable[[int], str]) -> None:
    """InputError for a missing cell."""
    if is_missing(cell):
        raise MissingValue(f"{where(row)} is missing: fill it in, or leave the row or the column out")


def is_missing(cell: Any) -> bool:
    """Whether a cell holds nothing: None, NaN, pandas' NA, or text of spaces alone."""
    if cell is None or type(cell).__name__ == "NAType":
        return True
    return bool(cell != cell) or (isinstance(cell, str) and not cell.strip())


def if_mark(cell: Any) -> str:
    """The end of an error on a cell that may mark a missing value; empty for others.

    >>> if_mark("NA"), if_mark("2 kg")
    ('; where it marks a missing value, leave the cell empty', '')
    """
    return "; where it marks a missing value, leave the cell empty" * (str(cell).strip().lower() in MARKS)


def text_of(cell: Any) -> str:
    """A cell as the name of a category: 3.0 is "3".

    >>> text_of(" red "), text_of(3.0), text_of(True)
    ('red', '3', 'True')
    """
    return str(int(cell)) if isinstance(cell, float) and cell.is_integer() else str(cell).strip()


def number_of(cell: Any) -> float | None:
    """The number that a cell holds or writes, None where it does not."""
    try:
        return None if isinstance(cell, str) and "_" in cell else float(cell)
    except (TypeError, ValueError):
        return None


def inferred(
    cells: Sequence[Any], name: str, where: Callable[[int], str], kind: str | None = None, source: str = ""
) -> Column:
    """What a column is by its cells, or its categories if the `kind` is given.

    Two values are those of a bit, the first in order 0. Text is categories, and so are whole numbers of at most
    `MOST_CODES` values that stand in `ENOUGH` rows each on average. Other numbers stay numbers.

    source: what the table is called, before the column in errors.

    InputError for missing cells, text that is all alike or nearly all different, and where the kind does not go with
    the cells.
    """
    source = source and f"{source}: "
    for row, cell in enumerate(cells):
        check_there(cell, row, where)
    distinct = list({(type(cell), cell): cell for cell in cells}.values())
    is_number = all(isinstance(cell, int | float) and not isinstance(cell, bool) for cell in distinct)
    texts = sorted({text_of(cell) for cell in distinct}, key=float if is_number else None)
    if kind is None:
        kind = _guess(distinct, texts, len(cells), is_number=is_number)
        if kind == "categorical" and not is_number and len(texts) > min(MOST_CATEGORIES, len(cells) // 2):
            others = [row for row, cell in enumerate(cells) if number_of(cell) is None]
            if len(others) < len(cells) / 2:
                raise InputError(
                    f"{where(others[0])} is {shortened(str(cells[others[0]]))}, but {len(cells) - len(others):,} of "
                    f"{len(cells):,} cells of the column are numbers: correct the cell, or leave the row out"
                    f"{if_mark(cells[others[0]])}"
                )
            if all(number_of(text.removesuffix("%")) is not None for text in texts):
                raise InputError(
                    f"{source}column {name!r} holds percentages, as {shortened(texts[0])}: leave the sign % out"
                )
            raise InputError(
                f"{source}column {name!r} has {len(texts):,} different texts in {len(cells):,} rows, as names or free "
                f"text have: leave the column out, or say --column-kinds {name}=categorical"
            )
    if kind == "gaussian":
        return Column(kind)
    if kind == "bernoulli" and len(texts) != 2:
        raise InputError(
            f"{source}column {name!r} has {len(texts)} different values, but bernoulli needs 2: name another kind"
        )
    if len(texts) < 2:
        raise InputError(
            f"{source}column {name!r} holds {shortened(texts[0])} alone, from which nothing is learned: leave it out"
        )
    return Column(kind, tuple(texts))


def _guess(distinct: Sequence[Any], texts: Sequence[str], rows: int, *, is_number: bool) -> str:
    if len(texts) == 2:
        return "bernoulli"
    if not is_number:
        return "categorical"
    are_codes = all(float(cell).is_integer() for cell in distinct) and 2 < len(texts) <= min(MOST_CODES, rows // ENOUGH)
    return "categorical" if are_codes else "gaussian"


def units_of_table(columns: Sequence[Column]) -> str:
    """The units of a table, as options name them.

    >>> yes, color = Column("bernoulli", ("no", "yes")), Column("categorical", ("blue", "green", "red"))
    >>> units_of_table([Column("gaussian"), Column("gaussian"), yes, color, color])
    '2 gaussian + 1 bernoulli + 6 categorical(states=3)'
    """
    groups = ((kind, sum(each.states or 1 for each in group)) for kind, group in groupby(columns, lambda c: c.units))
    return " + ".join(f"{count} {kind}" for kind, count in groups)
