"""What an update is made of: schedules, averages, penalties, precision, and warnings."""

import copy
import logging
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from recording import Recording
from tiny import curves, events, pictures
from torch import Tensor

from dbn.config.common import to_dict
from dbn.config.pretraining import Pretraining
from dbn.data.cut import splits_from_arrays
from dbn.errors import InputError
from dbn.likelihood.gradient import set_gradient
from dbn.models.rbm import RBM
from dbn.models.units.bernoulli import Bernoulli
from dbn.pretraining.layer_data import Unlabeled
from dbn.pretraining.layer_run import train_layer
from dbn.pretraining.pretrain import unlabeled
from dbn.pretraining.stack import new_rbm, pretrain_stack
from dbn.pretraining.trainer import LayerTrainer
from dbn.runs.resume import begin
from dbn.sampling.persistent_chains import PersistentChains
from dbn.training.device import matmul_dtype
from dbn.training.loop import run_epochs
from dbn.training.optimizers import restore_optimizer

CPU = torch.device("cpu")
SMALL = {"hidden": (9,), "epochs": (4,), "batch_size": 40, "seed": 3, "binarize": "sample"}
BF16 = pytest.mark.skipif(not torch.cpu._is_avx512_bf16_supported(), reason="this processor has no bfloat16 products")


def data(config: Pretraining) -> Unlabeled:
    return unlabeled(splits_from_arrays(pictures()[0]), config, CPU)


def trainer(**options: object) -> LayerTrainer:
    config = Pretraining(**(SMALL | options))  # type: ignore[arg-type]
    return LayerTrainer(new_rbm(36, 1, config), [], data(config), config)


def run(made: LayerTrainer) -> None:
    run_epochs(range(1, made.setting.epochs + 1), made.batches, made.step, lambda *_: False, device=CPU)


def test_schedules_reach_optimizer_and_chains(monkeypatch: pytest.MonkeyPatch) -> None:
    made = trainer(
        learning_rate="0.4:0", momentum="0,0.8@3", gibbs_steps="1,3@2,10@4", estimator="pcd", warmup_epochs=0
    )
    seen = []
    step = made.step

    def watch(indices: Tensor, epoch: int, number: int) -> None:
        step(indices, epoch, number)
        group = made.optimizer.param_groups[0]
        seen.append((group["lr"], group["momentum"], made.chains.steps))

    monkeypatch.setattr(made, "step", watch)
    run(made)
    rates, momenta, steps = zip(*seen, strict=True)
    updates = 4 * made.steps
    assert rates == pytest.approx([0.4 * (1 - update / updates) for update in range(updates)])
    assert momenta == tuple(value for value in (0, 0, 0.8, 0.8) for _ in range(made.steps))
    assert steps == tuple(value for value in (1, 3, 3, 10) for _ in range(made.steps))


def test_the_average_is_kept_and_matches_its_recursion() -> None:
    made = trainer(average=0.7)
    weights: list[Tensor] = []
    step = made.step

    def watch(indices: Tensor, epoch: int, number: int) -> None:
        step(indices, epoch, number)
        weights.append(made.rbm.weight.detach().double().clone())

    made.step = watch  # type: ignore[method-assign]
    train_layer(made, None, progress=False)
    average = weights[0]
    for weight in weights[1:]:
        average = 0.7 * average + 0.3 * weight
    torch.testing.assert_close(made.rbm.weight.double(), average, rtol=1e-4, atol=1e-6)
    assert (made.rbm.weight - weights[-1]).abs().max() > 1e-3


@pytest.mark.parametrize(("estimator", "most"), [("cd", 38), ("pcd", 46)])
def test_a_step_is_few_operations(estimator: str, most: int) -> None:
    """Which is what a small one takes its time for."""
    made = trainer(estimator=estimator, binarize="none", centered=False, momentum=0.5)
    first, second, *_ = made.batches(1)
    made.step(first, 1, 0)
    with Recording() as seen:
        made.step(second, 1, 1)
    views = ("view", "t", "permute", "slice", "detach", "numpy_T")
    found = [each[0].overloadpacket.__name__ for each in seen.calls]
    assert len([name for name in found if name not in views]) <= most, found


def test_the_update_ratio_is_that_of_the_last_step_of_an_epoch() -> None:
    """Mean size of its change over mean size of the weights before it."""
    made = trainer()
    batches = list(made.batches(1))
    for number, indices in enumerate(batches):
        before = made.rbm.weight.detach().clone()
        made.step(indices, 1, number)
    ratio = (made.rbm.weight - before).abs().sum() / before.abs().sum()
    assert len(batches) > 1
    assert made.update_ratio.item() == pytest.approx(ratio.item(), rel=1e-6)


@pytest.mark.parametrize(
    ("options", "measure"),
    [
        ({"l1": 0.05}, lambda rbm: rbm.weight.abs().mean()),
        ({"max_norm": 0.1}, lambda rbm: rbm.weight.norm(dim=1).max()),
        ({"sparsity_target": 0.01, "sparsity_cost": 1.0}, lambda rbm: rbm.hidden.bias.mean()),
    ],
    ids=["l1", "max-norm", "sparsity"],
)
def test_penalties_act_in_training(options: dict[str, float], measure: object) -> None:
    plain, penalized = trainer(), trainer(**options)
    for made in (plain, penalized):
        run(made)
    assert measure(penalized.rbm) < measure(plain.rbm) - 0.005  # type: ignore[operator]


def test_centered_training_follows_the_centered_gradient() -> None:
    made = trainer(centered=True, momentum=0.0, weight_decay=0.0, warmup_epochs=0, learning_rate=1.0)
    assert made.offsets is not None
    mean = made.data.moments()[0]
    torch.testing.assert_close(made.offsets.visible, mean)
    before = {name: p.detach().clone() for name, p in made.rbm.named_parameters()}
    x = {}
    states = made.data.states

    def remember(rows: Tensor) -> Tensor:
        x["batch"] = states(rows)
        return x["batch"]

    made.data.states = remember  # type: ignore[method-assign]
    made.step(next(made.batches(1)), 1, 0)
    step = {name: p.detach() - before[name] for name, p in made.rbm.named_parameters()}
    # Of the step itself: ΔW is centred, so what it takes off the biases is fixed by the offsets.
    plain = new_rbm(36, 1, made.config)
    plain.load_state_dict(before)
    h = plain.up(x["batch"])
    slid = torch.lerp(mean, x["batch"].mean(0), 0.01)
    torch.testing.assert_close(made.offsets.visible, slid)
    lam = made.offsets.hidden
    torch.testing.assert_close(lam, torch.lerp(plain.up(mean[None])[0], h.mean(0), 0.01))
    negatives_mean = x["batch"].mean(0) - step["visible.bias"] - step["weight"].T @ lam
    assert ((negatives_mean > -1e-5) & (negatives_mean < 1 + 1e-5)).all()  # the mean of 40 binary states or of p


# Precision


def test_a_precision_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    assert matmul_dtype("float32", CPU) == torch.float32
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    with pytest.raises(InputError, match="--precision bf16 needs products in bfloat16, which cpu does not have"):
        matmul_dtype("bf16", CPU)


@pytest.mark.parametrize("n", [100, 300])
def test_rounded_products_give_the_gradient_up_to_rounding(n: int) -> None:
    generator = torch.Generator().manual_seed(0)
    rbm = RBM(Bernoulli(50), Bernoulli(40))
    with torch.no_grad():
        for parameter in rbm.parameters():
            parameter.normal_(0.0, 0.3, generator=generator)
    x = (torch.rand(100, 50, generator=generator) < 0.3).float()
    negatives = (torch.rand(n, 50, generator=generator) < 0.5).float()
    set_gradient(rbm, x, negatives)
    exact = {name: parameter.grad.clone() for name, parameter in rbm.named_parameters() if parameter.grad is not None}
    with rbm.products_in(torch.bfloat16):
        assert rbm.product_dtype == torch.bfloat16
        assert rbm.hidden_field(x).dtype == torch.float32
        set_gradient(rbm, x, negatives)
    assert rbm.product_dtype == torch.float32
    for name, parameter in rbm.named_parameters():
        assert parameter.grad is not None
        error = (parameter.grad - exact[name]).abs()
        assert error.max() < 0.02 * exact[name].abs().max(), name
        assert error.max() > 0 or "visible" in name


@BF16
def test_training_in_bf16_stays_near_float32_and_keeps_float32_weights() -> None:
    made = {name: trainer(precision=name, gibbs_steps=1) for name in ("float32", "bf16")}
    for each in made.values():
        run(each)
    a, b = (made[name].rbm.weight.detach() for name in ("float32", "bf16"))
    assert a.dtype == b.dtype == torch.float32
    assert 0 < (a - b).norm() / a.norm() < 0.2


# What is said


def test_trouble_is_logged_and_shown(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    config = Pretraining(**(SMALL | {"learning_rate": 20.0, "warmup_epochs": 0}))  # type: ignore[arg-type]
    with caplog.at_level(logging.WARNING, logger="dbn"):
        pretrain_stack(data(config), config, begin(tmp_path / "run", to_dict(config), resume=False, overwrite=False))
    said = [record.getMessage() for record in caplog.records]
    assert any(re.match("layer 1, epoch 1: .* of the hidden units are off", sentence) for sentence in said)
    shown = events(tmp_path / "run")
    assert "layer1/warnings/text_summary" in shown.Tags()["tensors"]
    assert (
        "lower --momentum or --learning-rate"
        in shown.Tensors("layer1/warnings/text_summary")[0].tensor_proto.string_val[0].decode()
    )


def test_a_rate_that_falls_to_zero_is_no_trouble(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    config = Pretraining(**(SMALL | {"learning_rate": "0.1:0"}))  # type: ignore[arg-type]
    pretrain_stack(data(config), config, begin(tmp_path / "run", to_dict(config), resume=False, overwrite=False))
    rates = [value for _, value in curves(tmp_path / "run")["layer1/learning_rate"]]
    assert rates[1:] == sorted(rates[1:], reverse=True)  # after the warm-up
    assert not [record for record in caplog.records if "raise --learning-rate" in record.getMessage()]


def test_persistent_chains_are_the_estimators_own() -> None:
    made = trainer(estimator="pcd", chains=17)
    assert isinstance(made.chains, PersistentChains)
    run(made)
    assert made.chains.state()["v"].shape == (17, 36)
    assert trainer(estimator="pt", chains=3, temperatures=5).chains.betas == (0, 0.25, 0.5, 0.75, 1)  # type: ignore[attr-defined]


# States


STATES = [
    {"estimator": "pcd", "sparsity_target": 0.1, "centered": True, "average": 0.9},
    {"estimator": "pt", "temperatures": 3, "optimizer": "adam"},
    {"estimator": "cd", "l1": 0.01, "optimizer": "rmsprop", "momentum": 0.5},
]


@pytest.mark.parametrize("options", STATES)
def test_a_state_is_checked_without_touching_the_trainer(options: dict[str, Any]) -> None:
    """Loading into a fresh trainer draws nothing and changes nothing but by the state's values."""
    made, fresh = trainer(**options), trainer(**options)
    made.step(next(made.batches(1)), 1, 0)
    state = copy.deepcopy(made.state())
    before = {name: value.clone() for name, value in fresh.rbm.state_dict().items()}
    noise, draws = fresh.noise.get_state(), torch.get_rng_state()
    expected = fresh._state_structure()
    assert {name: value.shape for name, value in expected["chains"].items()} == {
        name: value.shape for name, value in state["chains"].items()
    }
    assert expected["penalties"].keys() == state["penalties"].keys()
    assert all(value.equal(before[name]) for name, value in fresh.rbm.state_dict().items())
    assert all(parameter.grad is None for parameter in fresh.rbm.parameters())
    assert fresh.chains.state() == {}
    assert fresh.optimizer.state_dict()["state"] == {}
    fresh.load_state(state)
    assert fresh.noise.get_state().equal(noise)
    assert torch.get_rng_state().equal(draws)
    for each in (made, fresh):
        each.step(list(each.batches(1))[1], 1, 1)
    assert all(value.equal(made.rbm.state_dict()[name]) for name, value in fresh.rbm.state_dict().items())


@pytest.mark.parametrize("options", STATES)
@pytest.mark.parametrize("other", STATES)
def test_a_state_of_other_options_is_refused(options: dict[str, Any], other: dict[str, Any]) -> None:
    made, fresh = trainer(**options), trainer(**other)
    made.step(next(made.batches(1)), 1, 0)
    if options == other:
        fresh.load_state(made.state())
    else:
        with pytest.raises((ValueError, LookupError, AttributeError, TypeError)):
            fresh.load_state(made.state())


def test_persistent_chains_of_an_earlier_version_go_on() -> None:
    """They had W v beside them, which chains now compute anew."""
    made, fresh = trainer(estimator="pcd"), trainer(estimator="pcd")
    made.step(next(made.batches(1)), 1, 0)
    state = made.state()
    fresh.load_state(state | {"chains": state["chains"] | {"field": torch.zeros(40, 9)}})
    assert fresh.state()["chains"].keys() == state["chains"].keys() == {"v", "reference"}


@pytest.mark.parametrize(
    "state",
    [
        {0: {}},
        {0: {"step": torch.tensor(1.0), "exp_avg": torch.zeros(9, 36)}},
        {0: {"step": torch.tensor(1.0), "exp_avg": torch.zeros(9, 36), "exp_avg_sq": torch.zeros(9, 35)}},
        {9: {"step": torch.tensor(1.0), "exp_avg": torch.zeros(9, 36), "exp_avg_sq": torch.zeros(9, 36)}},
        {0: {"step": torch.tensor(1.0), "exp_avg": torch.zeros(9, 36), "exp_avg_sq": 3}},
    ],
)
def test_a_state_of_another_optimizer_is_refused(state: dict[int, Any]) -> None:
    made = trainer(optimizer="adam")
    with pytest.raises((ValueError, LookupError, AttributeError)):
        restore_optimizer(made.optimizer, state)
