"""--weight-column from pre-training to predictions: the weights count, and are no column of any model."""

import json
import sys
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pandas
import pytest
import torch

import dbn
from dbn.cli.program import main
from dbn.errors import InputError
from dbn.likelihood import log_likelihood, log_partition
from dbn.runs.training_data import splits_of

N = 80
RNG = np.random.default_rng(0)
TABLE = pandas.DataFrame((RNG.random((N, 5)) < 0.4).astype(int), columns=list("abcde"))
TABLE.insert(1, "w", np.where(TABLE["a"] > 0, 5.0, 0.5))
TABLE["y"] = np.arange(N) % 2
NAMED = ("--label-column", "y", "--weight-column", "w")


def call(*words: Any) -> None:
    with mock.patch.object(sys, "argv", ["torch-dbn", *map(str, words)]):
        main()


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    TABLE.to_csv("t.csv", index=False)
    TABLE.drop(columns="y").to_csv("new.csv", index=False)
    call("pretrain", "--dataset", "t.csv", *NAMED, "--hidden", 4, "--epochs", 20, "--batch-size", 10, "--run", "run")
    return Path("run")


def test_all_commands_agree_on_the_column(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As 'a' is 1 in about nine tenths of the weight, it is in the samples; no command takes 'w' for a value."""
    stack = dbn.load(run)
    assert stack.sizes == [5, 4]
    assert TABLE["a"].mean() < 0.5
    assert float(stack.sample(200, steps=50, seed=0)[:, 0].mean()) > 0.7

    call("evaluate", "--run", run, "--exact")
    found = json.loads((run / "result.json").read_text())
    train = splits_of(run).train
    assert train.weights is not None
    each = log_likelihood(stack.layers[0], train.tensor, log_partition(stack.layers[0]))
    wanted = float((each * train.weights).sum() / train.weights.sum())
    assert found["parts"]["train"]["layers"][0]["mean"] == pytest.approx(wanted, abs=1e-4)
    call("evaluate", "--run", run, "--exact", "--data", "new.csv", "--weight-column", "w")
    assert "Test rows: the 80 of new.csv. They count by their weights." in capsys.readouterr().out
    call("evaluate", "--run", run, "--exact", "--data", "new.csv")
    assert "new.csv: the column 'w', of weights in training, is left out." in capsys.readouterr().out

    call("features", "--run", run, "--data", "new.csv", "--output", "features.npy")
    x = torch.tensor(TABLE[list("abcde")].to_numpy(), dtype=torch.float32)
    assert np.allclose(np.load("features.npy"), stack.up(x))
    few = ("--epochs", 2, "--seeds", 2, "--labels", 20, "--learning-rate", 0.1)
    call("finetune", "--pretrained", run, "--run", "tuned", *few)
    assert "fine-tuning counts all rows alike, whatever their weights" in "".join(capsys.readouterr())
    call("finetune", "--pretrained", run, "--run", "again", "--dataset", "t.csv", "--label-column", "y", *few)
    arms = [json.loads(Path(each, "result.json").read_text())["arms"]["dbn"] for each in ("tuned", "again")]
    assert arms[0]["test_error"] == arms[1]["test_error"]
    call("predict", "--run", "tuned", "--data", "new.csv", "--output", "predicted.csv")
    assert len(pandas.read_csv("predicted.csv")) == N


def test_a_label_model_counts_by_the_column(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    call("label-model", "--dataset", "t.csv", *NAMED, "--hidden", 4, "--epochs", 2, "--run", "labels")
    assert "weighted by 'w'; values are" in capsys.readouterr().out
    call("predict", "--run", "labels", "--data", "new.csv", "--output", "predicted.csv")
    assert len(pandas.read_csv("predicted.csv")) == N


def test_bad_weights_end_with_status_2(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    TABLE.assign(w=-TABLE["w"]).to_csv("t.csv", index=False)
    with pytest.raises(SystemExit, match="2"):
        call("pretrain", "--dataset", "t.csv", *NAMED, "--run", "other")
    said = capsys.readouterr().err
    assert "t.csv, line 2, column 'w' holds -0.5, but weights are numbers of at least 0" in said
    assert not Path("other").exists()


def test_a_run_is_not_resumed_with_other_weights(run: Path) -> None:
    TABLE.assign(w=TABLE["w"] + 1).to_csv("t.csv", index=False)
    with pytest.raises(InputError, match="holds other examples than run was pre-trained on"):
        splits_of(run)


def test_a_table_of_categories_leaves_the_column_out_wherever_it_stands() -> None:
    table = TABLE.drop(columns="y").assign(kind=np.array(["x", "y"])[np.arange(N) % 2])
    stack = dbn.pretrain(table, hidden=[3], epochs=1, visible="auto", sample_weight="w")
    others = [each for each in table.columns if each != "w"]
    wanted = stack.up(table[others])
    assert torch.equal(stack.up(table), wanted)
    assert torch.equal(stack.up(table[["kind", "w", *others[-2::-1]]]), wanted)
    with pytest.raises(InputError, match="x has the column '' that the stack was not trained on"):
        dbn.pretrain(table[others], hidden=[3], epochs=1, visible="auto").up(table[others].assign(**{"": 1.0}))
