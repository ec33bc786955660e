"""The report of a study, from the Markdown that it writes."""

import re
from collections.abc import Iterator
from pathlib import Path

from dbn.errors import InputError
from dbn.report.drawings import png_file
from dbn.report.page import Block, Code, Page, Section, Table, Text
from dbn.report.source import Source
from dbn.storage.files import read_file

STUDY, RESULTS = "study.md", "results.jsonl"


def study_page(source: Source) -> Page:
    """InputError where no arm of a cell is finished yet."""
    file = source.run.path / STUDY
    if not file.is_file():
        raise InputError(f"{source.run.path} holds no {STUDY} yet: go on with study --resume --run {source.run.path}")
    title, *paragraphs = read_file(file).decode(errors="replace").strip().split("\n\n")
    lead = next((each for each in paragraphs if not each.startswith("#")), "")
    sections, heading = [], ""
    for paragraph in paragraphs:
        level, _, name = paragraph.partition(" ")
        if level in ("##", "###"):
            heading = name if level == "##" else heading
            sections.append(Section(heading if level == "##" else f"{heading}: {name}", []))
        elif paragraph != lead and sections:
            last = sections.pop()
            sections.append(last._replace(blocks=[*last.blocks, *_block(paragraph, source.run.path)]))
    return Page(title.lstrip("# "), [lead], [*sections, *_records(source)])


def _block(paragraph: str, folder: Path) -> Iterator[Block]:
    """A table, lines of print, a figure or text."""
    if paragraph.startswith("|"):
        headers, _, *rows = [
            [cell.strip().replace("**", "") for cell in line.strip("|").split("|")] for line in paragraph.splitlines()
        ]
        yield Table(headers, rows)
    elif paragraph.startswith("```"):
        yield Code(paragraph.strip("`\n"))
    elif image := re.fullmatch(r"!\[([^\]]*)\]\((figures/[^)/]+\.png)\)", paragraph):
        if (file := folder / image[2]).is_file():
            yield png_file(file.read_bytes(), f"{image[1].replace('-', ' ')}.".capitalize(), is_figure=True)
    else:
        yield Text(paragraph)


def _records(source: Source) -> list[Section]:
    """Every line of results.jsonl."""
    file = source.run.path / RESULTS
    if not file.is_file():
        return []
    return [Section(f"All numbers of {RESULTS}", [Code(read_file(file).decode(errors="replace").strip())], folded=True)]
