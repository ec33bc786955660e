"""Each example of docs/how-to/trackers.md, where its package is installed."""

from pathlib import Path
from typing import Any

import pytest
from documents import ROOT, blocks

PAGE = ROOT / "docs" / "how-to" / "trackers.md"


@pytest.mark.parametrize("name", ["wandb", "mlflow", "trackio", "optuna"])
@pytest.mark.filterwarnings("ignore")  # of packages that are none of ours
def test_an_example_runs(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    first, *examples = blocks(PAGE, "python")
    place = next(n for n, block in enumerate(examples) if f"import {name}\n" in block)
    pytest.importorskip(name, reason=f"{name} is not installed: the example is not run")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    names: dict[str, Any] = {"__name__": "document"}
    of_it = examples[place : None if name == "optuna" else place + 1]
    for block in (first, *of_it):
        exec(compile(block, str(PAGE), "exec"), names)
