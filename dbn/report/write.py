"""Write the report of a run folder: what was asked, what came out, how far it can be trusted."""

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from dbn.data.splits import Splits
from dbn.errors import InputError
from dbn.plotting.axes import module
from dbn.report.comparison import comparison_page
from dbn.report.page import Block, Code, Gallery, Page, Picture, Section, Table, Text, render
from dbn.report.pretraining import label_model_page, stack_page
from dbn.report.source import Source
from dbn.report.study import study_page
from dbn.runs.asked import asked, chosen_by_data, command, kind_of, shown
from dbn.runs.folder import RESULT, VERSIONS, RunFolder
from dbn.storage.files import as_path, atomic_write, corrupt_file

REPORT = "report.html"
MOST_BYTES = 2_700_000
"""Of a report, so that it can be sent by mail; pictures beyond are left out."""

PAGES: dict[str, Callable[[Source], Page]] = {
    "pretrain": stack_page,
    "label-model": label_model_page,
    "finetune": comparison_page,
    "study": study_page,
}
"""What makes the page, by the command that made the run."""


def write_report(run: Path | str, output: Path | str | None = None, *, splits: Splits | None = None) -> Path:
    """Write one HTML file on a run of pretrain, label-model, finetune or study, by default report.html in its folder.

    Nothing is trained. `splits`: the data of the run, where they are in memory; else they are read where samples and
    reconstructions need them. The same run gives the same bytes. Returns the path of the file.

    InputError for a folder that is no run, or one that has not ended, for damaged files, and without matplotlib.

    >>> import dbn, tempfile, torch
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = dbn.pretrain(torch.eye(20), hidden=[8], epochs=2, run=folder + "/run")
    ...     text = write_report(folder + "/run").read_text(encoding="utf-8")
    >>> "<h1>" in text, "<script" in text
    (True, False)
    """
    module("figure")  # before long work
    folder = RunFolder.open(as_path(run))
    source = Source(folder, folder.read_config(), splits)
    verb = kind_of(folder, source.options)
    try:
        page = PAGES[verb](source)
        sections = [*page.sections, *_asked(verb, source), *_all_numbers(source)]
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        if isinstance(error, InputError):
            raise
        raise corrupt_file(folder.path, f"its files are not those of a run of {verb}") from error
    text = render(page._replace(sections=list(_of_size(sections, MOST_BYTES))))
    path = folder.path / REPORT if output is None else as_path(output, "output")
    atomic_write(path, text.encode())
    return path


def _asked(verb: str, source: Source) -> list[Section]:
    """The options that differ from their defaults, how to repeat the run, and what it ran on."""
    options, chosen = asked(verb, source.options), chosen_by_data(verb)
    rows = [
        (name.replace("_", "-"), shown(value), "by\u00a0data" * (name in chosen)) for name, value in options.items()
    ]
    note = "by data: chosen by the size of the data where it was not given."
    versions = source.run.read_json(VERSIONS) if (source.run.path / VERSIONS).is_file() else {}
    return [
        Section(
            "What was asked",
            [
                Text(f"Options of {verb} that differ from their defaults; {note}"),
                Table(("option", "value", ""), rows),
                Text("To repeat it in another folder:"),
                Code(command(verb, source.options), is_command=True),
            ],
        ),
        Section(
            "Versions",
            [Table(("", "version"), [(name, str(value)) for name, value in versions.items() if value is not None])],
            folded=True,
        ),
    ]


def _all_numbers(source: Source) -> list[Section]:
    """Every number of result.json as it stands there."""
    if source.result is None:
        return []
    rows = [(path, values) for path, values in _flat(source.result, "")]
    return [Section(f"All numbers of {RESULT}", [Table(("name", "value"), rows)], folded=True)]


def _flat(value: Any, path: str) -> Iterator[tuple[str, str]]:
    """The paths of plain values and of lists of them, and these as text."""
    if isinstance(value, dict):
        for name, each in value.items():
            yield from _flat(each, f"{path} › {name}" if path else str(name))
    elif isinstance(value, list) and any(isinstance(each, list | dict) for each in value):
        for number, each in enumerate(value, start=1):
            yield from _flat(each, f"{path} {number}")
    else:
        values = value if isinstance(value, list) else [value]
        yield path, ", ".join(each if isinstance(each, str) else json.dumps(each) for each in values)


def _of_size(sections: Sequence[Section], most: int) -> Iterator[Section]:
    """The sections with the pictures that there is room for."""
    for section in sections:
        kept: list[Block] = []
        left = 0
        for block in section.blocks:
            pictures = block.pictures if isinstance(block, Gallery) else [block]
            size = sum(len(each.url) if isinstance(each, Picture) else len(str(each)) for each in pictures)
            if size > most and isinstance(block, Gallery | Picture):
                left += len(pictures)
                continue
            most -= size
            kept.append(block)
        note = [Text(f"{left} pictures are left out: with them the file would be too large to send.")] if left else []
        yield section._replace(blocks=[*kept, *note])
