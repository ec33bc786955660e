"""The script against scikit-learn's own kernel, on the rows that a comparison draws under the same seed."""

import json
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import save_pictures

from dbn.cli.command_line import run_script
from dbn.config.finetuning import Finetuning
from dbn.data.datasets import load_splits
from dbn.data.examples import labels_of
from dbn.finetuning.problem import Problem
from dbn.models.scaling import Scaling

SCRIPTS = Path(__file__).parents[2] / "scripts"
with pytest.MonkeyPatch.context() as patch:
    patch.syspath_prepend(SCRIPTS)
    import svm

pytest.importorskip("sklearn", reason="scikit-learn is not installed")
C, GAMMA = (0.1, 1.0), (0.1, 3.0)


def call(words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["svm.py", *words.split()])
    run_script(svm.main, svm.SvmConfig, "")


def test_distances() -> None:
    a, b = torch.rand(7, 5), torch.rand(4, 5)
    torch.testing.assert_close(svm.squared_distances(a, b), torch.cdist(a, b).square())


def test_it_is_the_best_machine_of_scikit_learn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from sklearn.svm import SVC

    file, output = save_pictures(tmp_path / "tiny.npz", n=300), tmp_path / "svm.json"
    options = "--labels 30 --valid-labels 12 --seeds 2 --seed 3 --c 0.1 1 --gamma 0.1 3"
    call(f"--dataset {file} {options} --output {output}", monkeypatch)
    splits = load_splits(str(file))
    drawn = Finetuning(init=("he_normal",), labels=30, valid_labels=12, seeds=2, seed=3)
    problem = Problem(splits, Scaling(splits.divisor), (1,), (), drawn)
    errors = []
    for seed in (3, 4):
        parts = (*problem.labeled(seed), problem.test)
        (x, y), (x_valid, y_valid), (x_test, y_test) = (
            (problem.scaling(part.x).double().numpy(), labels_of(part).numpy()) for part in parts
        )
        pairs = [((a - b) ** 2).sum() for a in x for b in x]
        found = []
        for gamma, c in product(GAMMA, C):
            machine = SVC(C=c, gamma=gamma / np.mean(pairs)).fit(x, y)
            wrong = (machine.predict(x_valid) != y_valid).mean()
            found.append((wrong, 100 * (machine.predict(x_test) != y_test).mean()))
        errors.append(min(found, key=lambda each: each[0])[1])
    report = json.loads(output.read_text())
    assert report["test_error"] == pytest.approx(errors)
    assert [each["seed"] for each in report["seeds"]] == [3, 4]
    assert f"RBF-SVM test error {np.mean(errors):.2f} ± " in capsys.readouterr().out
    assert max(errors) < 60  # chance is 67


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("--c 0", "--c must be a number above 0"),
        ("--gamma -1", "--gamma must be a number above 0"),
        ("--output nowhere/svm.json", "--output nowhere/svm.json cannot be written"),
        ("--labels 5", "--labels 5 is fewer than the 10 classes"),
        ("--dataset nothing", "there is no data set 'nothing'"),
    ],
)
def test_bad_input(
    words: str, sentence: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        call(words, monkeypatch)
    out, err = capsys.readouterr()
    assert (stop.value.code, out) == (2, "")
    assert sentence in err
    assert err.count("\n") == 1
