"""The notebooks run, and are stored without outputs."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from documents import ROOT

NOTEBOOKS = sorted((ROOT / "docs" / "notebooks").glob("*.ipynb"))
QUICK = "first-steps"
"""Runs in this process among the ordinary tests."""
each = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def cells(path: Path, kind: str = "code") -> list[dict[str, Any]]:
    found = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return [cell for cell in found if cell["cell_type"] == kind]


def test_there_are_three() -> None:
    assert [path.stem for path in NOTEBOOKS] == ["a-likelihood-to-trust", "does-pretraining-help", "first-steps"]


@each
def test_a_notebook_is_small_and_has_no_outputs(path: Path) -> None:
    assert path.stat().st_size < 20_000
    assert [cell for cell in cells(path) if cell["outputs"] or cell["execution_count"]] == []
    text = "\n".join("".join(cell["source"]) for cell in [*cells(path), *cells(path, "markdown")])
    assert not re.search(r"https?://|/work\b|/tmp\b|/home/", text)


@pytest.mark.parametrize("path", [path for path in NOTEBOOKS if path.stem == QUICK], ids=lambda path: path.stem)
def test_the_cells_of_a_notebook_run(path: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"__name__": "notebook"}
    for cell in cells(path):
        exec(compile("".join(cell["source"]).replace("epochs=5", "epochs=1"), str(path), "exec"), names)
    assert names["features"].shape == (2000, 64)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@each
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")  # of the kernel's client
def test_a_notebook_runs_in_a_kernel_of_its_own(path: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
