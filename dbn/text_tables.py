"""Tables of text: plain, and in Markdown."""

from collections.abc import Iterable, Sequence

from tabulate import SEPARATING_LINE, DataRow, Line, TableFormat, tabulate

Row = Sequence[str]


def plain_table(headers: Row, rows: Iterable[Row], align: str = "") -> str:
    """A table with a rule under its headers.

    align: a letter per column, l or r; left out, the first column is left-aligned and the others right-aligned.

    >>> print(plain_table(("arm", "error"), [("dbn", "1.38")]))
    arm  error
    ───  ─────
    dbn   1.38
    """
    return _table(
        headers, rows, align or "l" + "r" * (len(headers) - 1), Line("", "─", "  ", ""), DataRow("", "  ", "")
    )


def markdown_table(headers: Row, rows: Iterable[Row]) -> str:
    """A table of Markdown, its columns padded so that the source is readable.

    >>> print(markdown_table(("arm", "error"), [("dbn", "1.38")]))
    | arm | error |
    |-----|-------|
    | dbn | 1.38  |
    """
    return _table(headers, rows, "l" * len(headers), Line("|", "-", "|", "|"), DataRow("|", "|", "|"), padding=1)


def _table(headers: Row, rows: Iterable[Row], align: str, rule: Line, cells: DataRow, padding: int = 0) -> str:
    layout = TableFormat(None, rule, None, None, cells, cells, padding, None)
    # Headers as the first row: tabulate would widen their columns by two.
    lines = [headers, SEPARATING_LINE, *rows]
    sides = [{"l": "left", "r": "right"}[letter] for letter in align]
    return tabulate(lines, tablefmt=layout, colalign=sides, disable_numparse=True)
