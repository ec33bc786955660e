"""Write the tables of results into the documents from their records."""

import dbn.cli.first  # noqa: F401

# isort: split
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from estimators import TABLES

from dbn.cli.command_line import run_script
from dbn.errors import InputError
from dbn.finetuning.report import comparison_text
from dbn.plotting.figures import error_against_depth, error_against_labels, save
from dbn.study.grid import CellArm
from dbn.study.report import Table, error_table, rate_table
from dbn.tasks import TASKS
from dbn.text_tables import markdown_table

ROOT = Path(__file__).resolve().parents[1]
RECORDS = ROOT / "docs" / "results"
DOCUMENTS = [
    ROOT / "README.md",
    *sorted(path for path in (ROOT / "docs").rglob("*.md") if "_build" not in path.parts),
]
MARK = re.compile(r"^<!-- table: (.*?) -->\n(.*?)^<!-- end -->$", re.DOTALL | re.MULTILINE)
"""A query such as `<!-- table: {records: study-labels, columns: labels} -->`, and the table up to `<!-- end -->`.

Runs of further arms join a record when the lines of their results.jsonl are added to it: tests pair them by seed.
"""
SVM = "RBF-SVM"
COUNTED = {"labels": "label", "depth": "layer"}
"""Columns of numbers, and what they count."""
DRAWN = {"study-labels": ("labels", "labels"), "study-sigmoid-depth": ("depth", "sigmoid-depth")}
"""Records, the horizontal axis of their figure and its name."""
Row = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class ResultsConfig:
    """Options of results.py."""

    check: bool = False
    """Write nothing, and name the documents whose tables are not those of the records."""
    figures: bool = False
    """Draw the figures of `DRAWN`, too."""


def main(config: ResultsConfig) -> None:
    """Write the tables, or with --check name the documents that this would change (status 1)."""
    for name in DRAWN if config.figures else ():
        draw(name)
    changed = False
    for path in DOCUMENTS:
        text = path.read_text(encoding="utf-8")
        if (made := written(text)) != text:
            changed = True
            print(f"{path.relative_to(ROOT)}: a table {'is not' if config.check else 'was not'} that of its records")
            if not config.check:
                path.write_text(made, encoding="utf-8")
    if changed and config.check:
        raise SystemExit(1)


@cache
def rows_of(name: str) -> tuple[Row, ...]:
    """Rows of docs/results/NAME.jsonl or .json; of comparisons and of svm.py's files one for each arm and seed."""
    files = [path for path in sorted(RECORDS.glob("*.json*")) if path.stem == name]
    if not files:
        raise InputError(f"there is no record {name!r} in docs/results")
    text = files[0].read_text(encoding="utf-8")
    records = map(json.loads, text.splitlines()) if files[0].suffix == ".jsonl" else [json.loads(text)]
    return tuple(row for record in records for row in _flat(record))


def _flat(record: Row) -> Iterator[Row]:
    about = {key: record[key] for key in ("data", "labels") if key in record}
    for arm, found in record.get("arms", {}).items():
        for place, (seed, error) in enumerate(zip(record["seeds"], found["test_error"], strict=True)):
            diverged = place < found["diverged"]  # their number is kept, not which
            yield about | {"arm": arm, "seed": seed, "test_error": error, "diverged": diverged}
    if "arms" not in record and "seeds" in record:
        yield from (about | {"arm": SVM, "diverged": False} | each for each in record["seeds"])
    elif "arms" not in record:
        yield {"diverged": False} | record


def grouped(rows: Iterable[Row], key: Callable[[Row], Any]) -> dict[Any, list[Row]]:
    """Rows of the same key, in the order of their seeds; each seed once."""
    found: dict[Any, list[Row]] = {}
    for row in rows:
        found.setdefault(key(row), []).append(row)
    for name, group in found.items():
        group.sort(key=lambda row: row["seed"])
        if len({row["seed"] for row in group}) < len(group):
            raise InputError(f"a seed is there twice: {name}")
    return found


def written(text: str) -> str:
    """A document with the tables of its records."""
    return MARK.sub(lambda m: f"<!-- table: {m[1]} -->\n{table_of(yaml.safe_load(m[1]))}\n<!-- end -->", text)


def table_of(query: Row) -> str:
    """The table of a query: `comparison`, a result.json as finetune prints it; `estimators`, a study of estimators.py
    and its `records`; otherwise test errors, by

    records: names, of which the first gives an arm in a column; or a mapping of headings to such.
    columns: what has a column for each value (labels, depth, data). where: values that rows must have.
    reference: the arm of the paired t-tests. arms: which, in this order.
    rates, published: columns of selected rates, and of figures that others publish.
    """
    if "comparison" in query:
        return f"```\n{comparison_text(json.loads((RECORDS / query['comparison']).read_text(encoding='utf-8')))}\n```"
    if "estimators" in query:
        return TABLES[query["estimators"]](list(rows_of(query["records"])))
    records = query["records"] if isinstance(query["records"], Mapping) else {"": query["records"]}
    blocks = [_block(query, title, names.split()) for title, names in records.items()]
    arms = dict.fromkeys(arm for _, body in blocks for arm in body)
    rows = [
        [_label(arm, query), *(cell for head, body in blocks for cell in body.get(arm, [""] * len(head)))]
        for arm in query.get("arms", sorted(arms, key=SVM.__eq__))
    ]
    first = query.get("where", {}).get("activation", "arm")
    return markdown_table([first, *(heading for head, _ in blocks for heading in head)], rows)


def _label(arm: str, query: Row) -> str:
    return arm if arm == SVM else f"`{arm}`" + " (reference)" * (arm == query.get("reference"))


def _block(query: Row, title: str, names: Sequence[str]) -> tuple[list[str], dict[str, list[str]]]:
    """Headings, and the cells of each arm. A support vector machine is tested against nothing."""
    where, column = query.get("where", {}), query.get("columns", "")
    rows: list[Row] = []
    for name in names:
        known = {(row["arm"], row.get(column)) for row in rows}
        found = (row for row in rows_of(name) if all(row.get(key) == where[key] for key in where))
        rows += [row for row in found if (row["arm"], row.get(column)) not in known]
    values = list(dict.fromkeys(row.get(column) for row in rows))
    if column in COUNTED:
        values.sort()
    groups = grouped(rows, lambda row: (row["arm"], row.get(column)))
    headings = []
    for value in values:
        seeds = {tuple(row["seed"] for row in each) for (arm, of), each in groups.items() if of == value and arm != SVM}
        if len(seeds) > 1:
            raise InputError(f"{names[0]}: the arms have other seeds, so that no test can pair them: {seeds}")
        n = len(*seeds)
        headings.append(f"{title or _heading(column, value)}, {n} seed" + "s" * (n > 1))
    body: dict[str, list[str]] = {}
    reference: str | None = query.get("reference")
    machine = [SVM] if any(arm == SVM for arm, _ in groups) else []
    arms = [arm for arm in query.get("arms", dict.fromkeys(arm for arm, _ in groups)) if arm != SVM]
    for tested in filter(None, (arms, machine)):
        lines = {arm: [CellArm("all", (place,), "", arm) for place in range(len(values))] for arm in tested}
        table = Table("", headings, lines)
        fits = {each: groups.get((each.arm, values[each.hidden[0]]), []) for line in lines.values() for each in line}
        against = reference if reference and reference in tested else tested[0]
        text = error_table(table, against, fits, TASKS["classify"]).replace("pending", "not run")
        if reference is None:
            text = re.sub(r", p [=<] [\d.]+", "", text)
        if tested == machine:
            text = text.replace("**", "")
        body |= dict(zip(tested, _cells(text), strict=True))
        if query.get("rates"):
            for arm, line in zip(tested, _cells(rate_table(table, fits)), strict=True):
                body[arm] += line
    if query.get("published"):
        beside = next(entry["beside"] for entry in figures() if entry.get("record") == names[0])
        for arm in body:
            body[arm].append(beside.get(arm, ""))
    extra = ["selected rate"] * bool(query.get("rates")) + ["published"] * bool(query.get("published"))
    return headings + extra, body


def _cells(text: str) -> list[list[str]]:
    """The cells of a table of Markdown, without its headings and first column."""
    return [[cell.strip() for cell in line.split("|")[2:-1]] for line in text.splitlines()[2:]]


def _heading(column: str, value: Any) -> str:
    if column in COUNTED:
        return f"{value:,} {COUNTED[column]}{'s' * (value > 1)}"
    return "test error" if value is None else str(value)


def draw(record: str) -> None:
    """The figure of a record, of all its arms."""
    axis, name = DRAWN[record]
    arms: dict[str, dict[float, list[float]]] = {}
    for row in sorted(rows_of(record), key=lambda row: float(row[axis])):
        arms.setdefault(row["arm"], {}).setdefault(row[axis], []).append(row["test_error"])
    figure = error_against_labels(arms) if axis == "labels" else error_against_depth({"": arms})
    save(figure, RECORDS / f"{name}.png")


@cache
def figures() -> list[Row]:
    """Entries of figures.yaml, all values as text."""
    found: list[Row] = yaml.load((RECORDS / "figures.yaml").read_text(encoding="utf-8"), Loader=yaml.BaseLoader)
    return found


if __name__ == "__main__":
    run_script(main, ResultsConfig, __doc__)
