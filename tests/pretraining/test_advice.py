"""Following the advice of each warning makes validation better."""

import re
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tiny import pictures

import dbn
from dbn.config.pretraining import Pretraining
from dbn.models.scaling import Scaling
from dbn.pretraining.diagnostics import RULES
from dbn.pretraining.layer_data import Unlabeled
from dbn.pretraining.pretrain import pretrain_stack


def two_patterns(seed: int, flipped: float, n: int = 300) -> NDArray:
    """Two opposite patterns of 24 bits with a few flipped: chains that stand still see one of them alone."""
    pattern = (np.arange(n) % 2)[:, None] == (np.arange(24) % 2)
    return (pattern ^ (np.random.default_rng(seed).random((n, 24)) < flipped)).astype(np.uint8)


def validation_kl(n: int, side: int, **options: Any) -> float:
    """Of unseen pictures, after training on n: nats, the less the better."""
    train, valid = pictures(n, side)[0], pictures(200, side, seed=1)[0]
    parts = [torch.from_numpy(part.reshape(len(part), -1)) for part in (train, valid)]
    config = Pretraining(**options)
    last: float = pretrain_stack(Unlabeled(*parts, Scaling(255.0)), config).history[-1]["valid_kl"]
    return last


def of_many(**options: Any) -> float:
    return validation_kl(300, 6, hidden=20, **options)


def of_few(**options: Any) -> float:
    alike = {"warmup_epochs": 20, "momentum": "0.5,0.9@101", "measure_every": 10}
    return validation_kl(30, 12, hidden=50, batch_size=10, learning_rate=0.3, weight_decay=0.0, **alike, **options)


def of_patterns(flipped: float = 0.05, **options: Any) -> float:
    """−log p of unseen rows, exactly: nats, the less the better."""
    fixed: Any = {"momentum": 0.0, "centered": False, "weight_decay": 0.0, "epochs": 30}
    rbm = dbn.train_rbm(two_patterns(0, flipped), 6, **fixed | options)
    return -float(dbn.evaluate(rbm, two_patterns(1, flipped), exact=True).to_dict()["test_log_likelihood"])


STILL = {"estimator": "pcd", "measure_every": 1, "flipped": 0.02}
ADVICE: list[tuple[str, Any, dict[str, Any], dict[str, Any]]] = [
    ("gap_grows", of_few, {"epochs": 200}, {"epochs": 40}),
    ("units_off", of_many, {"learning_rate": 2.0, "epochs": 10}, {"learning_rate": 0.2, "epochs": 10}),
    (
        "units_on",
        of_many,
        {"sparsity_target": 0.995, "sparsity_cost": 1.0, "epochs": 10},
        {"sparsity_target": 0.1, "sparsity_cost": 1.0, "epochs": 10},
    ),
    (
        "updates_too_large",
        of_many,
        {"learning_rate": 1.0, "momentum": 0.95, "epochs": 60},
        {"learning_rate": 0.1, "momentum": 0.95, "epochs": 60},
    ),
    ("updates_too_small", of_many, {"learning_rate": 1e-7, "epochs": 5}, {"learning_rate": 0.1, "epochs": 5}),
    *[
        ("chains_stand_still", of_patterns, STILL | {"learning_rate": 0.3}, STILL | {"learning_rate": 0.3} | change)
        for change in ({"learning_rate": 0.03}, {"gibbs_steps": 10})
    ],
    ("units_off", of_patterns, STILL | {"learning_rate": 0.1, "momentum": 0.9}, STILL | {"learning_rate": 0.1}),
    (
        "temperatures_apart",
        of_patterns,
        {"estimator": "pt", "learning_rate": 0.3, "temperatures": 2},
        {"estimator": "pt", "learning_rate": 0.3},
    ),
]
SENTENCE = {
    "gap_grows": "train for fewer epochs",
    "units_off": "are off .* lower (--momentum or )?--learning-rate",
    "units_on": "are on .* set --sparsity-target, such as 0.1",
    "updates_too_large": "0.1% is usual: lower (--momentum or )?--learning-rate",
    "updates_too_small": "raise --learning-rate",
    "chains_stand_still": "lower (--momentum or )?--learning-rate, or raise --gibbs-steps",
    "temperatures_apart": "raise --temperatures",
}


@pytest.mark.parametrize(("rule", "error", "warned", "advised"), ADVICE)
def test_the_advice_helps(
    rule: str, error: Any, warned: dict[str, Any], advised: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    before = error(**warned)
    said = "\n".join(caplog.messages)
    assert re.search(SENTENCE[rule], said), said
    assert error(**advised) < 0.95 * before


def test_every_rule_has_advice_that_was_tried() -> None:
    assert {rule.__name__ for rule in RULES} == {rule for rule, *_ in ADVICE} == {*SENTENCE}
