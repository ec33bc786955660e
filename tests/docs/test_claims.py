"""What the documents claim has a test, a record or a command."""

import ast
import re

import pytest
from documents import COMMAND, ROOT, text_of

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


@pytest.mark.parametrize("name", re.findall(r"\]\(results/([\w.-]+)\)", text_of(CLAIMS)))
def test_a_record_that_is_named_exists(name: str) -> None:
    assert (CLAIMS.parent / "results" / name).is_file()
