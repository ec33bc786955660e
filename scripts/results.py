"""Write the tables of results into the documents from their records, and trace every other number to a record."""

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from dbn.cli.command_line import run_script
from dbn.errors import InputError
from dbn.finetuning.report import comparison_text
from dbn.statistics import mean_interval, paired_t_test
from dbn.study.grid import CellArm
from dbn.study.report import Table, error_table, rate_table
from dbn.text_tables import markdown_table

ROOT = Path(__file__).resolve().parents[1]
RECORDS = ROOT / "docs" / "results"
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
RECIPES = sorted((ROOT / "dbn" / "recipes").glob("*.yaml"))
MARK = re.compile(r"^<!-- table: (.*?) -->\n(.*?)^<!-- end -->$", re.DOTALL | re.MULTILINE)
"""A query, and the table between it and `<!-- end -->`."""
NUMBER = re.compile(
    r"-?\d[\d,]*(?:\.\d+)? ± \d+(?:\.\d+)?|p [=<] 0\.\d+|(?<![\w.:])-?\d[\d,]*\.\d+(?!\w|\.\d)"
    r"|(?<![\w.])\d[\d,]*(?= (?:%|nats|ms|s|min|h|MB|points)(?!\w))|\d+(?= →)"
)
"""a ± b, p = c, what has a decimal point, whole numbers with a unit."""
SVM = "RBF-SVM"
KINDS = ("computed", "measured", "published", "setting")
"""What an entry of figures.yaml rests on: fits, a measurement that is stated there, others' publication, an option."""
Row = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class ResultsConfig:
    """Options of results.py."""

    check: bool = False
    """Write nothing, and name the documents whose tables are not those of the records."""


def main(config: ResultsConfig) -> None:
    """Write the tables; name every number without a record (status 1), and count what the others rest on."""
    faults, kinds = [], Counter[str]()
    for path in DOCUMENTS:
        text = path.read_text(encoding="utf-8")
        if (made := written(text)) != text and config.check:
            faults.append(f"{_name(path)}: a table is not that of its records: run python scripts/results.py")
        elif made != text:
            path.write_text(made, encoding="utf-8")
    for path in [*DOCUMENTS, *RECIPES]:
        for number, kind in traced(path):
            kinds[kind] += 1
            if not kind:
                faults.append(f"{_name(path)}: {number} is in no record")
    faults += stale_figures()
    print(*faults, ", ".join(f"{kind or 'no record'}: {n}" for kind, n in sorted(kinds.items())), sep="\n")
    if faults:
        raise SystemExit(1)


def _name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


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
    about = {key: record[key] for key in ("data", "labels") if key in record} | {"diverged": False}
    for arm, found in record.get("arms", {}).items():
        for seed, error in zip(record["seeds"], found["test_error"], strict=True):
            yield about | {"arm": arm, "seed": seed, "test_error": error}
    if "arms" not in record:
        yield from (about | {"arm": SVM} | each for each in record["seeds"]) if "seeds" in record else [record]


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


def errors(rows: Iterable[Row]) -> list[float]:
    """Test errors in %."""
    return [row["test_error"] for row in rows]


# Tables


def written(text: str) -> str:
    """A document with the tables of its records."""
    return MARK.sub(lambda m: f"<!-- table: {m[1]} -->\n{table_of(yaml.safe_load(m[1]))}\n<!-- end -->", text)


def table_of(query: Row) -> str:
    """The table of a query. With `records` alone or beside one of these it is of test errors:

    comparison: a result.json, as finetune prints it. estimators: one of the studies of estimators.py.
    records: names, joined to one record; or a mapping of headings to such.
    columns: what has a column for each value (labels, depth, data). where: values that rows must have.
    reference: the arm of the paired t-tests. arms: which, in this order.
    rates, published: columns of selected rates, and of figures that others publish.
    """
    if "comparison" in query:
        return f"```\n{comparison_text(json.loads((RECORDS / query['comparison']).read_text(encoding='utf-8')))}\n```"
    if "estimators" in query:
        from estimators import TABLES

        return TABLES[query["estimators"]](list(rows_of(query["records"])))
    records = query["records"] if isinstance(query["records"], Mapping) else {"": query["records"]}
    blocks = [_block(query, title, names.split()) for title, names in records.items()]
    arms = dict.fromkeys(arm for _, body in blocks for arm in body)
    rows = [
        [_label(arm, query), *(cell for head, body in blocks for cell in body.get(arm, [""] * len(head)))]
        for arm in query.get("arms", sorted(arms, key=SVM.__eq__))
    ]
    return markdown_table(["arm", *(heading for head, _ in blocks for heading in head)], rows)


def _label(arm: str, query: Row) -> str:
    return arm if arm == SVM else f"`{arm}`" + " (reference)" * (arm == query.get("reference"))


def _block(query: Row, title: str, names: Sequence[str]) -> tuple[list[str], dict[str, list[str]]]:
    """Headings, and the cells of each arm. A support vector machine is tested against nothing."""
    where, column = query.get("where", {}), query.get("columns", "")
    rows = [row for name in names for row in rows_of(name) if all(row.get(key) == where[key] for key in where)]
    values = list(dict.fromkeys(row.get(column) for row in rows))
    groups = grouped(rows, lambda row: (row["arm"], row.get(column)))
    seeds = [max(len(group) for (_, each), group in groups.items() if each == value) for value in values]
    headings = [
        ", ".join(filter(None, [title, _heading(column, value), f"{n} seed" + "s" * (n > 1)]))
        for value, n in zip(values, seeds, strict=True)
    ]
    body: dict[str, list[str]] = {}
    reference, machine = query.get("reference"), [SVM] if any(arm == SVM for arm, _ in groups) else []
    arms = [arm for arm in query.get("arms", dict.fromkeys(arm for arm, _ in groups)) if arm != SVM]
    for tested in filter(None, (arms, machine)):
        lines = {arm: [CellArm("all", (place,), "", arm) for place in range(len(values))] for arm in tested}
        table = Table("", headings, lines)
        found = {each: groups.get((each.arm, values[each.hidden[0]]), []) for line in lines.values() for each in line}
        text = error_table(table, reference or tested[0], found) if tested == arms else error_table(table, SVM, found)
        cells = _cells(text.replace("pending", "not run"))
        for arm, line in zip(tested, cells, strict=True):
            plain = [cell.replace("**", "") if arm == SVM else cell for cell in line]
            body[arm] = plain if reference else [re.sub(r", p [=<] [\d.]+", "", cell) for cell in plain]
        if query.get("rates"):
            for arm, line in zip(tested, _cells(rate_table(table, found)), strict=True):
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
    if column in ("labels", "depth"):
        return f"{value:,} " + ("labels" if column == "labels" else "layer" + "s" * (value > 1))
    return "test error" if value is None else str(value)


# Numbers outside tables


@cache
def figures() -> list[Row]:
    """Entries of figures.yaml, all values as text."""
    found: list[Row] = yaml.load((RECORDS / "figures.yaml").read_text(encoding="utf-8"), Loader=yaml.BaseLoader)
    return found


def numbers(text: str) -> list[str]:
    """The numbers of a text, with ASCII minus signs; not those of its `code`, and not the level of its intervals."""
    text = re.sub(r"\]\([^)\s]*\)|`[^`]*`", "]", re.sub(r"^```.*?$", "", text, flags=re.MULTILINE))
    return NUMBER.findall(re.sub(r"\s+", " ", text.replace("−", "-")).replace("95 %", ""))


def known(values: Iterable[str]) -> set[str]:
    """Numbers that may be quoted: a mean also without its interval."""
    return {each for value in values for number in numbers(value) for each in (number, number.partition(" ± ")[0])}


def sections(path: Path) -> list[str]:
    """What names its records: a part of a document, a row of the claims, a recipe."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".yaml":
        return [text]
    return text.splitlines() if path.name == "claims.md" else re.split(r"(?=^## )", text, flags=re.MULTILINE)


def traced(path: Path) -> Iterator[tuple[str, str]]:
    """Each number of a document, and what it rests on: fits, or one of KINDS; empty where that is nothing."""
    stated = {
        number: kind for kind in KINDS for entry in figures() if kind in entry and _name(path) in entry["documents"]
        for number in known(_values(entry))
    }  # fmt: skip
    for section in sections(path):
        tables, rest = [m[2] for m in MARK.finditer(section)], MARK.sub("", section)
        fits = {number for table in tables for number in known([table.replace("**", "")])}
        for name in (each.stem for each in RECORDS.glob("*.json*")):
            if re.search(rf"(?<![\w-]){name}(?![\w-])" if "-" in name else rf"results/{name}\.", section):
                fits |= printed(name)
        options = [each for each in RECIPES if re.search(rf"(?<![\w-]){each.stem}(?![\w-])", section) or each == path]
        code = [*re.findall(r"```sh.*?```|`[^`]+`", section, re.DOTALL), *(each.read_text() for each in options)]
        settings = set(re.findall(r"\d+\.\d+", "\n".join(re.sub(r"^# .*$", "", each, flags=re.M) for each in code)))
        yield from ((number, "fits") for table in tables for number in NUMBER.findall(table))
        for number in numbers(_prose(rest, path)):
            yield number, "fits" if number in fits else stated.get(number, "setting" if number in settings else "")


def _values(entry: Row) -> list[str]:
    return entry["values"] if "values" in entry else list(entry["beside"].values())


def _prose(text: str, path: Path) -> str:
    if path.suffix == ".yaml":
        return "\n".join(re.findall(r"^# (?!torch-dbn)(.*)$", text, re.MULTILINE))
    return re.sub(r"^```\w+\n.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)


@cache
def printed(name: str) -> set[str]:
    """What a record of errors gives for prose: mean ± half-width and mean of each arm in each cell."""
    rows = [row for row in rows_of(name) if "test_error" in row]
    cell = ("arm", "activation", "hidden", "labels", "data")
    means = [mean_interval(errors(each)) for each in grouped(rows, lambda row: str([*map(row.get, cell)])).values()]
    return known(f"{mean:.2f}" if half is None else f"{mean:.2f} ± {half:.2f}" for mean, half in means)


def _mean(values: Sequence[float]) -> float:
    return mean_interval(values).mean


COMPUTED: dict[str, Callable[..., float]] = {
    "mean": _mean,
    "accuracy": lambda a: 100 - _mean(a),
    "ratio": lambda a, b: _mean(a) / _mean(b),
    "difference": lambda a, b: _mean(a) - _mean(b),
    "greatest difference": lambda a, b: max(x - y for x, y in zip(a, b, strict=True)),
    "p": paired_t_test,
}
"""What `computed` may be of the errors of the fits that each entry of `of` names: record, arm, KEY=VALUE."""


def selected(text: str) -> list[float]:
    """Test errors by seed of "RECORD ARM KEY=VALUE …"."""
    name, arm, *keys = text.split()
    wanted = [each.split("=") for each in keys]
    rows = [row for row in rows_of(name) if row["arm"] == arm and all(str(row[k]) == v for k, v in wanted)]
    (group,) = grouped(rows, lambda row: str((row.get("hidden"), row.get("labels")))).values()
    return errors(group)


def stale_figures() -> Iterator[str]:
    """Entries of figures.yaml that no document has any more, or that are not what they say is computed."""
    for entry in figures():
        there = {n for name in entry["documents"] for n in known([(ROOT / name).read_text(encoding="utf-8")])}
        yield from (
            f"figures.yaml: {number} ({entry['what']}) is in none of its documents"
            for value in _values(entry)
            for number in numbers(value)
            if number not in there
        )
        for value, fits in zip(entry["values"], entry["of"], strict=True) if "computed" in entry else ():
            digits = len(value.rpartition(".")[2])
            if value.split()[-1] != (made := f"{COMPUTED[entry['computed']](*map(selected, fits)):.{digits}f}"):
                yield f"figures.yaml: {value} ({entry['what']}) is {made}"


if __name__ == "__main__":
    run_script(main, ResultsConfig, __doc__)
