"""Weighted means over the rows that are scored: whole numbers are repeated rows."""

import pandas
import pytest
import torch
from tiny import stack

import dbn
from dbn.data.cut import splits_from_arrays
from dbn.errors import InputError
from dbn.evaluation.log_partitions import _by_weight
from dbn.likelihood import log_likelihood, log_partition, pseudo_log_likelihood
from dbn.models.rbm import RBM

N = 30
X = (torch.rand(N, 9, generator=torch.Generator().manual_seed(0)) < torch.linspace(0.1, 0.9, N)[:, None]).float()
TIMES = torch.arange(N) // 3 + 1  # the more bits are set, the greater


def rbm() -> RBM:
    return stack(sizes=(9, 5)).layers[0]


def test_the_mean_is_that_of_repeated_rows() -> None:
    model = rbm()
    found = dbn.evaluate(model, X, exact=True, sample_weight=TIMES)
    several = dbn.evaluate(model, X.repeat_interleave(TIMES, 0), exact=True)
    each = log_likelihood(model, X, log_partition(model)).double()
    wanted = float((TIMES * each).sum() / TIMES.sum())
    assert found.test_log_likelihood == pytest.approx(wanted, abs=1e-5)
    assert found.test_log_likelihood == pytest.approx(several.test_log_likelihood, abs=1e-6)
    assert found.test_log_likelihood != pytest.approx(float(each.mean()), abs=1e-2)
    numbers = found.to_dict()
    pseudo = (TIMES * pseudo_log_likelihood(model, X)).sum() / TIMES.sum()
    assert numbers["pseudo_likelihood"]["mean"] == pytest.approx(float(pseudo), abs=1e-4)
    error = ((TIMES * (each - wanted)).square().sum() * N / (N - 1)).sqrt() / TIMES.sum()
    assert numbers["parts"]["test"]["layers"][0]["standard_error"] == pytest.approx(float(error), rel=1e-4)
    assert "They count by their weights." in numbers["origin"][0]


def test_bounds_gains_and_the_base_of_ais_are_weighted() -> None:
    model = stack(sizes=(9, 5, 4))
    model.layers[0].visible.bias += 1.0
    options = {"ais": 300, "chains": 200, "sample_weight": TIMES}
    found = dbn.evaluate(model, X, **options).to_dict()  # type: ignore[arg-type]
    several = dbn.evaluate(model, X.repeat_interleave(TIMES, 0), ais=300, chains=200).to_dict()
    # The bounds draw hidden units, so they agree up to 4 standard errors.
    for mine, theirs in zip(found["parts"]["test"]["layers"], several["parts"]["test"]["layers"], strict=True):
        assert mine["mean"] == pytest.approx(theirs["mean"], abs=4 * theirs["standard_error"] + 0.05)
    plain = dbn.evaluate(model, X, ais=300, chains=200).to_dict()["parts"]["test"]["layers"][0]["mean"]
    first = found["parts"]["test"]["layers"][0]["mean"]
    assert first == pytest.approx(several["parts"]["test"]["layers"][0]["mean"], abs=0.05)
    assert abs(first - plain) > 0.2


def test_weights_belong_to_the_test_rows() -> None:
    found = dbn.evaluate(rbm(), X, X[:11], exact=True, sample_weight=TIMES)
    assert found.test_log_likelihood == dbn.evaluate(rbm(), X, exact=True, sample_weight=TIMES).test_log_likelihood
    with pytest.raises(InputError, match=r"sample_weight has shape \(29,\), but one weight a row is needed"):
        dbn.evaluate(rbm(), X, X[:11], exact=True, sample_weight=TIMES[1:])
    frame = pandas.DataFrame(X.numpy()).rename(columns=str).assign(w=TIMES.numpy())
    assert dbn.evaluate(rbm(), frame, exact=True, sample_weight="w").to_dict() == dbn.evaluate(
        rbm(), frame.drop(columns="w"), exact=True, sample_weight=TIMES
    ).to_dict() | {"origin": ["Test rows: the 30 of the given data set. They count by their weights."]}


def test_a_row_of_weight_0_is_not_scored() -> None:
    times = TIMES * (torch.arange(N) > 3)
    found, wanted = (dbn.evaluate(rbm(), x, exact=True, sample_weight=w) for x, w in ((X, times), (X[4:], times[4:])))
    assert found.to_dict() == wanted.to_dict()


def test_rows_are_drawn_in_proportion_to_their_weights() -> None:
    drawn = _by_weight(torch.tensor([1.0, 0.0, 3.0]), 4000, torch.Generator().manual_seed(0))
    counts = torch.bincount(drawn, minlength=3)
    assert counts[1] == 0
    assert abs(int(counts[0]) - 1000) < 4 * (4000 * 0.25 * 0.75) ** 0.5


def test_training_measures_the_weighted_likelihood() -> None:
    """By the quick estimate of the last epoch, whose Z the exact one takes the place of."""
    options = {"hidden": [4], "epochs": 1, "batch_size": 30, "binarize": "threshold", "likelihood_every": 1}
    found = dbn.pretrain(X, sample_weight=TIMES, **options)  # type: ignore[arg-type]
    last, model = found.history[-1], found.layers[0]
    train = splits_from_arrays(X, sample_weight=TIMES).train
    assert train.weights is not None
    energy = (train.weights * model.free_energy(train.tensor)).sum() / train.weights.sum()
    assert last["log_likelihood"] == pytest.approx(float(-energy) - last["log_z"], abs=1e-4)


def test_training_rows_may_lack_the_column() -> None:
    rows = pandas.DataFrame(X.numpy(), columns=list("abcdefghi"))
    test = rows.assign(w=TIMES.numpy())[[*"ihgfedcba", "w"]]
    found = dbn.evaluate(rbm(), test, rows, exact=True, sample_weight="w")
    wanted = dbn.evaluate(rbm(), X, X, exact=True, sample_weight=TIMES)
    assert found.test_log_likelihood == pytest.approx(wanted.test_log_likelihood, abs=1e-6)
    with pytest.raises(InputError, match="test has no column 'v', only 'i', "):
        dbn.evaluate(rbm(), test, rows, exact=True, sample_weight="v")
