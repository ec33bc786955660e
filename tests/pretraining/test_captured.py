"""Replayed steps are the steps: the same bits, whatever the estimator, optimizer, schedule or interruption."""

from typing import Any

import pytest
import torch
from recording import CpuRecorder
from tiny import pictures

from dbn.config.pretraining import Pretraining
from dbn.data.cut import splits_from_arrays
from dbn.models.missing import Missing
from dbn.models.scaling import Scaling
from dbn.pretraining import trainer as trainers
from dbn.pretraining.layer_data import Unlabeled
from dbn.pretraining.pretrain import unlabeled
from dbn.pretraining.stack import new_rbm
from dbn.pretraining.trainer import LayerTrainer
from dbn.training.loop import run_epochs

CPU = torch.device("cpu")
SMALL: dict[str, Any] = {"hidden": (9,), "epochs": (4,), "batch_size": 40, "seed": 3}


def made(captured: bool, monkeypatch: pytest.MonkeyPatch, **options: Any) -> LayerTrainer:
    weights, missing = options.pop("weights", None), options.pop("missing", None)
    config = Pretraining(**(SMALL | options))
    data = unlabeled(splits_from_arrays(pictures(200)[0]), config, CPU)
    if missing:
        x = torch.rand(160, 36, generator=torch.Generator().manual_seed(1))
        data = Unlabeled(torch.where(x < 0.1, torch.nan, x), None, Scaling(), missing=Missing(missing, 2))
    if weights:
        drawn = torch.rand(len(data.train), generator=torch.Generator().manual_seed(1)) + 0.5
        data = data._replace(weights=drawn / drawn.mean())
    with monkeypatch.context() as patches:
        if captured:
            make = trainers.make_optimizer
            patches.setattr(trainers, "make_optimizer", lambda *a, **k: make(*a, **(k | {"capturable": True})))
            patches.setattr(trainers, "graph_recorder", CpuRecorder)
        return LayerTrainer(new_rbm(36, 1, config), [], data, config)


def train(layer: LayerTrainer, epochs: range | None = None) -> dict[str, Any]:
    """All epochs, with what an epoch's end does to the chains; the state, and the metrics of the chains."""
    found = []
    epochs = epochs or range(1, layer.setting.epochs + 1)
    run_epochs(epochs, layer.batches, layer.step, lambda *_: bool(found.append(layer.chains.metrics())), device=CPU)
    return layer.state() | {"metrics": found}


def assert_equal(one: Any, other: Any) -> None:
    torch.testing.assert_close(one, other, rtol=0, atol=0, equal_nan=True, check_dtype=False)


SETTINGS: dict[str, dict[str, Any]] = {
    "cd": {},
    "cd, more and more steps": {"gibbs_steps": "1,3@3"},
    "pcd": {"estimator": "pcd"},
    "lagged": {"estimator": "lagged-pcd"},
    "pt": {"estimator": "pt"},
    "schedules": {"learning_rate": "0.4:0", "momentum": "0,0.8@3", "weight_decay": 0.01, "warmup_epochs": 1},
    "penalties": {"l1": 0.1, "sparsity_target": 0.1, "max_norm": 1.0},
    "all at once": {
        "estimator": "pt", "centered": True, "l1": 0.01, "sparsity_target": 0.1, "average": 0.9,
        "binarize": "sample", "weights": True, "batch_size": 30,
    },
    "gaussian, centered": {"visible": "gaussian", "centered": True},
    "relu": {"hidden_units": ("relu",), "learning_rate": 0.001},
    "gibbs": {"missing": "gibbs"},
    "absent": {"missing": "absent"},
    **{name: {"optimizer": name} for name in ("adam", "adamw", "adagrad")},
}  # fmt: skip


@pytest.mark.parametrize("name", SETTINGS)
def test_replayed_steps_are_the_steps(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    plain, captured = (made(how, monkeypatch, **SETTINGS[name]) for how in (False, True))
    recorder = captured.captured.recorder
    assert_equal(train(captured), train(plain))
    assert isinstance(recorder, CpuRecorder)
    assert recorder.captured >= 1
    assert recorder.replayed >= 2 * captured.steps - 4
