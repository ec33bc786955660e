"""The script that measures estimators, and the tables of its records in the documents."""

import json
from pathlib import Path

import pytest
from tiny import pictures

from dbn.cli.command_line import run_script

ROOT = Path(__file__).parents[2]
with pytest.MonkeyPatch.context() as patch:
    patch.syspath_prepend(ROOT / "scripts")
    import estimators


def test_only_what_the_output_lacks_is_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    x = (pictures()[0].reshape(-1, 36) > 127).astype("uint8")
    monkeypatch.setattr(estimators, "rows_of", lambda name, config: (x, x[:20]))
    monkeypatch.setattr(estimators, "FIELD", {"0.1": {"learning_rate": 0.1, "momentum": 0.0}})
    seen = []
    for seeds in (1, 2, 2):
        words = ["estimators.py", "--seeds", str(seeds), "--output", str(tmp_path / "records.jsonl")]
        monkeypatch.setattr("sys.argv", words)
        run_script(estimators.main, estimators.EstimatorsConfig, "")
        seen.append((tmp_path / "records.jsonl").read_text().splitlines())
    assert [len(lines) for lines in seen] == [3, 6, 6]
    records = list(map(json.loads, seen[-1]))
    fresh, lagged = ([r["test_log_likelihood"] for r in records if r["arm"] == arm] for arm in ("fresh", "lagged"))
    difference = (fresh[0] - lagged[0] + fresh[1] - lagged[1]) / 2
    assert f"| {sum(fresh) / 2:.2f} " in (table := capsys.readouterr().out)
    assert f"{difference:.2f} ±" in table


@pytest.mark.parametrize(("study", "record"), [("field", "hidden-field"), ("defaults", "estimator-defaults")])
def test_the_tables_of_the_document_are_those_of_the_records(study: str, record: str) -> None:
    lines = (ROOT / "docs" / "results" / f"{record}.jsonl").read_text().splitlines()
    table = estimators.TABLES[study](list(map(json.loads, lines)))
    assert table in (ROOT / "docs" / "likelihood.md").read_text(encoding="utf-8")
