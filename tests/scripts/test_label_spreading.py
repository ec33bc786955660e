"""The script against scikit-learn's LabelSpreading on the same graph, and on rows whose form tells their class."""

import json
from pathlib import Path

import numpy as np
import pytest
from tiny import save_pictures

from dbn.cli.command_line import run_script

SCRIPTS = Path(__file__).parents[2] / "scripts"
with pytest.MonkeyPatch.context() as patch:
    patch.syspath_prepend(SCRIPTS)
    import label_spreading

pytest.importorskip("sklearn", reason="scikit-learn is not installed")


def call(words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["label_spreading.py", *words.split()])
    monkeypatch.syspath_prepend(SCRIPTS)
    run_script(label_spreading.main, label_spreading.SpreadingConfig, "")


def test_it_spreads_as_scikit_learn_does() -> None:
    from sklearn.semi_supervised import LabelSpreading

    random = np.random.default_rng(0)
    x = random.normal(size=(60, 3)) + 2.0 * (np.arange(60) % 2)[:, None]
    labeled, y = np.array([0, 1, 2, 3]), np.array([0, 1, 0, 1])
    squares = ((x[:, None] - x) ** 2).sum(2)
    near = np.argsort(squares, 1)[:, 1:6]
    pairs = np.take_along_axis(squares, near, 1)
    graph = np.zeros((60, 60))
    np.put_along_axis(graph, near, np.exp(-pairs / pairs.mean()), 1)
    graph = np.maximum(graph, graph.T)
    marks = np.full(60, -1)
    marks[labeled] = y
    theirs = LabelSpreading(kernel=lambda *_: graph, alpha=0.9, max_iter=1000, tol=1e-12).fit(x, marks)
    ours = label_spreading.spread_labels(near, pairs, labeled, y, 2, 0.9)
    # Theirs are normalized row by row, ours class by class: undo both.
    step = graph / np.sqrt(np.outer(graph.sum(1), graph.sum(1)))
    given = np.zeros((60, 2))
    given[labeled, y] = 1
    exact = 0.1 * np.linalg.solve(np.eye(60) - 0.9 * step, given)
    np.testing.assert_allclose(ours, exact / exact.sum(0), rtol=1e-5)
    np.testing.assert_allclose(theirs.label_distributions_, exact / exact.sum(1, keepdims=True), rtol=1e-5)


def test_the_best_of_each_seed_is_tested(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file, output = save_pictures(tmp_path / "tiny.npz", n=300), tmp_path / "spread.jsonl"
    call(f"--dataset {file} --labels 6 12 --valid-labels 12 --seeds 2 --seed 3 --output {output}", monkeypatch)
    found = [json.loads(line) for line in output.read_text().splitlines()]
    assert [(each["labels"], each["seed"]) for each in found] == [(6, 3), (6, 4), (12, 3), (12, 4)]
    assert all(each["arm"] == "label spreading" and each["test_error"] < 20 for each in found)  # chance is 67
    mean = np.mean([each["test_error"] for each in found[:2]])
    assert f"6 labels: label spreading, test error {mean:.2f} ± " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("--alpha 1", "--alpha must be between 0 and 1"),
        ("--labels 5", "--labels 5 is fewer than the 10 classes"),
        ("--dataset digits --neighbors 9999", "--neighbors 9999 is not below the 1,295 training rows"),
    ],
)
def test_bad_input(
    words: str, sentence: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        call(words, monkeypatch)
    assert ended.value.code == 2
    assert sentence in capsys.readouterr().err
