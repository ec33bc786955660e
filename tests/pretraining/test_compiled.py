"""Compiled steps are the steps but for rounding, and the same to the bit when they are done again."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from test_captured import CPU, SETTINGS, SMALL, Counting, assert_equal, made, train
from torch import Tensor
from torch.testing import assert_close

from dbn import compiled
from dbn.compiled import CompiledCalls
from dbn.config.label_model import LabelTraining
from dbn.config.pretraining import Pretraining
from dbn.errors import InputError
from dbn.models.label_model import label_rbm
from dbn.models.scaling import Scaling
from dbn.models.units.bernoulli import Bernoulli
from dbn.pretraining import trainer as trainers
from dbn.pretraining.label_trainer import LabelTrainer
from dbn.pretraining.layer_data import Unlabeled
from dbn.pretraining.stack import new_rbm
from dbn.pretraining.trainer import LayerTrainer
from dbn.training.device import matmul_dtype

try:
    HAS_BF16 = bool(matmul_dtype("bf16", CPU))
except InputError:
    HAS_BF16 = False
WITH_BF16 = {
    "bf16": {"precision": "bf16"},
    "bf16, centered": {"precision": "bf16", "centered": True, "estimator": "pcd"},
}
EVERY: dict[str, dict[str, Any]] = {
    **{name: options for name, options in SETTINGS.items() if options.get("estimator") != "pt"},
    "pcd, centered": {"estimator": "pcd", "centered": True},
    "spin": {"hidden_units": ("spin",)},
    "categorical": {"hidden_units": ("categorical(states=3)",)},
    "binomial": {"hidden_units": ("binomial(trials=3)",)},
    "weights": {"weights": True, "l1": 0.1},
    "large": {"hidden": (800,), "batch_size": 160, "epochs": (2,)},  # whose products are of oneDNN
    **(WITH_BF16 if HAS_BF16 else {}),
}


@pytest.fixture
def traced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls are traced, and what was traced is done operation by operation."""
    monkeypatch.setattr(compiled, "by_inductor", lambda graph, tensors: graph)


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    monkeypatch.setattr(compiled, "_said", set())
    return lambda: [
        each.getMessage().partition("--compile: ")[2] for each in caplog.records if each.name == "dbn.compiled"
    ]


@pytest.mark.usefixtures("traced")
@pytest.mark.parametrize("name", EVERY)
def test_what_is_compiled_is_the_step(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    plain, other = (made(False, monkeypatch, compile=how, **EVERY[name]) for how in (False, True))
    found, wanted = train(other), train(plain)
    if plain.offsets is None:
        assert_equal(found, wanted)
    else:  # two products of rank one are no product there
        assert_close(found, wanted, rtol=1e-4, atol=1e-4, equal_nan=True, check_dtype=False)
    assert other.compiled.wanted


@pytest.mark.usefixtures("traced")
@pytest.mark.parametrize("estimator", ["cd", "pcd", "class-pcd"])
def test_labels(estimator: str) -> None:
    x = torch.rand(120, 20, generator=torch.Generator().manual_seed(1))
    y = torch.eye(3).repeat(40, 1)
    y[::5] = 0
    data = Unlabeled(torch.cat([x, y], 1), None, Scaling(1.0))
    layers = []
    for how in (False, True):
        config = LabelTraining(**SMALL, gradient="hybrid", estimator=estimator, compile=how)
        layers.append(LabelTrainer(label_rbm("bernoulli", 20, Bernoulli(9), 3), data, config, 3))
    assert_close(train(layers[1]), train(layers[0]), rtol=1e-4, atol=1e-4, check_dtype=False)
    assert layers[1].compiled.wanted


@pytest.mark.usefixtures("traced")
def test_a_table_whose_columns_are_of_several_kinds(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.rand(60, 3, generator=torch.Generator().manual_seed(1))
    x[:, 2] = (3 * x[:, 2]).floor()
    layers = []
    for how in (False, True):
        config = Pretraining(**SMALL, visible="2 bernoulli + 3 categorical(states=3)", compile=how)
        rbm = new_rbm(5, 1, config)
        layers.append(LayerTrainer(rbm, [], Unlabeled(x, None, Scaling(1.0, codes=(0, 0, 3))), config))
    assert_equal(train(layers[1]), train(layers[0]))
    assert layers[1].compiled.wanted


def test_without_a_compiler_all_is_as_ever(monkeypatch: pytest.MonkeyPatch, said: Callable[[], list[str]]) -> None:
    def fails(graph: Any, tensors: Any) -> Any:
        raise RuntimeError("there is\nno compiler")

    monkeypatch.setattr(compiled, "by_inductor", fails)
    plain, *others = (made(False, monkeypatch, compile=how, estimator="pcd") for how in (False, True, True))
    expected = train(plain)
    for other in others:
        assert_equal(train(other), expected)
    assert said() == ["RuntimeError: there is no compiler"]


def test_chains_that_may_keep_more_are_not_compiled(
    monkeypatch: pytest.MonkeyPatch, said: Callable[[], list[str]]
) -> None:
    monkeypatch.setattr(trainers, "make_chains", lambda *_: Counting(1, 20))
    plain, other = (made(False, monkeypatch, compile=how) for how in (False, True))
    assert_equal(train(other), train(plain))
    assert said() == ["Counting may keep more than tensors"]


@pytest.mark.usefixtures("traced")
def test_what_would_be_wrong_in_another_call_is_not_compiled(said: Callable[[], list[str]]) -> None:
    generator, p, constant = torch.Generator(), torch.full((3,), 0.5), torch.ones(3)
    calls = {
        "NotImplementedError: aten.bernoulli": lambda x: torch.bernoulli(x, generator=generator),
        "AssertionError: Please convert all Tensors to FakeTensors": lambda x: x + constant,
    }
    with torch.no_grad():
        for call in calls.values():
            doing = CompiledCalls([], wanted=True)
            assert doing("", call, p).shape == (3,)
            assert not doing.wanted
    assert all(found.startswith(why) for found, why in zip(said(), calls, strict=True)), said()


# By inductor


def gradients_agree(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """From one state every step's gradient is that of the plain step, to a few roundings of terms of the size of 1."""
    options = EVERY[name]
    plain, other = (made(False, monkeypatch, compile=how, **options) for how in (False, True))
    steps = 2 if options.get("precision") else 4
    # What is rounded to bfloat16 may be a step of 2⁻⁸ of it apart, in one row of a batch.
    limit = 2.0**-8 * 4 / plain.config.batch_size if options.get("precision") else 64 * torch.finfo().eps
    for number, (one, same) in enumerate(zip(plain.batches(1), other.batches(1), strict=True)):
        if number == steps:
            break
        plain.step(one, 1, number)
        other.step(same, 1, number)
        for (which, wanted), found in zip(plain.rbm.named_parameters(), other.rbm.parameters(), strict=True):
            assert wanted.grad is not None
            assert_close(found.grad, wanted.grad, rtol=limit, atol=limit, msg=f"{name}: {which} in step {number}")
        other.rbm.load_state_dict(plain.rbm.state_dict())
    assert other.compiled.wanted


@pytest.fixture
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))


@pytest.mark.usefixtures("cache")
def test_compiled_steps_agree_and_a_resumed_run_has_the_bytes_of_a_whole_one(monkeypatch: pytest.MonkeyPatch) -> None:
    gradients_agree("cd", monkeypatch)
    whole, first, second = (made(False, monkeypatch, compile=True) for _ in range(3))
    wanted = train(whole)
    train(first, range(1, 2))
    for number, indices in enumerate(list(first.batches(2))[:3]):
        first.step(indices, 2, number)
    second.load_state(copy.deepcopy(first.state()) | {"epoch": 1, "position": 3})
    for number, indices in list(enumerate(second.batches(2)))[3:]:
        second.step(indices, 2, number)
    found = train(second, range(3, whole.setting.epochs + 1))
    for name in ("rbms", "optimizer"):
        assert_equal(found[name], wanted[name])


@pytest.mark.slow
@pytest.mark.parametrize("name", EVERY)
def test_every_compiled_step_agrees(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    gradients_agree(name, monkeypatch)


@pytest.mark.slow
def test_what_is_added_to_a_product_keeps_its_factor() -> None:
    """torch 2.13 forgets it."""

    def call(a: Tensor, b: Tensor) -> Tensor:
        return torch.add(a @ b, b.sign(), alpha=0.25)

    a, b = torch.eye(4), torch.full((4, 4), 2.0)
    with torch.no_grad():
        assert_close(CompiledCalls([], wanted=True)("", call, a, b), call(a, b))
