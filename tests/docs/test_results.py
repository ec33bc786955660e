"""Tables of results are those that scripts/results.py makes of the records, and every other number has a record."""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path

import pytest
from documents import RECIPES, ROOT, name_of, text_of

from dbn.cli.command_line import run_script
from dbn.errors import InputError
from dbn.statistics import mean_interval, paired_t_test

with pytest.MonkeyPatch.context() as patch:
    patch.syspath_prepend(ROOT / "scripts")
    import results
    from results import DOCUMENTS, MARK, RECORDS, Row, figures, grouped, rows_of, written

NUMBER = re.compile(
    r"-?\d[\d,]*(?:\.\d+)? ± \d+(?:\.\d+)?|p [=<] 0\.\d+|(?<![\w.:])-?\d[\d,]*\.\d+(?!\w|\.\d)"
    r"|(?<![\w.])\d[\d,]*(?= (?:%|nats|ms|s|min|h|MB|points)(?!\w|\.e))|\d+(?= →)"
)
"""a ± b, p = c, what has a decimal point, whole numbers with a unit."""
KINDS = ("computed", "measured", "published", "setting")
"""What an entry of figures.yaml rests on, as the head of that file says."""
PATHS = [*DOCUMENTS, *RECIPES.values()]


def numbers(text: str) -> list[str]:
    """The numbers of a text, with ASCII minus signs; not those of its `code`, and not the level of its intervals."""
    text = re.sub(r"\]\([^)\s]*\)|`[^`]*`", "]", re.sub(r"^```.*?$", "", text, flags=re.MULTILINE))
    return NUMBER.findall(re.sub(r"\s+", " ", text.replace("−", "-")).replace("95 %", ""))


def known(values: Iterable[str]) -> set[str]:
    """Numbers that may be quoted: a mean also without its interval."""
    return {each for value in values for number in numbers(value) for each in (number, number.partition(" ± ")[0])}


def sections(path: Path) -> list[str]:
    """What names its records: a part of a document, a row of the claims, a recipe."""
    text = text_of(path)
    if path.suffix == ".yaml":
        return [text]
    return text.splitlines() if path.name == "claims.md" else re.split(r"(?=^## )", text, flags=re.MULTILINE)


def names(section: str, name: str) -> bool:
    """Whether it names a record or a recipe; one of a single word only by its file."""
    return bool(re.search(rf"(?<![\w-]){name}(?![\w-])" if "-" in name else rf"results/{name}\.", section))


def traced(path: Path) -> Iterator[tuple[str, str]]:
    """Each number of a document, and what it rests on: fits, or one of KINDS; empty where that is nothing."""
    stated = {
        number: kind for kind in KINDS for entry in figures() if kind in entry and name_of(path) in entry["documents"]
        for number in known(values_of(entry))
    }  # fmt: skip
    beside = known(value for entry in figures() if "beside" in entry for value in values_of(entry))
    for section in sections(path):
        tables, rest = [m[2] for m in MARK.finditer(section)], MARK.sub("", section)
        fits = {number for table in tables for number in known([table.replace("**", "")])}
        for name in (each.stem for each in RECORDS.glob("*.json*")):
            if names(section, name):
                fits |= printed(name)
        code = re.findall(r"```sh.*?```|`[^`]+`", section, re.DOTALL)
        code += [text_of(recipe) for name, recipe in RECIPES.items() if names(section, name) or recipe == path]
        settings = set(re.findall(r"\d+\.\d+", "\n".join(re.sub(r"^# .*$", "", each, flags=re.M) for each in code)))
        yield from (
            (each, "published" if each in beside else "fits") for table in tables for each in NUMBER.findall(table)
        )
        for number in numbers(numbered_text(rest, path)):
            yield number, "fits" if number in fits else stated.get(number, "setting" if number in settings else "")


def values_of(entry: Row) -> list[str]:
    return entry["values"] if "values" in entry else list(entry["beside"].values())


def numbered_text(text: str, path: Path) -> str:
    if path.suffix == ".yaml":
        return "\n".join(re.findall(r"^# (?!torch-dbn)(.*)$", text, re.MULTILINE))
    return re.sub(r"^```\w+\n.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)


@cache
def printed(name: str) -> set[str]:
    """What a record of errors gives for prose: mean ± half-width and mean of each arm in each cell."""
    rows = [row for row in rows_of(name) if "test_error" in row]
    cell = ("arm", "activation", "hidden", "labels", "data")
    means = [
        mean_interval([row["test_error"] for row in each])
        for each in grouped(rows, lambda row: str([*map(row.get, cell)])).values()
    ]
    return known(f"{mean:.2f}" if half is None else f"{mean:.2f} ± {half:.2f}" for mean, half in means)


def mean_of(values: Sequence[float]) -> float:
    return mean_interval(values).mean


COMPUTED: dict[str, Callable[..., float]] = {
    "mean": mean_of,
    "accuracy": lambda a: 100 - mean_of(a),
    "ratio": lambda a, b: mean_of(a) / mean_of(b),
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
    return [row["test_error"] for row in group]


@pytest.mark.parametrize("path", DOCUMENTS, ids=name_of)
def test_the_tables_are_those_of_the_records(path: Path) -> None:
    assert written(text_of(path)) == text_of(path), "run python scripts/results.py"


@pytest.mark.parametrize("path", PATHS, ids=name_of)
def test_every_number_has_a_record(path: Path) -> None:
    assert [number for number, kind in traced(path) if not kind] == []


def test_there_is_something_to_test() -> None:
    kinds = Counter(kind for path in PATHS for _, kind in traced(path))
    assert kinds["fits"] > 350
    assert kinds["measured"] > 200
    assert kinds["published"] > 10
    assert sum(len(MARK.findall(text_of(path))) for path in DOCUMENTS) > 15


@pytest.mark.parametrize("entry", figures(), ids=lambda entry: entry["what"][:60])
def test_a_figure_says_what_it_rests_on_and_is_used(entry: Row) -> None:
    (kind,) = {*KINDS} & {*entry}
    assert entry[kind]
    used = {number for name in entry["documents"] for number in known([text_of(ROOT / name)])}
    assert [number for value in values_of(entry) for number in numbers(value) if number not in used] == []
    if kind == "computed":
        for value, fits in zip(entry["values"], entry["of"], strict=True):
            computed, digits = COMPUTED[entry[kind]](*map(selected, fits)), len(value.rpartition(".")[2])
            assert value.removeprefix("p = ") == f"{computed:.{digits}f}"


def test_a_number_without_a_record_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Each of the forms, among numbers that have one and code that needs none."""
    page = tmp_path / "docs" / "page.md"
    page.parent.mkdir()
    page.write_text(
        "## Few labels\n\n`study-labels` makes 16.18 ± 0.94, or\n16.19 ± 0.94 % (p = 0.123; −83.4712 nats, 97 %), at "
        "rates of 0.03 and 0.0317.\n\n```sh\npython x.py --c 0.77\n```\n"
    )
    monkeypatch.setattr("documents.ROOT", tmp_path)
    found = [number for number, kind in traced(page) if not kind]
    assert found == ["16.19 ± 0.94", "p = 0.123", "-83.4712", "97", "0.0317"]


def test_a_table_that_is_not_that_of_its_records_is_named_and_written(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "page.md"
    page.write_text("<!-- table: {records: study-all-labels, reference: dbn, rates: true} -->\nold\n<!-- end -->\n")
    monkeypatch.setattr(results, "ROOT", tmp_path)
    monkeypatch.setattr(results, "DOCUMENTS", [page])
    monkeypatch.setattr("sys.argv", ["results.py", "--check"])
    with pytest.raises(SystemExit, match="1"):
        run_script(results.main, results.ResultsConfig, "")
    assert "page.md: a table is not" in capsys.readouterr().out
    assert "old" in text_of(page)
    monkeypatch.setattr("sys.argv", ["results.py"])
    run_script(results.main, results.ResultsConfig, "")
    rows = [row for row in rows_of("study-all-labels") if row["arm"] == "he_normal"]
    mean, half_width = mean_interval([row["test_error"] for row in rows])
    text = re.sub(" +", " ", text_of(page))
    assert f"| `he_normal` | {mean:.2f} ± {half_width:.2f}, p < 0.001 | 0.03 " in text


def test_a_fit_that_is_there_twice_is_refused() -> None:
    with pytest.raises(InputError, match="twice"):
        grouped([{"arm": "dbn", "seed": 0}, {"arm": "dbn", "seed": 0}], lambda row: row["arm"])


def test_arms_under_other_seeds_are_not_paired(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{"arm": arm, "seed": seed, "test_error": 1.0, "diverged": False} for arm, seed in (("a", 0), ("b", 1))]
    monkeypatch.setattr(results, "rows_of", lambda name: rows)
    with pytest.raises(InputError, match="other seeds"):
        results.table_of({"records": "study", "reference": "a"})


def test_rows_that_are_added_to_a_record_are_paired_with_its_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    record = rows_of("study-labels")
    added = [row | {"arm": "new"} for row in record if (row["arm"], row["labels"]) == ("he_normal", 1000)]
    monkeypatch.setattr(results, "rows_of", lambda name: (*record, *added))
    table = results.table_of({"records": "study-labels", "columns": "labels", "reference": "dbn"})
    cells = {
        line.split("|")[1].strip(): [cell.strip() for cell in line.split("|")[2:-1]] for line in table.splitlines()
    }
    assert cells["`new`"] == ["not run", "not run", cells["`he_normal`"][2], "not run", "not run"]
    assert cells["`new`"][2].endswith("p < 0.001")
