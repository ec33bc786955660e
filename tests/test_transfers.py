"""A step never waits for the device: no number comes to the host, and none goes to the device.

The device "meta" stands for a GPU: its tensors have shapes but no values, so whatever asks for a value fails there, and
whatever goes from one device to another is seen. Numbers that stay on the host, as optimisers' counters do, cost
nothing.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path as FilePath
from typing import Any

import pytest
import torch
from recording import CpuRecorder
from tiny import splits, stack
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from dbn.config.finetuning import Finetuning
from dbn.config.pretraining import Pretraining
from dbn.data.examples import Examples
from dbn.errors import InputError
from dbn.finetuning.problem import Problem
from dbn.finetuning.together import _Group
from dbn.finetuning.trainer import Trainer
from dbn.initializers.arms import parse_arm
from dbn.likelihood.ais import temperature_schedule
from dbn.likelihood.annealed_chains import AnnealedChains
from dbn.models.annealing import Path
from dbn.models.gibbs import GibbsChains
from dbn.models.rbm import RBM
from dbn.models.scaling import Scaling
from dbn.models.units import UNITS
from dbn.models.units.bernoulli import Bernoulli
from dbn.pretraining.layer_data import Unlabeled
from dbn.pretraining.pretrain import pretrain
from dbn.pretraining.stack import new_rbm
from dbn.pretraining.trainer import LayerTrainer
from dbn.sampling import parallel_tempering as chains
from dbn.training.device import matmul_dtype, tf32_products
from dbn.training.optimizers import make_optimizer

META = torch.device("meta")
Generator = torch.Generator


class HostGenerator(torch.Generator):
    """Of whatever device is asked for: there are none on meta, whose random numbers have no values."""

    def __new__(cls, device: Any = "cpu") -> "HostGenerator":
        made = super().__new__(cls, "cpu")
        made.wanted = torch.device(device)
        return made


class Unchecked(Path):  # type: ignore[misc]
    """Without the look at its base's weights when it is made, once a layer."""

    def __init__(self, base: RBM, rbm: RBM) -> None:
        self.base, self.rbm, self.coupled = base, rbm, False


class Transfers(TorchDispatchMode):
    """Names what moves numbers between host and device, or makes the host wait for some."""

    WAIT = ("_local_scalar_dense", "item", "nonzero", "masked_select", "is_nonzero", "unique", "equal")

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0
        self.found: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        tensors = [leaf for leaf in tree_leaves((args, kwargs, result)) if isinstance(leaf, Tensor)]
        devices = {tensor.device.type for tensor in tensors}
        name = func.overloadpacket.__name__
        masked = name.startswith("index") and any(tensor.dtype == torch.bool for tensor in tensors)
        self.calls += 1
        if len(devices) > 1 or (devices == {"meta"} and (masked or name.startswith(self.WAIT))):
            self.found.append(str(func))
        return result


@contextmanager
def pretended(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as patches:
        patches.setattr(torch, "Generator", HostGenerator)
        patches.setattr(chains, "Path", Unchecked)
        yield


def transfers(step: Callable[[int], None]) -> list[str]:
    """Of steps after the first, which may set things up."""
    step(0)
    with Transfers() as seen:
        step(1)
        step(2)
    assert seen.calls > 20
    return seen.found


SEEN: dict[str, Callable[[Tensor], Any]] = {
    "to the device": lambda x: x + torch.ones(3, 3).to(META),
    "into what is there": lambda x: x.copy_(torch.ones(3, 3)),
    "a number from the host": lambda x: x * torch.tensor(2.0),
}


@pytest.mark.parametrize("name", SEEN)
def test_transfers_are_seen(name: str) -> None:
    with Transfers() as seen:
        SEEN[name](torch.zeros(3, 3, device=META))
    assert len(seen.found) == 1


def test_what_stays_on_the_device_is_no_transfer() -> None:
    x = torch.zeros(3, 3, device=META)
    with Transfers() as seen:
        torch.where(x > 0, x @ x.T, 0.5)[torch.zeros(3, dtype=torch.int64, device=META)].bfloat16()
        float(torch.tensor(2.0))
    assert seen.calls > 5
    assert seen.found == []


@pytest.mark.parametrize(
    "what", [Tensor.item, Tensor.tolist, Tensor.nonzero, bool, lambda x: x[x > 0], lambda x: x.cpu()]
)
def test_whatever_asks_for_a_value_fails_on_the_stand_in(what: Callable[[Tensor], Any]) -> None:
    with pytest.raises((RuntimeError, NotImplementedError)), Transfers():
        what(torch.zeros(1, device=META))


def test_torchs_running_average_is_seen() -> None:
    model = nn.Linear(3, 2, device=META)
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.9))
    average.update_parameters(model)
    with Transfers() as seen:
        average.update_parameters(model)
    assert "aten._to_copy.default" in seen.found


STEPS: dict[str, dict[str, Any]] = {
    "cd": {},
    "cd, 3 steps": {"gibbs_steps": (3,)},
    "pcd": {"estimator": "pcd"},
    "pt": {"estimator": "pt"},
    "centered": {"centered": True},
    "penalties": {"l1": 0.1, "sparsity_target": 0.1, "max_norm": 1.0},
    "average": {"average": 0.9},
    "gaussian": {"visible": "gaussian"},
    "binarised": {"binarize": "sample"},
    "bf16": {"precision": "bf16"},
    "bf16, pt, centered": {"precision": "bf16", "estimator": "pt", "centered": True},
    "tf32": {"precision": "tf32"},
    **{name: {"optimizer": name} for name in ("adam", "adamw", "rmsprop", "nadam", "adagrad")},
}


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("name", STEPS)
def test_a_step_of_pretraining_moves_nothing(name: str, weighted: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dbn.pretraining.trainer.matmul_dtype", precision)
    config = Pretraining(hidden=(9,), batch_size=40, **STEPS[name])
    with pretended(monkeypatch):
        with META:
            rbm = new_rbm(36, 1, config)
        x = torch.zeros(120, 36, dtype=torch.uint8, device=META)
        weights = torch.ones(120, dtype=torch.float32, device=META) if weighted else None
        made = LayerTrainer(rbm, [], Unlabeled(x, None, Scaling(), weights=weights), config)
        batches = list(made.batches(1))
        assert len(batches) == 3
        assert transfers(lambda number: made.step(batches[number], 1, number)) == []
        assert made.rbm.weight.device == made.noise.wanted == META


def precision(name: str, device: torch.device) -> torch.dtype:
    """As `matmul_dtype` on a GPU that has them all."""
    return torch.bfloat16 if name == "bf16" else torch.float32


def on_meta(problem: Problem) -> Problem:
    """The same with data that have no values."""
    data = problem.splits
    parts = {name: Examples(part.x.to(META), part.y.to(META)) for name, part in vars(data).items() if name in PARTS}
    made = object.__new__(type(data))
    vars(made).update(vars(data) | parts)
    moved = object.__new__(Problem)
    vars(moved).update(vars(problem) | {"splits": made})
    return moved


PARTS = ("train", "valid", "test")


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"input_dropout": 0.2, "hidden_dropout": 0.5},
        {"average": 0.9, "max_norm": 1.0, "schedule": "1:0", "layer_rates": (0.1, 0.3, 1.0), "weight_decay": 0.01},
        {"optimizer": "adam"},
        {"freeze_epochs": "all"},
        {"init": ("batch_norm",), "average": 0.9},
        {"precision": "tf32"},
    ],
    ids=str,
)
def test_a_step_of_fine_tuning_moves_nothing(options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    for room in ("finetuning.trainer", "finetuning.problem"):
        monkeypatch.setattr(f"dbn.{room}.matmul_dtype", precision)
    config = replace(Finetuning(init=("xavier_uniform",), labels=30, valid_labels=9, batch_size=10), **options)
    problem = on_meta(Problem(splits(), Scaling(), (7, 5), (stack(),), config))
    with pretended(monkeypatch):
        monkeypatch.setattr(Problem, "labeled", lambda self, seed: (self.splits.train, self.splits.valid))
        made = Trainer(problem, parse_arm(config.init[0]), 0.1, 0)
        batches = list(made.batches(1))
        assert transfers(lambda number: made._step(batches[number], 1, number)) == []
        assert made.loss.device == made.noise.wanted == META


def test_a_step_of_fits_together_moves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    everything = {"input_dropout": 0.2, "hidden_dropout": 0.5, "average": 0.9, "max_norm": 1.0, "weight_decay": 0.01}
    config = Finetuning(init=("xavier_uniform",), labels=30, valid_labels=9, batch_size=10, **everything)
    problem = on_meta(Problem(splits(), Scaling(), (7, 5), (stack(),), config))
    with pretended(monkeypatch):
        monkeypatch.setattr(Problem, "labeled", lambda self, seed: (self.splits.train, self.splits.valid))
        fits = [Trainer(problem, parse_arm("xavier_uniform"), rate, seed) for rate in (0.1, 0.3) for seed in (0, 1)]
        group = _Group(fits, lambda position: None)
        batches = list(group._batches(1))
        assert transfers(lambda number: group._step(batches[number], 1, number)) == []
        assert group.loss.device == META


@pytest.mark.parametrize("visible", ["bernoulli", "gaussian", "spin"])
def test_chains_move_nothing(visible: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As they are captured: temperatures come from the device, and so does the place of the next one."""
    monkeypatch.setattr("dbn.capture.graph_recorder", CpuRecorder)
    with pretended(monkeypatch):
        with META:
            rbm = RBM(UNITS[visible](36), Bernoulli(9)).requires_grad_(False)
            path, generator = Unchecked(rbm.uncoupled(), rbm), torch.Generator(META)
        v = torch.zeros(10, 36, device=META)
        annealed = AnnealedChains(path, temperature_schedule(50).tolist(), v, generator)
        assert transfers(lambda _: annealed.take(4)) == []
        gibbs = GibbsChains(rbm, v, generator)
        assert transfers(lambda _: gibbs._take(4)) == []
        assert annealed.v.device == annealed.total.device == gibbs.v.device == META


# TF32


def test_tf32_is_for_products_of_some_gpus_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="--precision tf32 needs an NVIDIA GPU of compute capability 8"):
        matmul_dtype("tf32", torch.device("cpu"))
    cuda = torch.device("cuda", 0)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    with pytest.raises(InputError, match="which cuda:0 is not"):
        matmul_dtype("tf32", cuda)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 0))
    assert matmul_dtype("tf32", cuda) == torch.float32
    monkeypatch.setattr(torch.version, "hip", "6.0")
    with pytest.raises(InputError, match="tf32"):
        matmul_dtype("tf32", cuda)


def test_a_precision_that_is_not_there_leaves_no_run_behind(tmp_path: FilePath) -> None:
    with pytest.raises(InputError, match="precision='tf32' needs"):
        pretrain(torch.rand(40, 6), [3], precision="tf32", device="cpu", run=tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


def test_tf32_is_left_as_it_was() -> None:
    before = torch.get_float32_matmul_precision()
    with tf32_products(False):
        assert torch.get_float32_matmul_precision() == before
    with tf32_products(True):
        assert torch.get_float32_matmul_precision() == "high"
    assert torch.get_float32_matmul_precision() == before == "highest"


def test_a_step_rounds_its_products_to_tf32_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dbn.pretraining.trainer.matmul_dtype", precision)
    config = Pretraining(hidden=(9,), batch_size=40, precision="tf32")
    x = torch.zeros(80, 36, dtype=torch.uint8)
    made = LayerTrainer(new_rbm(36, 1, config), [], Unlabeled(x, None, Scaling()), config)
    seen = []
    gradient, update = made.rbm.hidden_field, made.optimizer.step
    monkeypatch.setattr(
        made.rbm, "hidden_field", lambda v: (seen.append(torch.get_float32_matmul_precision()), gradient(v))[1]
    )
    monkeypatch.setattr(
        made.optimizer, "step", lambda: (seen.append(torch.get_float32_matmul_precision()), update())[1]
    )
    made.step(next(iter(made.batches(1))), 1, 0)
    assert seen == ["high", "high", "highest"]


def test_optimizers_are_fused_where_every_torch_can(monkeypatch: pytest.MonkeyPatch) -> None:
    layer = [nn.Parameter(torch.zeros(2, 2))]
    for name in ("sgd", "adam", "adamw", "adagrad"):
        assert make_optimizer(name, layer, learning_rate=0.1).defaults["fused"]
    for name in ("rmsprop", "nadam"):
        assert not make_optimizer(name, layer, learning_rate=0.1).defaults.get("fused")
