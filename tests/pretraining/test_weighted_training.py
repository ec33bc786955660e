"""Weights of rows in training: whole numbers are repeated rows, and the weighted distribution is what is learned."""

from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest
import torch
from sklearn.preprocessing import StandardScaler
from torch import Tensor
from torch.testing import assert_close

import dbn
from dbn.config.pretraining import Pretraining
from dbn.data.cut import splits_from_arrays
from dbn.errors import InputError
from dbn.likelihood import log_partition
from dbn.models.rbm import RBM
from dbn.models.scaling import Scaling
from dbn.models.units.bernoulli import Bernoulli
from dbn.models.values import mean_and_error, mean_of
from dbn.pretraining.layer_data import LayerData, Unlabeled
from dbn.pretraining.metrics import layer_metrics
from dbn.pretraining.stack import new_rbm
from dbn.pretraining.trainer import LayerTrainer
from dbn.training.loop import run_epochs

CPU = torch.device("cpu")
N = 24
TIMES = torch.arange(N) % 4 + 1
X = (torch.rand(N, 5, generator=torch.Generator().manual_seed(0)) * TIMES[:, None] > 1).float()
NUMBERS = torch.randn(N, 3, generator=torch.Generator().manual_seed(1)) + TIMES[:, None]
STATES = torch.tensor(list(product((0.0, 1.0), repeat=4)))


def mean_1(weights: Tensor) -> Tensor:
    return weights / weights.mean(dtype=torch.float32)


def repeated(x: Tensor, times: Tensor = TIMES) -> Tensor:
    return x.repeat_interleave(times, 0)


def trainer(x: Tensor, weights: Tensor | None = None, **options: Any) -> LayerTrainer:
    usual: dict[str, Any] = {"hidden": (4,), "batch_size": len(x), "chains": 20, "estimator": "pcd"}
    config = Pretraining(**usual | options).for_data(*x.shape)
    return LayerTrainer(new_rbm(x.shape[1], 1, config), [], Unlabeled(x, None, Scaling(1.0), weights=weights), config)


def run(made: LayerTrainer, epochs: int) -> None:
    run_epochs(range(1, epochs + 1), made.batches, made.step, lambda *_: False, device=CPU)


def test_moments_and_standardization_are_weighted() -> None:
    layer = LayerData(NUMBERS, Scaling(1.0), (), noise=torch.Generator, weights=mean_1(TIMES))
    several = LayerData(repeated(NUMBERS), Scaling(1.0), (), noise=torch.Generator)
    assert_close(layer.moments(), several.moments())
    scaling = Scaling.fitted(NUMBERS, 1.0, standardized=True, weights=TIMES.double())
    wanted = StandardScaler().fit(NUMBERS.double(), sample_weight=TIMES)
    assert_close(scaling.shift, torch.tensor(wanted.mean_, dtype=torch.float32))
    assert_close(scaling.spread, torch.tensor(wanted.scale_, dtype=torch.float32))


@pytest.mark.parametrize(
    "options",
    [{}, {"estimator": "pt", "temperatures": 3}, {"centered": True, "sparsity_target": 0.2, "sparsity_cost": 0.5}],
)
def test_steps_on_all_rows_are_those_on_repeated_rows(options: dict[str, Any]) -> None:
    """With chains that know the data by the weights alone."""
    one, several = trainer(X, mean_1(TIMES), **options), trainer(repeated(X), **options)
    plain = trainer(X, **options)
    several.rbm.load_state_dict(one.rbm.state_dict())  # whose first biases are smoothed by the number of rows
    plain.rbm.load_state_dict(one.rbm.state_dict())
    for made in (one, several, plain):
        run(made, 5)
    assert_close(one.rbm.state_dict(), several.rbm.state_dict(), rtol=1e-4, atol=1e-5)
    assert (one.rbm.visible.bias - plain.rbm.visible.bias).abs().max() > 1e-3


def test_metrics_are_weighted() -> None:
    """With hidden units that are certain, so that nothing is drawn."""
    rbm = RBM(Bernoulli(5), Bernoulli(4))
    with torch.no_grad():
        rbm.weight.normal_(generator=torch.Generator().manual_seed(0)).mul_(0.5)
        rbm.hidden.bias.copy_(torch.tensor([60.0, -60.0, 60.0, -60.0]))
    valid, times = X[:7], TIMES[5:12]
    weights = (TIMES.float(), times.float())
    found = layer_metrics(rbm, X, valid, torch.Generator(), weights)
    wanted = layer_metrics(rbm, repeated(X), repeated(valid, times), torch.Generator())
    assert found == pytest.approx(wanted, rel=1e-4)
    assert found["kl"] != pytest.approx(layer_metrics(rbm, X, valid, torch.Generator())["kl"], rel=1e-3)


def test_the_standard_error_takes_a_row_for_one_observation() -> None:
    x, weights = torch.tensor([1.0, 2.0, 4.0]).double(), torch.tensor([1.0, 1.0, 2.0]).double()
    mean, error = mean_and_error(x, weights)
    assert mean == mean_of(x, weights) == 2.75
    assert error == pytest.approx((1.5 * (1.75**2 + 0.75**2 + 4 * 1.25**2)) ** 0.5 / 4)
    assert mean_and_error(x, 3 * torch.ones(3)) == pytest.approx(mean_and_error(x))


@torch.no_grad()
def kl(p: Tensor, rbm: RBM) -> float:
    log_q = -rbm.free_energy(STATES) - log_partition(rbm)
    return float((p * (p.log() - log_q)).sum())


@pytest.mark.parametrize("estimator", ["cd", "pcd"])
def test_the_weighted_distribution_is_learned(estimator: str) -> None:
    """All states stand in the data once, so that without weights a uniform distribution would be learned."""
    generator = torch.Generator().manual_seed(2)
    p = (torch.randn(16, generator=generator) + 2 * (STATES[:, 0] == STATES[:, 1])).softmax(0)
    options: dict[str, Any] = {
        "estimator": estimator, "gibbs_steps": (5,), "weight_decay": 0.0, "learning_rate": ("0.5:0",), "momentum": 0.5,
        "epochs": (200,), "hidden": (8,), "batch_size": 80, "chains": None, "warmup_epochs": 0,
    }  # fmt: skip
    made = trainer(STATES.repeat(10, 1), 16 * p.repeat(10), **options)
    before = kl(p, made.rbm)
    run(made, 200)
    assert before > 0.15
    assert kl(p, made.rbm) < 0.1  # 0.7 without weights
    assert kl(torch.full((16,), 1 / 16), made.rbm) > 0.3


OPTIONS: dict[str, Any] = {"hidden": [4], "epochs": 3, "batch_size": 7, "device": "cpu"}


def weights_of(stack: dbn.DBN) -> Tensor:
    return stack.layers[0].weight


def test_only_the_ratio_of_weights_counts() -> None:
    plain, one = dbn.pretrain(X, **OPTIONS), dbn.pretrain(X, sample_weight=torch.ones(N), **OPTIONS)
    found, twice = (dbn.pretrain(X, sample_weight=times, **OPTIONS) for times in (TIMES, 2 * TIMES))
    assert_close(weights_of(one), weights_of(plain))
    assert weights_of(found).equal(weights_of(twice))
    assert not torch.allclose(weights_of(found), weights_of(plain), atol=1e-3)


def test_rows_of_weight_0_are_left_out() -> None:
    times = TIMES.clone()
    times[::3] = 0
    kept = times > 0
    wild = X.clone()
    wild[::3] = 7  # which Bernoulli units do not take
    found = dbn.pretrain(wild, sample_weight=times, **OPTIONS)
    wanted = dbn.pretrain(X[kept], sample_weight=times[kept], **OPTIONS)
    assert weights_of(found).equal(weights_of(wanted))
    assert "Rows of weight 0 are left out: 8." in splits_from_arrays(X, sample_weight=times).describe()


def test_weights_may_be_a_column_which_is_none_of_the_model() -> None:
    frame = pandas.DataFrame(X.numpy(), columns=list("abcde"))
    both = frame.assign(w=TIMES.numpy())[["a", "w", "b", "c", "d", "e"]]
    stack = dbn.pretrain(both, sample_weight="w", **OPTIONS)
    assert weights_of(stack).equal(weights_of(dbn.pretrain(frame, sample_weight=TIMES, **OPTIONS)))
    assert stack.up(both).equal(stack.up(frame))
    found = dbn.evaluate(stack, both, exact=True)
    assert found.test_log_likelihood == dbn.evaluate(stack, frame, exact=True).test_log_likelihood
    assert any("'w', of weights in training, is left out" in each for each in found.to_dict()["origin"])
    with pytest.raises(InputError, match="has the column 'v'"):
        stack.up(frame.assign(v=1.0))


def test_a_resumed_run_has_the_same_bits_and_the_same_weights(tmp_path: Path) -> None:
    whole = dbn.pretrain(X, sample_weight=TIMES, **OPTIONS)

    def stop(record: dict[str, Any]) -> None:
        if record["epoch"] == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        dbn.pretrain(X, sample_weight=TIMES, run=tmp_path / "run", callback=stop, **OPTIONS)
    for others in (None, TIMES.flip(0)):
        with pytest.raises(InputError, match="was started on other examples"):
            dbn.pretrain(X, sample_weight=others, run=tmp_path / "run", resume=True, **OPTIONS)
    resumed = dbn.pretrain(X, sample_weight=TIMES, run=tmp_path / "run", resume=True, **OPTIONS)
    assert weights_of(resumed).equal(weights_of(whole))
    assert dbn.load(tmp_path / "run").layers[0].weight.equal(weights_of(whole))


def test_rows_on_the_disk_keep_their_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.save(tmp_path / "x.npy", X.numpy())
    options = OPTIONS | {"sample_weight": TIMES}
    wanted = dbn.pretrain(X, **options)
    monkeypatch.setattr("dbn.data.rows.RESIDENT", 8)
    found = dbn.pretrain(np.load(tmp_path / "x.npy", mmap_mode="r"), **options)
    assert weights_of(found).equal(weights_of(wanted))


@pytest.mark.parametrize("gradient", ["hybrid", "generative"])
def test_label_models_count_by_weight(gradient: Any) -> None:
    y = X[:, 0].long()
    kept = (TIMES == 4) | (torch.arange(N) < 12)
    options: dict[str, Any] = OPTIONS | {"hidden": 4, "gradient": gradient, "epochs": 2, "batch_size": 30}
    found = dbn.train_label_model(X, y, sample_weight=kept.double(), **options)
    wanted = dbn.train_label_model(X[kept], y[kept], **options)
    assert_close(found.rbm.state_dict(), wanted.rbm.state_dict())
    heavy = dbn.train_label_model(X, y, sample_weight=1 + 9.0 * y, **options)
    plain = dbn.train_label_model(X, y, **options)
    assert float(heavy.predict_proba(X)[:, 1].mean()) > float(plain.predict_proba(X)[:, 1].mean()) + 0.05
