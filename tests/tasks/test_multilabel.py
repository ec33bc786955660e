"""Several labels at once, against scikit-learn's scores."""

from typing import Any

import numpy as np
import pytest
import torch
from sklearn import metrics as sklearn
from torch.testing import assert_close

import dbn
from dbn.errors import InputError
from dbn.tasks.multilabel import Multilabel

QUICK: dict[str, Any] = {"task": "multilabel", "hidden": [8], "seeds": 2, "epochs": 60, "learning_rate": 0.1}


def rows(n: int = 120) -> tuple[Any, Any]:
    x = np.random.default_rng(3).random((n, 3)).astype(np.float32)
    return x, np.stack([x[:, 0] > 0.5, x[:, 1] > 0.7], 1)


def test_scores_are_those_of_scikit_learn() -> None:
    generator = torch.Generator().manual_seed(1)
    outputs = torch.randn(40, 3, generator=generator)
    y = (torch.rand(40, 3, generator=generator) < 0.4).double()
    task = Multilabel(["a", "b", "c"])
    found, predicted = task.scores(outputs, y), task.answers(outputs)
    assert found.error == pytest.approx(100 * sklearn.hamming_loss(y, predicted))
    assert found.exact_error == pytest.approx(100 * (1 - sklearn.accuracy_score(y, predicted)))
    assert found.figures()["macro_f1"] == pytest.approx(sklearn.f1_score(y, predicted, average="macro"))
    losses = [sklearn.log_loss(y[:, place], task.probabilities(outputs)[:, place]) for place in range(3)]
    assert found.log_loss == pytest.approx(sum(losses), rel=1e-5)
    assert_close(task.loss(outputs, y.float(), "sum"), 40 * task.loss(outputs, y.float()))


def test_labels_that_columns_decide_are_learned() -> None:
    x, y = rows()
    found = dbn.compare(x, y, ["he_normal"], **QUICK)
    assert found.arms["he_normal"]["mean"] < 12  # by chance about 40
    best = found.best()
    probabilities = best.predict_proba(x)
    assert torch.equal(best.predict(x), (probabilities > 0.5).long())
    assert (best.predict(x).numpy() == y).mean() > 0.88
    assert "exact %" in found.table()


def test_what_is_no_label_is_refused() -> None:
    x, y = rows()
    wrong = y.astype(int)
    wrong[5, 1] = 2
    with pytest.raises(InputError, match=r"y holds 2 in row 5, column 1 .* task='multilabel'"):
        dbn.compare(x, wrong, ["he_normal"], **QUICK)
    with pytest.raises(InputError, match=r"say task='regress' for numbers and task='multilabel'"):
        dbn.compare(x, y, ["he_normal"], hidden=[3])
