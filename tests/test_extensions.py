"""A unit type, estimator, initializer, data set, penalty and optimizer from outside the package, each one line."""

import runpy
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny import metrics
from torch import Tensor
from torch.nn import functional as F
from torch.nn import init

import dbn
from dbn.data import DATASETS
from dbn.data.datasets import load_splits
from dbn.data.splits import unsplit
from dbn.initializers import INITIALIZERS, Initializer
from dbn.likelihood.gradient import Means
from dbn.models.rbm import RBM
from dbn.models.units import UNITS, Units
from dbn.pretraining import PENALTIES, Penalty
from dbn.runs.folder import RunFolder
from dbn.sampling import CHAINS, NegativeSamples
from dbn.training import OPTIMIZERS

SCRIPTS = Path(__file__).parents[1] / "scripts"
CALLS: dict[str, int] = {}


def count(name: str) -> None:
    CALLS[name] = CALLS.get(name, 0) + 1


class Sign(Units):
    """x ∈ {−1, 1} with p(x | field) ∝ exp((field + bias)·x)."""

    kind = "sign"
    linear_statistics = True

    def natural(self) -> dict[str, Tensor]:
        return {"bias": self.bias}

    def from_natural(self, natural: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {"bias": natural["bias"]}

    def statistics(self, x: Tensor) -> dict[str, Tensor]:
        return {"bias": x}

    def expected_statistics(self, field: Tensor) -> dict[str, Tensor]:
        return {"bias": self.mean(field)}

    def log_partition(self, field: Tensor) -> Tensor:
        a = (field + self.bias).abs()
        return (a + F.softplus(-2 * a)).sum(-1)

    def mean(self, field: Tensor) -> Tensor:
        return torch.tanh(field + self.bias)

    def sample(self, field: Tensor, generator: torch.Generator | None = None) -> Tensor:
        return 2 * torch.bernoulli((1 + self.mean(field)).detach() / 2, generator=generator) - 1

    def divergence(self, x: Tensor, x_hat: Tensor) -> Tensor:
        p, q = (1 + x) / 2, ((1 + x_hat) / 2).clamp(1e-7, 1 - 1e-7)
        return (torch.xlogy(p, p / q) + torch.xlogy(1 - p, (1 - p) / (1 - q))).sum(-1)

    def parameter_gradient(self, natural_gradient: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {"bias": natural_gradient["bias"]}

    @torch.no_grad()
    def fit_marginals(self, mean: Tensor, variance: Tensor, n: int) -> None:
        self.bias.copy_(torch.atanh(mean * n / (n + 2)))

    def as_linear(self, weight: Tensor) -> tuple[Tensor, Tensor, str]:
        return weight, self.bias, "tanh"

    def support(self) -> Tensor:
        return self.bias.new_tensor((-1.0, 1.0))

    def quadratic_precision(self) -> None:
        return None


class LastBatch:
    """Chains that start at the last batch of data."""

    def __init__(self, steps: int, chains: int) -> None:
        self.steps, self.chains = steps, chains
        self.v: Tensor | None = None

    @torch.no_grad()
    def negatives(self, rbm: RBM, data: Tensor, hidden_field: Tensor, generator: torch.Generator) -> NegativeSamples:
        count("estimator")
        start = data if self.v is None else self.v
        self.v = data[torch.arange(self.chains) % len(data)]
        return NegativeSamples(rbm.gibbs(start, self.steps, generator))

    def metrics(self) -> dict[str, float]:
        return {}

    def state(self) -> dict[str, Tensor]:
        return {} if self.v is None else {"v": self.v}

    def load_state(self, state: dict[str, Tensor]) -> None:
        self.v = state.get("v")


class FourthPower(Penalty):
    """strength·Σ W⁴/4."""

    def __init__(self, strength: float) -> None:
        self.strength = strength

    @torch.no_grad()
    def before_step(self, rbm: RBM, means: Means) -> None:
        count("penalty")
        assert rbm.weight.grad is not None
        rbm.weight.grad.add_(rbm.weight**3, alpha=self.strength)


def part_of_identity(gain: float = 1.0) -> Initializer:
    """W = gain·I, biases 0."""

    @torch.no_grad()
    def fill(layers: Any, activation: str, generator: torch.Generator, x: Tensor) -> None:
        count("initializer")
        for layer in layers:
            init.eye_(layer.weight).mul_(gain)
            layer.bias.zero_()

    return Initializer(fill, "relu")


def signs(name: str, folder: Path | None = None) -> Any:
    """±1, a row of 8 whose first three are the sign of the class."""
    rng = np.random.default_rng(0)
    y = np.arange(200) % 2
    x = rng.choice([-1.0, 1.0], (200, 8)).astype(np.float32)
    x[:, :3] = 2 * y[:, None] - 1
    return unsplit(name, x, y)


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., None]:
    entries = (
        (UNITS, "sign", Sign), (CHAINS, "last-batch", LastBatch), (PENALTIES, "fourth_power", FourthPower),
        (INITIALIZERS, "part_of_identity", part_of_identity), (DATASETS, "signs", signs),
        (OPTIMIZERS, "radam", torch.optim.RAdam),
    )  # fmt: skip
    for table, name, entry in entries:
        monkeypatch.setitem(table, name, entry)
    monkeypatch.chdir(tmp_path)
    CALLS.clear()

    def run(name: str, *words: str) -> None:
        monkeypatch.setattr(sys, "argv", [f"{name}.py", *words])
        runpy.run_path(str(SCRIPTS / f"{name}.py"), run_name="__main__")

    return run


PRETRAIN = (
    "--dataset signs --visible sign --hidden 6 5 --hidden-units sign --estimator last-batch --chains 10 --optimizer "
    "radam --batch-size 20 --penalty fourth_power(strength=0.001) l1(strength=0.002)"
)


def test_all_six_by_the_command_line(script: Callable[..., None], tmp_path: Path, capsys: Any) -> None:
    script("pretrain", *PRETRAIN.split(), "--epochs", "2", "--run", "pre")
    stack = dbn.load("pre")
    assert [(rbm.visible.kind, rbm.hidden.kind) for rbm in stack.layers] == [("sign", "sign")] * 2
    assert [type(module).__name__ for module in stack.encoder()] == ["Linear", "Tanh"] * 2
    steps = -(-len(load_splits("signs").train.x) // 20)
    assert CALLS["penalty"] == CALLS["estimator"] == 2 * 2 * steps  # layers, epochs
    # From a checkpoint, which the tables' entries must fit as well.
    script("pretrain", *PRETRAIN.split(), "--epochs", "2", "3", "--run", "pre", "--resume")
    script("pretrain", *PRETRAIN.split(), "--epochs", "2", "3", "--run", "whole")
    resumed, whole = dbn.load("pre").state_dict(), dbn.load("whole").state_dict()
    assert all(value.equal(resumed[name]) for name, value in whole.items())
    assert metrics(tmp_path / "pre") == metrics(tmp_path / "whole")
    assert RunFolder(tmp_path / "pre").read_config()["penalty"] == [
        "fourth_power(strength=0.001)",
        "l1(strength=0.002)",
    ]

    assert "hidden units are off" not in capsys.readouterr().err
    arms = ("dbn:tanh", "part_of_identity(gain=0.5)", "part_of_identity")
    words = "--pretrained pre --labels 40 --seeds 2 --epochs 3 --optimizer radam --run fine --init"
    script("finetune", *words.split(), *arms)
    assert CALLS["initializer"] >= 4
    found = RunFolder(tmp_path / "fine").read_json("result.json")["arms"]
    assert list(found) == list(arms)
    assert found["part_of_identity"]["activation"] == "relu"
    out = capsys.readouterr().out
    assert all(arm in out for arm in arms)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--estimator", "last-bach"], "last-batch"),
        (["--penalty", "fourth_power"], "fourth_power needs strength"),
        (["--penalty", "fourth_power(strenght=1)"], "fourth_power has no parameter 'strenght': it has strength"),
    ],
)
def test_their_names_are_known_to_error_messages(
    words: list[str], said: str, script: Callable[..., None], capsys: Any, tmp_path: Path
) -> None:
    with pytest.raises(SystemExit):
        script("pretrain", "--dataset", "signs", "--visible", "sign", "--run", "new", *words)
    assert said in capsys.readouterr().err
    assert not (tmp_path / "new").exists()
