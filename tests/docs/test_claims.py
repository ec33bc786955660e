"""What the documents claim has a test, a record or a command, and figures of tables are those of the records."""

import ast
import json
import re
from collections import defaultdict
from pathlib import Path

import pytest
from documents import COMMAND, ROOT, text_of

from dbn.statistics import mean_interval

CLAIMS = ROOT / "docs" / "claims.md"
ROWS = [re.split(r" ?\| ?", line.strip("| ")) for line in text_of(CLAIMS).splitlines() if line.startswith("| ")]
ROWS = [row for row in ROWS if row[0] != "claim"]
RECORDS = sorted((ROOT / "docs" / "results").glob("*.json*"))
TESTS = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", text_of(CLAIMS))


def test_there_is_something_to_test() -> None:
    assert len(ROWS) > 35
    assert len(TESTS) > 40
    assert len(RECORDS) > 20


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0][:60])
def test_a_claim_has_a_proof_or_is_measured_by_a_command(row: list[str]) -> None:
    proof, command = (*row[1:], "", "")[:2]
    if "tests/" in proof or "](results/" in proof:
        return
    assert proof.startswith("measured")
    assert command
    assert all(COMMAND.match(each) for each in re.findall("`([^`]+)`", command))


@pytest.mark.parametrize(("file", "name"), TESTS)
def test_a_test_that_is_named_exists(file: str, name: str) -> None:
    tree = ast.parse(text_of(ROOT / file))
    assert name in {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


def figures(path: Path) -> dict[str, set[str]]:
    """By arm: mean ± half-width over the seeds of each group of a record, as text."""
    groups: dict[tuple[str, ...], list[float]] = defaultdict(list)
    if path.suffix == ".jsonl":
        for line in text_of(path).splitlines():
            record = json.loads(line)
            if "test_error" not in record:
                continue
            key = record["arm"], record["activation"], str(record["hidden"]), str(record["labels"])
            groups[key].append(record["test_error"])
    else:
        record = json.loads(text_of(path))
        for arm, values in record.get("arms", {"RBF-SVM": record}).items():
            groups[(arm,)] = values["test_error"]
    found: dict[str, set[str]] = defaultdict(set)
    for (arm, *_), values in groups.items():
        mean, half_width = mean_interval(values)
        found[arm].add(f"{mean:.2f}" if half_width is None else f"{mean:.2f} ± {half_width:.2f}")
    return found


FIGURE = r"\d+\.\d\d ± \d+\.\d\d"


def test_the_figures_of_the_tables_of_results_are_those_of_the_records() -> None:
    found: dict[str, set[str]] = defaultdict(set)
    for path in RECORDS:
        for arm, texts in figures(path).items():
            found[arm] |= texts
    text = re.sub(r"## Without dropout.*?(?=\n## )", "", text_of(ROOT / "docs" / "results.md"), flags=re.DOTALL)
    checked = 0
    for line in text.splitlines():
        if line.startswith(("| `", "| RBF-SVM")):
            arm = line.split("|")[1].replace("(reference)", "").strip(" `").split(",")[0].split(" (")[0]
            named = set(re.findall(FIGURE, line))
            assert named <= found[arm], arm
            checked += len(named)
    assert checked > 150


def test_the_figures_of_claims_are_those_of_their_records() -> None:
    checked = 0
    for line in text_of(CLAIMS).splitlines():
        records = re.findall(r"\]\(results/([\w.-]+)\)", line)
        assert all((CLAIMS.parent / "results" / name).is_file() for name in records)
        if records:
            known = {
                text
                for name in records
                for texts in figures(CLAIMS.parent / "results" / name).values()
                for text in texts
            }
            named = set(re.findall(FIGURE, line.split("|")[1]))
            assert named <= known
            checked += len(named)
    assert checked >= 12
