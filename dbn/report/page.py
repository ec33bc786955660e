"""The page of a report: sections of blocks, rendered by a Jinja template that escapes all text."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from dbn.templates import page_template
from dbn.text_tables import Row


class Text(NamedTuple):
    """A paragraph."""

    text: str
    kind: str = "text"


class Warned(NamedTuple):
    """A paragraph that warns."""

    text: str
    kind: str = "warning"


class Code(NamedTuple):
    """Lines as they are printed, or a command, whose lines may break."""

    text: str
    is_command: bool = False
    kind: str = "code"


class Table(NamedTuple):
    """A table; the columns after the first are aligned to the right where all their cells begin like numbers."""

    headers: Row
    rows: Sequence[Row]
    caption: str = ""
    kind: str = "table"

    @property
    def numeric(self) -> list[bool]:
        """By column, whether it holds numbers."""
        columns = list(zip(*self.rows, strict=True)) or [() for _ in self.headers]
        return [place > 0 and all(map(_is_numeric, column)) for place, column in enumerate(columns)]


class Picture(NamedTuple):
    """An image as a data URL. It is drawn on white where `is_figure`, and by whole pixels otherwise."""

    url: str
    caption: str
    is_figure: bool = True
    width: int | None = None
    kind: str = "picture"


class Gallery(NamedTuple):
    """Pictures side by side, as many as there is room for."""

    pictures: Sequence[Picture]
    kind: str = "gallery"


Block = Text | Warned | Code | Table | Picture | Gallery


class Section(NamedTuple):
    """A heading and what stands under it; a folded one is opened by the reader."""

    title: str
    blocks: Sequence[Block]
    folded: bool = False


class Page(NamedTuple):
    """All of a report; `lead` are the sentences of the conclusion."""

    title: str
    lead: Sequence[str]
    sections: Sequence[Section]


def render(page: Page) -> str:
    """The page as HTML."""
    shown = [section for section in page.sections if section.blocks]
    return page_template("dbn.report").render(title=page.title, lead=list(filter(None, page.lead)), sections=shown)


def _is_numeric(cell: Any) -> bool:
    return str(cell)[:1] in "0123456789-−+–" if cell else True
