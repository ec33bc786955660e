"""Tables of text, plain and in Markdown."""

from collections.abc import Sequence

Line = tuple[str, ...]


def columns(lines: Sequence[Line]) -> str:
    """The first column to the left, the others to the right, a rule under the first line."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    rows = [
        "  ".join(
            cell.rjust(width) if place else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    ]
    return "\n".join([rows[0], "  ".join("─" * width for width in widths), *rows[1:]])


def markdown(lines: Sequence[Sequence[str]]) -> str:
    """A table of Markdown that can be read as it stands too."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    rows = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |" for line in lines
    ]
    rows.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(rows)
