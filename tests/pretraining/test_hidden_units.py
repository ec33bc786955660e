"""Gaussian hidden units and mixed stacks: trained, measured, resumed, saved, fine-tuned and evaluated."""

import math
import runpy
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny import events, metrics, pictures, save_pictures, splits
from torch import Tensor

import dbn
from dbn.config.common import to_dict
from dbn.config.finetuning import Finetuning
from dbn.config.pretraining import Pretraining
from dbn.data.cut import splits_from_arrays
from dbn.errors import InputError
from dbn.finetuning.comparison import Comparison
from dbn.finetuning.problem import Problem
from dbn.initializers.arms import parse_arm
from dbn.models.dbn import DBN
from dbn.models.rbm import RBM
from dbn.models.units import Gaussian
from dbn.pretraining.divergence import Diverged
from dbn.pretraining.pretrain import unlabeled
from dbn.pretraining.stack import new_rbm, pretrain_stack
from dbn.pretraining.trainer import LayerTrainer
from dbn.runs.folder import RunFolder
from dbn.runs.resume import begin

CPU = torch.device("cpu")
SCRIPTS = Path(__file__).parents[2] / "scripts"
MIXED = Pretraining(hidden=(7, 6, 5), hidden_units=("gaussian", "gaussian", "bernoulli"), epochs=(2,), batch_size=40)
REAL = np.random.default_rng(0).normal(size=(150, 8)).astype(np.float32) @ np.diag(
    np.arange(1.0, 9.0, dtype=np.float32)
)


def stack_of(config: Pretraining, run: RunFolder | None = None, x: Any = None) -> DBN:
    data = splits_from_arrays(pictures()[0] if x is None else x)
    return pretrain_stack(unlabeled(data, config, CPU), config, run)


def trainer(**options: Any) -> LayerTrainer:
    config = Pretraining(**({"hidden": (9,), "hidden_units": ("gaussian",), "epochs": (2,), "seed": 3} | options))
    x = REAL if config.visible == "gaussian" else pictures()[0]
    data = unlabeled(splits_from_arrays(x), config, CPU)
    return LayerTrainer(new_rbm(data.train.shape[1], 1, config), [], data, config)


def test_a_step_is_that_of_gaussian_hidden_units(monkeypatch: pytest.MonkeyPatch) -> None:
    """CD-1 with all units at their means: h = W v + b at λ = 1, and for log λ the difference of E[−h²/2]."""
    made = trainer(batch_size=200, momentum=0.0, weight_decay=0.0, warmup_epochs=0, learning_rate=0.01)
    before = {name: value.double() for name, value in made.rbm.state_dict().items()}
    for units in (type(made.rbm.visible), type(made.rbm.hidden)):
        monkeypatch.setattr(units, "sample", lambda self, field, generator=None: self.mean(field))
    w, c = before["weight"], before["visible.bias"]
    v = made.data.all().double()
    made.step(torch.arange(len(v)), 1, 0)
    h = v @ w.T
    v1 = torch.sigmoid(h @ w + c)
    h1 = v1 @ w.T
    rate, n = 0.01, len(v)
    found = {name: value.double() - before[name] for name, value in made.rbm.state_dict().items()}
    torch.testing.assert_close(found["weight"], rate * (h.T @ v - h1.T @ v1) / n, rtol=1e-3, atol=1e-7)
    torch.testing.assert_close(found["hidden.bias"], rate * (h - h1).mean(0), rtol=1e-3, atol=1e-7)
    torch.testing.assert_close(
        found["hidden.log_precision"], rate * (h1.square() - h.square()).mean(0) / 2, rtol=1e-3, atol=1e-7
    )
    assert found["weight"].abs().max() > 1e-5


def test_default_rates_are_lower_beside_gaussian_units() -> None:
    kinds: tuple[str, ...] = ("bernoulli", "bernoulli", "gaussian")
    config = Pretraining(hidden=(5, 5, 5), hidden_units=kinds)
    assert config.resolved()["learning_rate"] == (0.1, 0.1, 0.01)
    assert replace(config, hidden_units=("gaussian",)).resolved()["learning_rate"] == (0.01,)
    assert replace(config, batch_size=100).resolved()["learning_rate"] == (0.2, 0.2, 0.01)


def test_a_mixed_stack_is_trained_measured_saved_and_loaded(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with begin(tmp_path / "run", to_dict(MIXED), resume=False, overwrite=False) as run:
        stack = stack_of(MIXED, run)
    assert [rbm.hidden.kind for rbm in stack.layers] == ["gaussian", "gaussian", "bernoulli"]
    assert [rbm.visible.kind for rbm in stack.layers] == ["bernoulli", "gaussian", "gaussian"]
    for record in metrics(tmp_path / "run"):
        assert all(math.isfinite(value) for value in record.values())
        assert ("hidden_off" in record) is (record["layer"] == 3)  # a mean of 0 is no unit that is off
    assert "hidden units are" not in caplog.text
    again = dbn.load(tmp_path / "run")
    assert again.description() == stack.description()
    assert all(value.equal(again.state_dict()[name]) for name, value in stack.state_dict().items())
    x = torch.rand(4, 36)
    torch.testing.assert_close(again.encoder()(x), again.up(x))
    shown = events(tmp_path / "run").Tags()["images"]
    assert {f"layer{layer}/{name}" for layer in (1, 2, 3) for name in ("filters", "reconstructions")} <= set(shown)


@pytest.mark.parametrize("estimator", ["cd", "pcd", "pt"])
def test_an_interrupted_mixed_stack_is_resumed(estimator: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = replace(MIXED, estimator=estimator, centered=True, average=0.9, sparsity_target=0.1)
    save = RunFolder.save_checkpoint

    def stop(self: RunFolder, state: dict[str, Any], *logs: Path) -> None:
        save(self, state, *logs)
        if (state["layer"], state["epoch"]) == (2, 1):
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "save_checkpoint", stop)
        with (
            pytest.raises(KeyboardInterrupt),
            begin(tmp_path / "run", to_dict(config), resume=False, overwrite=False) as run,
        ):
            stack_of(config, run)
    with begin(tmp_path / "run", to_dict(config), resume=True, overwrite=False) as run:
        resumed = stack_of(config, run)
    whole = stack_of(config)
    assert all(value.equal(resumed.state_dict()[name]) for name, value in whole.state_dict().items())


def test_a_tied_layer_takes_the_precision_of_the_data(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[dict[str, Tensor]] = []

    def start(self: LayerTrainer, *_: Any, **__: Any) -> None:
        with torch.no_grad():
            for number, parameter in enumerate(self.rbm.parameters()):
                parameter.add_(0.1 * (number + 1)) if self.layer == 1 else None
        started.append({name: value.clone() for name, value in self.rbm.state_dict().items()})

    monkeypatch.setattr("dbn.pretraining.stack.train_layer", start)
    config = Pretraining(hidden=(5, 10), visible="gaussian", hidden_units=("bernoulli", "gaussian"), tied=True)
    stack_of(config, x=REAL)
    lower, upper = started
    assert upper["weight"][:8].equal(lower["weight"].T)
    for name in ("bias", "log_precision"):
        assert upper[f"hidden.{name}"][:8].equal(lower[f"visible.{name}"])
    assert upper["hidden.log_precision"][8:].tolist() == [0.0, 0.0]
    assert upper["visible.bias"].equal(lower["hidden.bias"])
    with pytest.raises(InputError, match="10 bernoulli hidden units cannot start as the 8 gaussian units"):
        stack_of(replace(config, hidden_units=("bernoulli",)), x=REAL)


# No finite Z


@pytest.mark.parametrize(("norm", "is_sound"), [(0.99, True), (1.01, False)])
@pytest.mark.parametrize("averaged", [False, True])
def test_an_infinite_z_is_divergence(norm: float, is_sound: bool, averaged: bool) -> None:
    """‖Λ_h^−½ W Λ_v^−½‖₂ < 1, here of Λ_v = 4 and Λ_h = 9: of the RBM that learns, and of the average that is kept."""
    made = trainer(visible="gaussian", average=0.9 if averaged else None)
    rbm = made.kept
    with torch.no_grad():
        assert isinstance(rbm.visible, Gaussian)
        assert isinstance(rbm.hidden, Gaussian)
        rbm.visible.log_precision.fill_(math.log(4.0))
        rbm.hidden.log_precision.fill_(math.log(9.0))
        rbm.weight.mul_(6 * norm / torch.linalg.matrix_norm(rbm.weight, 2))
    if is_sound:
        made.check_sound(1)
    else:
        with pytest.raises(
            Diverged, match=r"^layer 1 diverged in epoch 1, its gaussian and gaussian units .* Z is inf"
        ):
            made.check_sound(1)


def test_a_run_without_a_finite_z_ends_in_one_sentence() -> None:
    rng = np.random.default_rng(0)
    x = (rng.normal(size=(1000, 30)) @ rng.normal(size=(30, 30))).astype(np.float32)
    with pytest.raises(InputError, match=r"coupled so strongly that Z is infinite: lower learning_rate, .* there$"):
        dbn.pretrain(
            x, hidden=10, visible="gaussian", hidden_units="gaussian", learning_rate=0.3, epochs=1, batch_size=100
        )


# What follows


def test_a_mixed_stack_is_fine_tuned(tmp_path: Path) -> None:
    stack = stack_of(MIXED)
    config = Finetuning(init=("dbn", "dbn:tanh", "he_normal"), labels=24, seeds=1, epochs=2, batch_size=10)
    problem = Problem(splits(), stack.scaling, (7, 6, 5), (stack,), config)
    comparison = Comparison(problem, None)
    start = problem.network(parse_arm("dbn"), 0)
    first = stack.layers[0]
    weight, bias, _ = first.hidden.as_linear(first.weight)
    assert start[0].weight.equal(weight)
    assert start[0].bias.equal(bias)
    tested = comparison.test(comparison.train())
    assert all(0 <= scores[0].error <= 100 for scores in tested.values())
    assert list(tested) == ["dbn", "dbn:tanh", "he_normal"]


def test_log_z_of_gaussian_hidden_units_is_measured() -> None:
    """By annealing, beside the exact sum over the states of the visible units: 2^9 of them."""
    config = Pretraining(hidden=(4,), hidden_units=("gaussian",), epochs=(5,), batch_size=10, binarize="fixed",
                         likelihood_every=5)  # fmt: skip
    x = pictures(n=300, side=3)[0]
    stack = stack_of(config, x=x)
    rbm: RBM = stack.layers[0]
    v = torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * 9)
    log_z = torch.logsumexp(-rbm.free_energy(v).double(), 0).item()
    assert stack.history[-1]["log_z"] == pytest.approx(log_z, abs=0.05)


# The command line


def test_the_option_of_the_script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    words = ["--dataset", str(save_pictures(tmp_path / "a.npz")), "--run", str(tmp_path / "run"), "--hidden", "7", "5",
             "--epochs", "2", "--hidden-units"]  # fmt: skip

    def run(*kinds: str) -> None:
        monkeypatch.setattr(sys, "argv", ["pretrain.py", *words, *kinds])
        runpy.run_path(str(SCRIPTS / "pretrain.py"), run_name="__main__")

    run("gaussian")
    assert [rbm.hidden.kind for rbm in dbn.load(tmp_path / "run").layers] == ["gaussian", "gaussian"]
    assert RunFolder(tmp_path / "run").read_config()["hidden_units"] == ["gaussian"]
    assert "layer  epochs" in capsys.readouterr().out
    for kinds, said in ((["gaussian"] * 3, "takes one value or one"), (["gausian"], "not 'gausian'")):
        with pytest.raises(SystemExit):
            run(*kinds)
        assert said in capsys.readouterr().err


COUNTS = np.random.default_rng(1).binomial(200, np.linspace(0.1, 0.9, 8), size=(150, 8)).astype(np.uint8)


def test_counts_are_learned_as_they_are_and_seed_a_network(tmp_path: Path) -> None:
    """Bytes above 127, which would be divided by 255 as gray levels."""
    options: dict[str, Any] = {"visible": "binomial(trials=200)", "hidden_units": ["binomial(trials=3)", "relu"]}
    stack = dbn.pretrain(COUNTS, [6, 4], epochs=2, learning_rate=0.001, run=tmp_path / "run", **options)
    again = dbn.load(tmp_path / "run")
    assert again.scaling.divisor == 1
    assert [rbm.visible.spec for rbm in again.layers] == ["binomial(trials=200)", "binomial(trials=3)"]
    assert again.layers[1].hidden.kind == "relu"
    x = torch.from_numpy(COUNTS)
    assert torch.equal(again.scale(x), x.float())
    torch.testing.assert_close(again.up(x), stack.up(x))
    # The lowest layer's means over its trials are what the network passes on.
    h = again.up(x, layers=1)
    torch.testing.assert_close(3 * again.encoder()[:2](again.scale(x)), h)
    upper = again.layers[1]
    most_probable = torch.relu((upper.hidden_field(h) + upper.hidden.bias) / upper.hidden.natural()["precision"])
    torch.testing.assert_close(again.encoder()(again.scale(x)), most_probable)


def test_double_rectified_units_are_learned_saved_resumed_and_seed_a_network_of_another_activation(
    tmp_path: Path,
) -> None:
    x, y = pictures()
    options: dict[str, Any] = {"hidden": [6, 4], "hidden_units": "drelu", "learning_rate": 0.01, "device": "cpu"}
    dbn.pretrain(x, epochs=2, run=tmp_path / "run", **options)
    longer = dbn.pretrain(x, epochs=[2, 4], run=tmp_path / "run", resume=True, **options)
    stack = dbn.load(tmp_path / "run")
    assert all(value.equal(stack.state_dict()[name]) for name, value in longer.state_dict().items())
    lower, upper = stack.layers
    assert {"threshold", "log_precision_plus", "log_precision_minus"} < {
        name for name, _ in lower.hidden.named_parameters()
    }
    for name in ("threshold", "log_precision_plus", "log_precision_minus"):
        assert lower.hidden.get_parameter(name).std() > 0
        assert upper.visible.get_parameter(name).std() > 0
    data = stack.scale(x)
    torch.testing.assert_close(stack.encoder()(data), stack.up(x))
    with pytest.raises(InputError, match=r"but no network has theirs, DoubleReLU\(6\): write dbn:sigmoid for"):
        dbn.compare(x, y, init=["dbn"], pretrained=[stack], epochs=1)
    assert list(dbn.compare(x, y, init=["dbn:tanh"], pretrained=[stack], epochs=1, seeds=1).to_dict()["arms"])


@pytest.mark.parametrize(
    ("x", "options", "sentence"),
    [
        (COUNTS, {"visible": "binomial(trials=150)"}, "binomial(trials=…) with trials at least the greatest value"),
        (
            COUNTS,
            {"visible": "binomial(trials=200)", "divisor": 2},
            "in row 0, column .*, but binomial units need whole",
        ),
        (COUNTS - 0.5, {"visible": "binomial(trials=200)"}, "column 0 .counted from 0., but binomial units need whole"),
        (REAL, {"visible": "relu"}, "relu units need values of 0 or more: use"),
    ],
)
def test_values_that_are_no_counts_or_below_0_are_refused(x: Any, options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence.replace("(trials=…)", r"\(trials=…\)")):
        dbn.pretrain(x, [4], epochs=1, **options)


def test_relu_units_that_diverge_on_wide_values_are_to_be_divided_and_then_do_not() -> None:
    x = torch.from_numpy(np.random.default_rng(0).exponential(200.0, (200, 4))).float()
    options: dict[str, Any] = {"visible": "relu", "hidden": [5], "epochs": 40, "batch_size": 10, "device": "cpu"}
    with pytest.raises(InputError, match=r"diverged in .*: divide the data, here up to \d+\.?\d*, with divisor='max'"):
        dbn.pretrain(x, **options)
    stack = dbn.pretrain(x, divisor="max", **options)
    assert stack.history[-1]["epoch"] == 40
    first, *_, last = [record["valid_kl"] for record in stack.history if "valid_kl" in record]
    assert last < 1.05 * first  # columns are independent: there is no more to learn


@pytest.mark.parametrize("kind", ["relu", "drelu"])
def test_columns_that_hardly_vary_are_named_where_units_diverge_and_what_is_advised_helps(kind: str) -> None:
    x = 2 + 0.05 * torch.rand(60, 4, generator=torch.Generator().manual_seed(0)) @ torch.ones(4, 6)
    options: dict[str, Any] = {"visible": kind, "hidden": [5], "epochs": 5, "batch_size": 10, "device": "cpu"}
    with pytest.raises(
        InputError, match=r"subtract from the columns, which vary by as little as 0.01 of their mean, w"
    ):
        dbn.pretrain(x, **options)
    assert dbn.pretrain(x - x.min(), **options).history[-1]["epoch"] == 5


def test_rectified_features_that_hardly_vary_are_named_where_units_above_diverge() -> None:
    """Those of small weights are near one mean, not 0. Double rectified ones are near 0, and do not diverge."""
    x = torch.rand(60, 3, generator=torch.Generator().manual_seed(0))
    options: dict[str, Any] = {"hidden": [4, 3], "epochs": 3, "batch_size": 10, "visible": "gaussian", "device": "cpu"}
    said = r"layer 2 diverged .*: train layer 1 with other hidden_units than relu, whose features vary by as little as"
    with pytest.raises(InputError, match=said):
        dbn.pretrain(x, hidden_units="relu", learning_rate=[1e-6, 0.01], **options)
    other = dbn.pretrain(x, hidden_units="drelu", learning_rate=[1e-6, 0.01], **options)
    assert other.history[-1]["layer"] == 2


def test_relu_features_that_diverge_above_are_to_be_of_another_type_and_then_do_not() -> None:
    x = torch.distributions.Exponential(1.0).sample((60, 3)).float()
    options: dict[str, Any] = {"visible": "relu", "hidden": [4, 3], "epochs": 3, "batch_size": 10, "device": "cpu"}
    with pytest.raises(InputError, match=r"layer 2 diverged .*: train layer 1 with other hidden_units than relu"):
        dbn.pretrain(x, hidden_units=["relu", "bernoulli"], learning_rate=[0.001, 1.0], **options)
    assert dbn.pretrain(x, hidden_units=["bernoulli", "bernoulli"], **options).history[-1]["layer"] == 2
