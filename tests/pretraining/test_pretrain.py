"""Greedy training: what is learnt, what it depends on, and that an interruption leaves no trace."""

import json
import math
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from enumeration import support
from google.protobuf import text_format
from PIL import Image
from tensorboard.plugins.custom_scalar.layout_pb2 import Layout
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData
from tensorboard.plugins.projector.projector_config_pb2 import ProjectorConfig
from tiny import TIMES, curves, events, metrics, pictures, steps
from torch import Tensor
from torch.nn import functional as F

import dbn
from dbn.config.common import to_dict
from dbn.config.pretraining import Pretraining
from dbn.data.cut import splits_from_arrays
from dbn.errors import InputError
from dbn.likelihood import exact
from dbn.likelihood.ais import temperature_schedule
from dbn.likelihood.dbn_bound import dbn_bound
from dbn.models.dbn import DBN
from dbn.models.rbm import RBM
from dbn.models.scaling import Scaling
from dbn.pretraining import monitor
from dbn.pretraining.layer_data import Unlabeled
from dbn.pretraining.pretrain import summary, unlabeled
from dbn.pretraining.stack import new_rbm, pretrain_stack
from dbn.pretraining.trainer import LayerTrainer
from dbn.runs.folder import RunFolder
from dbn.runs.resume import begin
from dbn.runs.weights import load
from dbn.sampling.contrastive_divergence import DataChains
from dbn.training.loop import run_epochs

CPU = torch.device("cpu")
SMALL = Pretraining(hidden=(7, 5), epochs=(3,), batch_size=40, measure_every=2, picture_every=2, seed=3)
"""Four steps an epoch, and measurements and pictures that fall between epochs."""


def small_data(config: Pretraining = SMALL) -> Unlabeled:
    return unlabeled(splits_from_arrays(pictures()[0]), config, CPU)


def train(path: Path | None = None, config: Pretraining = SMALL, *, resume: bool = False, **options: Any) -> DBN:
    """Likelihoods are annealed in 100 steps in place of 1,000."""
    run = begin(path, to_dict(config), resume=resume, overwrite=False) if path else None
    with mock.patch.object(monitor, "temperature_schedule", return_value=temperature_schedule(101)):
        return pretrain_stack(small_data(config), config, run, **options)


def same_weights(a: torch.nn.Module, b: torch.nn.Module) -> bool:
    ours, theirs = a.state_dict(), b.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


# What is learnt


def bars_and_stripes() -> Tensor:
    """The 14 patterns 3×3 whose rows, or columns, are each all on or all off."""
    lines = torch.tensor(list(product([0, 1], repeat=3)), dtype=torch.uint8)
    stripes = lines[:, :, None].expand(8, 3, 3).reshape(8, 9)
    bars = lines[:, None, :].expand(8, 3, 3).reshape(8, 9)
    patterns: Tensor = torch.cat([stripes, bars]).unique(dim=0)
    return patterns


@torch.no_grad()
def log_likelihood(rbm: RBM, v: Tensor) -> float:
    """Mean log p(v) in nats, Z summed over every visible state."""
    exact = RBM(type(rbm.visible)(rbm.visible.size), type(rbm.hidden)(rbm.hidden.size)).double()
    exact.load_state_dict(rbm.state_dict())
    states, _ = support(exact.visible)
    log_z = (-exact.free_energy(states)).logsumexp(0)
    return float((-exact.free_energy(v.double()) - log_z).mean())


def learn_bars_and_stripes(
    seed: int, gibbs_steps: int, epochs: int, chains: DataChains | None, batch_size: int = 70
) -> tuple[float, float]:
    """Mean log-likelihood of the patterns before and after."""
    patterns = bars_and_stripes()
    assert len(patterns) == 14
    config = Pretraining(
        hidden=(16,), batch_size=batch_size, learning_rate=(batch_size / 350,), momentum=0.5, weight_decay=0.0,
        seed=seed, gibbs_steps=(gibbs_steps,),
    )  # fmt: skip
    trainer = LayerTrainer(new_rbm(9, 1, config), [], Unlabeled(patterns.repeat(100, 1), None, Scaling(1.0)), config)
    trainer.chains = chains or trainer.chains
    before = log_likelihood(trainer.rbm, patterns)
    run_epochs(range(1, epochs + 1), trainer.batches, trainer.step, lambda *_: False, device=CPU)
    return before, log_likelihood(trainer.rbm, patterns)


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (1, 2))])
def test_cd_10_with_samples_learns_bars_and_stripes(seed: int) -> None:
    best = -math.log(14)
    _, after = learn_bars_and_stripes(seed, 10, 60, DataChains(10, mean_last=False), batch_size=140)
    assert best - 0.3 < after < best


@pytest.mark.parametrize("seed", range(3))
def test_cd_1_rises(seed: int) -> None:
    before, after = learn_bars_and_stripes(seed, 1, 40, None)
    assert before == pytest.approx(-9 * math.log(2), abs=0.05)  # every pixel is on in half of the patterns
    assert after > before + 1.5


BEST = {"cd": 0.65, "pcd": 0.5, "pt": 0.5}
"""The distance of each estimator's defaults from the best log-likelihood, in nats; independent bits are 1.40 away."""


@pytest.mark.parametrize("estimator", BEST)
@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 4))])
def test_the_defaults_of_each_estimator_come_near_the_best(estimator: str, seed: int) -> None:
    """On four patterns of eight bits, of which one in ten is flipped; the best is minus the entropy of the rows."""
    rng = np.random.default_rng(0)
    patterns = np.array([[1, 1, 1, 0, 0, 0, 0, 0], [0, 0, 0, 1, 1, 1, 0, 0], [1, 0] * 4, [0, 0, 0, 0, 0, 0, 1, 1]])
    x = patterns[np.arange(1000) % 4] ^ (rng.random((1000, 8)) < 0.1)
    shares = np.unique(x, axis=0, return_counts=True)[1] / len(x)
    best = float(shares @ np.log(shares))
    on = x.mean(0)
    assert best - float(on @ np.log(on) + (1 - on) @ np.log(1 - on)) == pytest.approx(1.40, abs=0.005)
    rbm = dbn.train_rbm(x, 8, estimator=estimator, seed=seed)
    assert best - BEST[estimator] < log_likelihood(rbm, torch.from_numpy(x).float()) < best


def factor_table(seed: int) -> Tensor:
    """Twelve columns of variance 1, each one of three binary factors plus noise of precision 4; then in other units."""
    generator = torch.Generator().manual_seed(seed)
    factors = (torch.rand(5000, 3, generator=generator) < 0.5).float()
    loading = torch.eye(3).repeat(1, 4) * torch.where(torch.rand(12, generator=generator) < 0.5, -1.0, 1.0)
    x = factors @ loading * 3**0.5 + 0.5 * torch.randn(5000, 12, generator=generator)
    return 10 + 3 * x


@pytest.mark.parametrize("seed", range(3))
def test_the_precision_of_noise_is_learnt(seed: int) -> None:
    stack = dbn.pretrain(factor_table(seed), [8], visible="gaussian", epochs=30, seed=seed)
    precision = dict(stack.layers[0].visible.natural())["precision"]
    # A column that nothing explains has precision 1; reconstruction means in place of samples run off to 0.1.
    assert ((precision > 3.2) & (precision < 4.8)).all()


def test_the_defaults_hold_on_a_table(tmp_path: Path) -> None:
    stack = dbn.pretrain(
        factor_table(0), [8, 4], visible="gaussian", epochs=(60, 10), picture_every=20, run=tmp_path / "run"
    )
    precision = dict(stack.layers[0].visible.natural())["precision"]
    assert ((precision > 2) & (precision < 4.8)).all()
    of_layers = [
        [r["valid_reconstruction_error"] for r in metrics(tmp_path / "run") if r["layer"] == n] for n in (1, 2)
    ]
    assert of_layers[0][-1] < 0.6 * of_layers[0][0]
    assert of_layers[1][-1] < of_layers[1][0]


def test_the_defaults_hold_on_color_pictures(tmp_path: Path) -> None:
    coarse = torch.rand(2000, 3, 3, 3, generator=torch.Generator().manual_seed(0))
    x = (255 * F.interpolate(coarse, size=(8, 8), mode="bilinear")).to(torch.uint8)
    stack = dbn.pretrain(x, [40], visible="gaussian", run=tmp_path / "run")
    errors = [record["valid_reconstruction_error"] for record in metrics(tmp_path / "run")]
    assert errors[0] == pytest.approx(3 * 64, rel=0.05)  # standardised, and nothing learnt yet
    assert errors[-1] < 0.95 * errors[0]
    assert all(parameter.isfinite().all() for parameter in stack.parameters())
    assert stack.image_shape == (3, 8, 8)
    assert {"layer1/reconstructions", "layer1/filters"} <= set(steps(tmp_path / "run"))


# What it depends on


@pytest.mark.parametrize(
    "options",
    [{}, {"binarize": "sample", "features": "sample"}, {"visible": "gaussian", "optimizer": "adam"}],
    ids=["means", "samples", "gaussian, adam"],
)
def test_a_seed_gives_the_same_bytes(options: dict[str, Any], tmp_path: Path) -> None:
    config = replace(SMALL, **options)
    for name in ("a", "b"):
        train(tmp_path / name, config)
    for file in ("dbn.safetensors", "encoder.safetensors"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()
    assert metrics(tmp_path / "a") == metrics(tmp_path / "b")
    other = train(config=replace(config, seed=4))
    for ours, theirs in zip(load(tmp_path / "a").layers, other.layers, strict=True):
        assert (ours.weight != theirs.weight).float().mean() > 0.99


@pytest.mark.parametrize(
    ("options", "arguments"),
    [
        ({"measure_every": 1, "picture_every": 1, "likelihood_every": 1}, {"progress": True}),
        ({"measure_every": 100, "picture_every": 100}, {}),
    ],
    ids=["much", "little"],
)
@pytest.mark.parametrize("kind", ["samples", "pcd", "pt"])
def test_measuring_changes_no_weight(
    options: dict[str, Any], arguments: dict[str, Any], kind: str, tmp_path: Path
) -> None:
    config = replace(RESUMED.get(kind, SMALL), features="sample", binarize="sample")
    bare = train(config=config)
    torch.manual_seed(9)
    assert same_weights(train(tmp_path / "run", replace(config, **options), **arguments), bare)
    assert same_weights(load(tmp_path / "run"), bare)


def test_only_due_epochs_are_measured_and_drawn(tmp_path: Path) -> None:
    train(tmp_path / "run", replace(SMALL, epochs=(5,)))
    measured = [(r["layer"], r["epoch"]) for r in metrics(tmp_path / "run") if "kl" in r]
    assert measured == [(1, 2), (1, 4), (1, 5), (2, 2), (2, 4), (2, 5)]
    assert steps(tmp_path / "run")["layer2/filters"] == [2, 4, 5]


def test_torch_is_left_in_its_random_state() -> None:
    torch.manual_seed(1)
    wanted = torch.rand(3)
    torch.manual_seed(1)
    train()
    assert torch.equal(torch.rand(3), wanted)


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[Any]]:
    """What every step of a training was done with."""
    found: dict[str, list[Any]] = {"settings": [], "data": []}
    step = LayerTrainer.step

    def watch(self: LayerTrainer, indices: Tensor, epoch: int, number: int) -> None:
        if number == 0:
            matrices, vectors = self.optimizer.param_groups
            assert matrices["momentum"] == vectors["momentum"]
            assert matrices["lr"] == vectors["lr"]
            assert [p.ndim for p in matrices["params"]] == [2]
            decay = (matrices["weight_decay"], vectors["weight_decay"])
            assert isinstance(self.chains, DataChains)
            found["settings"].append(
                (self.layer, epoch, matrices["lr"], matrices["momentum"], decay, self.chains.steps)
            )
            found["data"].append(self.data.all())
        step(self, indices, epoch, number)

    monkeypatch.setattr(LayerTrainer, "step", watch)
    return found


def test_every_layer_gets_its_own_settings(seen: dict[str, list[Any]]) -> None:
    train(
        config=replace(
            SMALL, epochs=(3, 2), learning_rate=(0.1, 0.02), gibbs_steps=(1, 4), momentum="0.5,0.9@2", weight_decay=0.01
        )
    )
    decay = (0.01, 0.0)
    assert seen["settings"] == [
        (1, 1, 0.1, 0.5, decay, 1),
        (1, 2, 0.1, 0.9, decay, 1),
        (1, 3, 0.1, 0.9, decay, 1),
        (2, 1, 0.02, 0.5, decay, 4),
        (2, 2, 0.02, 0.9, decay, 4),
    ]


def test_every_step_has_noise_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    seeds = []
    step = LayerTrainer.step

    def watch(self: LayerTrainer, indices: Tensor, epoch: int, number: int) -> None:
        step(self, indices, epoch, number)
        seeds.append(self.noise.initial_seed() % 2**32)  # all that torch's generator uses

    monkeypatch.setattr(LayerTrainer, "step", watch)
    train()
    assert len(seeds) == len(set(seeds)) == 2 * 3 * 4


def test_a_layer_learns_from_the_means_below(seen: dict[str, list[Any]]) -> None:
    stack, data = train(), small_data()
    for first in seen["data"][:3]:
        assert torch.equal(first, data.train / 255)
    for second in seen["data"][3:]:
        assert torch.equal(second, stack.up(stack.scale(data.train), 1))


def test_a_layer_learns_from_samples_below(seen: dict[str, list[Any]]) -> None:
    stack, data = train(config=replace(SMALL, features="sample")), small_data()
    draws = torch.stack(seen["data"][3:])
    assert set(draws.unique().tolist()) == {0.0, 1.0}
    assert (draws[0] != draws[1]).any()
    assert (draws[1] != draws[2]).any()
    p = stack.up(stack.scale(data.train), 1)
    error = draws.mean() - p.mean()
    assert error.abs() < 5 * (p * (1 - p)).sum().sqrt() / p.numel() / 3**0.5


def test_fixed_pixels_are_the_same_for_every_layer(seen: dict[str, list[Any]]) -> None:
    stack = train(config=replace(SMALL, binarize="fixed"))
    first = seen["data"][0]
    assert set(first.unique().tolist()) == {0.0, 1.0}
    assert all(torch.equal(again, first) for again in seen["data"][1:3])
    assert all(torch.equal(second, stack.up(first, 1)) for second in seen["data"][3:])


@pytest.mark.parametrize("options", [{}, {"features": "sample", "binarize": "sample"}], ids=["means", "samples"])
def test_the_layers_below_are_frozen(options: dict[str, Any]) -> None:
    config = replace(SMALL, **options)
    both, lower = train(config=config), train(config=replace(config, hidden=(7,)))
    assert same_weights(both.layers[0], lower.layers[0])
    assert not any(parameter.requires_grad for parameter in both.parameters())
    assert not both.training


def test_a_tied_layer_starts_at_the_value_of_the_one_below() -> None:
    config = replace(SMALL, hidden=(7, 36), tied=True, binarize="fixed")
    data = small_data(config)
    lower = train(config=replace(config, hidden=(7,))).layers[0]
    upper = LayerTrainer(new_rbm(36, 2, config), [lower], data, config).rbm
    stack, x = DBN([lower, upper]), data.scaling(data.train)
    bound = dbn_bound(stack, x, exact.log_partition(upper), samples=1)
    torch.testing.assert_close(bound, exact.log_likelihood(lower, x, exact.log_partition(lower)), rtol=0, atol=1e-3)


# Interruptions


class Killed(Exception):
    pass


def kill_at(monkeypatch: pytest.MonkeyPatch, owner: type, method: str, call: int, *, after: bool) -> None:
    """The `call`-th call of a method, from 1, is the last thing that happens, or what does not happen any more."""
    calls, original = 0, getattr(owner, method)

    def count(self: Any, *arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == call and not after:
            raise Killed
        value = original(self, *arguments)
        if calls == call:
            raise Killed
        return value

    monkeypatch.setattr(owner, method, count)


RESUMED = {
    "means, sgd": SMALL,
    "samples, adam": replace(SMALL, features="sample", binarize="sample", optimizer="adam"),
    "gaussian, rmsprop": replace(SMALL, visible="gaussian", optimizer="rmsprop"),
    "pcd": replace(
        SMALL,
        estimator="pcd",
        chains=30,
        centered=True,
        momentum=0.0,
        learning_rate=("0.1:0",),
        gibbs_steps=("1,3@2",),
        average=0.9,
        binarize="sample",
        features="sample",
        likelihood_every=2,
    ),
    "pt": replace(
        SMALL,
        estimator="pt",
        chains=10,
        temperatures=4,
        l1=1e-3,
        sparsity_target=0.2,
        max_norm=0.2,
        momentum="0.3:0.9",
    ),
}


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folders = {name: tmp_path_factory.mktemp("whole") / "run" for name in RESUMED}
    for name, path in folders.items():
        train(path, RESUMED[name])
    return folders


@pytest.mark.parametrize(
    ("kind", "method", "call", "after"),
    [
        *[("means, sgd", "save_checkpoint", call, after) for call in range(1, 7) for after in (True, False)],
        *[("samples, adam", "save_checkpoint", call, True) for call in (2, 3, 5)],
        ("gaussian, rmsprop", "save_checkpoint", 2, True),
        *[(kind, "save_checkpoint", call, True) for kind in ("pcd", "pt") for call in (1, 2, 3, 4)],
        *[("means, sgd", "step", call, True) for call in (1, 6, 23)],
    ],
)
def test_an_interruption_leaves_no_trace(
    kind: str, method: str, call: int, after: bool, uninterrupted: dict[str, Path], tmp_path: Path
) -> None:
    path, whole = tmp_path / "run", uninterrupted[kind]
    with pytest.MonkeyPatch.context() as patch:
        kill_at(patch, LayerTrainer if method == "step" else RunFolder, method, call, after=after)
        with pytest.raises(Killed):
            train(path, RESUMED[kind])
    train(path, RESUMED[kind], resume=True)
    for file in ("dbn.safetensors", "encoder.safetensors"):
        assert (path / file).read_bytes() == (whole / file).read_bytes()
    assert metrics(path) == metrics(whole)
    assert curves(path) == curves(whole)  # and texts, of which none stands twice
    assert curves(path / "validation") == curves(whole / "validation")
    assert steps(path) == steps(whole)
    for file in ("projector_config.pbtxt", "codes/tensors.tsv", "codes/sprite.png"):
        assert (path / file).read_bytes() == (whole / file).read_bytes()
    assert drawn(path) == drawn(whole)


def drawn(path: Path) -> list[bytes]:
    return [event.encoded_image_string for event in events(path).Images("layer2/samples")]


def test_a_finished_run_can_be_resumed(uninterrupted: dict[str, Path], tmp_path: Path) -> None:
    path, whole = tmp_path / "run", uninterrupted["means, sgd"]
    train(path)
    lines = (path / "metrics.jsonl").read_bytes()
    train(path, resume=True)
    assert (path / "metrics.jsonl").read_bytes() == lines
    assert (path / "dbn.safetensors").read_bytes() == (whole / "dbn.safetensors").read_bytes()
    assert curves(path) == curves(whole)


def test_a_run_goes_on_with_its_own_options_only(tmp_path: Path) -> None:
    train(tmp_path / "run")
    before = {file: file.read_bytes() for file in (tmp_path / "run").iterdir() if file.is_file()}
    changed = replace(SMALL, epochs=(4,), learning_rate=(0.2,))
    with pytest.raises(InputError, match=r"was started with --epochs 3 \(now 4\), --learning-rate 0\.1 \(now 0\.2\): "):
        train(tmp_path / "run", changed, resume=True)
    assert {file: file.read_bytes() for file in (tmp_path / "run").iterdir() if file.is_file()} == before


# What goes wrong


@pytest.mark.parametrize("average", [None, 0.5])
@pytest.mark.parametrize(
    ("rates", "where", "kept"),
    [
        ((0.1, 1e38), "layer 2 diverged in epoch 1", "layer 1, epoch 3"),
        ((0.1, "0.1,1e38@3"), "layer 2 diverged in epoch 3", "layer 2, epoch 2"),
        ((1e38, 0.1), "layer 1 diverged in epoch 1", None),
    ],
)
def test_divergence_keeps_the_last_good_epoch(
    rates: tuple[float | str, ...], where: str, kept: str | None, average: float | None, tmp_path: Path
) -> None:
    config = replace(SMALL, learning_rate=rates, weight_decay=0.1, warmup_epochs=0, average=average)
    with pytest.raises(InputError, match=f"^{where}, .*lower --learning-rate, which is 1e.38") as raised:
        train(tmp_path / "run", config)
    if kept is None:
        assert not (tmp_path / "run" / "dbn.safetensors").exists()
        return
    assert str(raised.value).endswith(f"{tmp_path / 'run'} keeps the stack as of {kept}")
    layers, epoch = int(kept[6]), int(kept[-1])
    good = replace(config, hidden=SMALL.hidden[:layers], learning_rate=(0.1,), epochs=(3, epoch)[:layers])
    assert same_weights(load(tmp_path / "run"), train(config=good))


@pytest.mark.parametrize("visible", ["bernoulli", "gaussian"])
@pytest.mark.parametrize("rate", [3.0, 30.0, 1e3, 1e10, 1e20, 1e30, 1e38])
def test_no_learning_rate_ends_in_another_error(visible: Any, rate: float, tmp_path: Path) -> None:
    config = replace(SMALL, visible=visible, learning_rate=(rate,), picture_every=1, measure_every=1)
    try:
        train(tmp_path / "run", config)
    except InputError as error:
        assert str(error).startswith("layer ")  # noqa: PT017
    for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines():
        assert None not in json.loads(line).values()


def test_the_summary_shows_what_was_not_finite_or_is_lost_as_such() -> None:
    whole = {"reconstruction_error": 1.25, "kl": 2.5, "valid_kl": 3.0, "free_energy_gap": -0.5, "seconds": 0.5}
    records: list[dict[str, Any]] = [
        {"layer": 1, "epoch": 1, **whole},
        {"layer": 1, "epoch": 2, **whole, "kl": None, "valid_kl": "x", "seconds": 1.5},
        {"layer": 2, "epoch": 1, "free_energy_gap": 10**400},
    ]
    cells = [line.split() for line in summary(records).splitlines()[1:]]
    assert cells == [["1", "2", "1.25", "–", "–", "-0.50", "2.0"], ["2", "1", "–", "–", "–", "–", "0.0"]]


@pytest.mark.parametrize(
    ("x", "options", "sentence"),
    [
        (torch.rand(20, 4), {"epoch": 3}, "dbn.pretrain has no option 'epoch'"),
        (torch.rand(20, 4) - 0.5, {}, "but Bernoulli units need values in .*use visible='gaussian'"),
        (torch.ones(20, 4), {"visible": "gaussian"}, "cannot standardize: every column is constant"),
        (torch.rand(20, 4).log().log(), {}, "nan"),
        (torch.rand(20, 4), {"epochs": (1, 2, 3)}, "^epochs takes one value or one a layer"),
        (
            torch.rand(20, 4),
            {"tied": True},
            "2 bernoulli hidden units cannot start as the 4 bernoulli units two layers",
        ),
        (torch.rand(20, 4), {"device": "cuda:77"}, "^device='cuda:77' is not available here"),
    ],
)
def test_what_cannot_be_used_is_refused_before_anything_is_written(
    x: Tensor, options: dict[str, Any], sentence: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=sentence):
        dbn.pretrain(x, [3, 2], run=tmp_path / "run", **options)
    assert not (tmp_path / "run").exists()


def test_a_run_folder_is_not_replaced(tmp_path: Path) -> None:
    dbn.pretrain(torch.rand(20, 4), [2], epochs=1, run=tmp_path / "run")
    with pytest.raises(InputError, match="exists already"):
        dbn.pretrain(torch.rand(20, 4), [2], epochs=1, run=tmp_path / "run")


# What is written


MEASURED = {"reconstruction_error", "valid_reconstruction_error", "kl", "valid_kl", "free_energy_gap"} | {
    "hidden_activity", "hidden_off", "hidden_on", "update_ratio"
}  # fmt: skip


def test_metrics_and_tensorboard_have_the_same_names(uninterrupted: dict[str, Path]) -> None:
    path = uninterrupted["means, sgd"]
    records = RunFolder(path).metrics()
    assert [(record["layer"], record["epoch"]) for record in records] == [(n, e) for n in (1, 2) for e in (1, 2, 3)]
    for record in records:
        due = MEASURED if record["epoch"] > 1 else set()
        assert set(record) == {"layer", "epoch", "learning_rate", *TIMES, *due}
        assert record["examples_per_second"] == pytest.approx(135 / record["seconds"])
    written = {tag.removeprefix("timing/"): points for tag, points in curves(path).items() if tag[:5] != "about"}
    assert set(written) == {f"layer{n}/{name}" for n in (1, 2) for name in ("learning_rate", *TIMES, *MEASURED)}
    for name in MEASURED:
        single = [(r["epoch"], torch.tensor(r[name]).item()) for r in records if r["layer"] == 2 and name in r]
        assert written[f"layer2/{name}"] == single


def test_persistent_chains_and_likelihoods_are_written(uninterrupted: dict[str, Path]) -> None:
    likelihoods = {"log_z", "log_z_sample_size"} | {
        f"{prefix}{name}" for prefix in ("", "valid_") for name in ("log_likelihood", "pseudo_likelihood")
    }
    for kind, names in [
        ("pcd", {"chain_autocorrelation", *likelihoods}),
        ("pt", {"chain_autocorrelation", "swap_rate", "swap_rate_lowest"}),
    ]:
        last = metrics(uninterrupted[kind])[-1]
        assert set(last) == {"layer", "epoch", "learning_rate", *MEASURED, *names}
        assert all(math.isfinite(value) for value in last.values())


def test_the_watched_log_likelihood_is_near_the_exact_one(uninterrupted: dict[str, Path]) -> None:
    records = [record for record in metrics(uninterrupted["pcd"]) if "log_z" in record]
    for rbm, layer in zip(load(uninterrupted["pcd"]).layers, (1, 2), strict=True):
        watched = [record["log_z"] for record in records if record["layer"] == layer]
        assert len(watched) == 2  # epochs 2 and 3
        assert watched[-1] == pytest.approx(exact.log_partition(rbm), abs=0.1)


@pytest.mark.parametrize("visible", ["bernoulli", "gaussian"])
def test_watched_log_likelihoods_are_of_the_data_as_they_are_stored(visible: str, tmp_path: Path) -> None:
    x = factor_table(0)[:200, :6]
    if visible == "bernoulli":
        x = (x > 10).float()
    options = {"visible": visible, "likelihood_every": 1, "epochs": 2, "run": tmp_path / "run"}
    stack = dbn.pretrain(x, [5], binarize="fixed" if visible == "bernoulli" else "none", **options)
    last = metrics(tmp_path / "run")[-1]
    (rbm,), scaling = stack.layers, stack.scaling
    splits = splits_from_arrays(x.numpy())
    spread = 0.0 if scaling.spread is None else float(scaling.spread.double().log().sum())
    assert (spread > 6) == (visible == "gaussian")  # columns of standard deviation 3 to 6
    for prefix, rows in (("", splits.train.x), ("valid_", splits.valid.x)):
        expected = float(exact.log_likelihood(rbm, scaling(rows), last["log_z"]).mean()) - spread
        assert last[f"{prefix}log_likelihood"] == pytest.approx(expected, abs=1e-4)
    assert last["log_z"] == pytest.approx(exact.log_partition(rbm), abs=0.1)


def test_tensorboard_has_pictures_histograms_and_the_chart(uninterrupted: dict[str, Path]) -> None:
    path = uninterrupted["means, sgd"]
    drawn = ("reconstructions", "filters", "samples", "weight", "visible_bias", "hidden_bias", "unit_activity")
    assert steps(path) == {f"layer{n}/{name}": [2, 3] for n in (1, 2) for name in drawn}
    # Ten validation pictures of 6×6, enlarged fourfold so that a row has room for its name, at the left.
    for name, rows in (("reconstructions", 2), ("samples", 4)):
        picture = events(path).Images(f"layer2/{name}")[0]
        assert picture.height == 4 * (rows * 7 + 1)
        assert picture.width > 4 * (10 * 7 + 1) + 20
    layout = Layout.FromString(events(path).Tensors("custom_scalars__config__")[-1].tensor_proto.string_val[0])
    assert [category.title for category in layout.category] == ["layer 1", "layer 2"]
    for n, category in enumerate(layout.category, start=1):
        shown = [tag for chart in category.chart for tag in chart.multiline.tag]
        assert shown == [f"layer{n}/{name}$" for name in ("kl", "reconstruction_error", "free_energy_gap")]
        assert {tag.removesuffix("$") for tag in shown} <= set(curves(path))
        assert {tag.removesuffix("$") for tag in shown[:2]} <= set(curves(path / "validation"))


def test_validation_data_have_a_color_of_their_own(uninterrupted: dict[str, Path]) -> None:
    """Their curves stand in a run of their own under the names of those of training."""
    for path in uninterrupted.values():
        ours, theirs = curves(path), curves(path / "validation")
        renamed = {tag.replace("valid_", ""): points for tag, points in ours.items() if "/valid_" in tag}
        assert theirs == renamed
        assert theirs


def test_tensorboard_explains_every_number_and_has_a_row_among_the_hyperparameters(
    uninterrupted: dict[str, Path],
) -> None:
    for path in uninterrupted.values():
        log = events(path)
        ((text, *more),) = (event.tensor_proto.string_val for event in log.Tensors("about/text_summary"))
        assert not more
        names = {name.removeprefix("valid_") for record in metrics(path) for name in record} - {"layer", "epoch"}
        for name in {*names, *TIMES}:
            assert f"| `{name}` ".encode() in text
        shown = HParamsPluginData.FromString(log.PluginTagToContent("hparams")["_hparams_/session_start_info"])
        row = shown.session_start_info.hparams
        assert row["command"].string_value == "pretrain"
        assert row["pretrain/learning_rate"].string_value  # text in all runs, as some have a schedule
        assert not [tag for tag in log.PluginTagToContent("scalars") if tag.startswith("hparam")]


def test_codes_of_validation_rows_are_projected_once(tmp_path: Path) -> None:
    x = np.random.default_rng(0).random((120, 2, 3))
    stack = dbn.pretrain(x, [5, 4], epochs=1, run=tmp_path / "run")
    rows = [
        list(map(float, line.split("\t"))) for line in (tmp_path / "run/codes/tensors.tsv").read_text().splitlines()
    ]
    valid = splits_from_arrays(x).valid.x
    assert torch.allclose(torch.tensor(rows), stack.up(stack.scale(valid)), atol=1e-5)
    config = text_format.Parse((tmp_path / "run/projector_config.pbtxt").read_text(), ProjectorConfig())
    (embedding,) = config.embeddings
    assert [*embedding.tensor_shape] == [*torch.tensor(rows).shape]
    assert [*embedding.sprite.single_image_dim] == [3, 2]
    with Image.open(tmp_path / "run" / embedding.sprite.image_path) as sprite:
        pixels = torch.tensor(np.array(sprite))[:2, :3, 0]
    assert torch.equal(pixels, (255 * valid[0].reshape(2, 3)).round().to(torch.uint8))


def test_the_run_holds_the_stack_that_was_returned(tmp_path: Path) -> None:
    stack = train(tmp_path / "run")
    loaded = load(tmp_path / "run")
    assert same_weights(loaded, stack)
    assert loaded.description() == stack.description()
    assert stack.image_shape == (1, 6, 6)
    x = small_data().train
    assert torch.equal(loaded.up(loaded.scale(x)), stack.up(stack.scale(x)))


def test_a_stack_seeds_a_network_exactly() -> None:
    stack = train()
    x = stack.scale(small_data().valid)  # type: ignore[arg-type]
    network = stack.to_mlp(n_classes=3)
    assert torch.equal(network[:-1](x), stack.up(x))
    assert torch.equal(stack.encoder()(x), stack.up(x))


def test_the_summary_has_a_line_a_layer() -> None:
    numbers = {"reconstruction_error": 1.234, "kl": 2.347, "valid_kl": 3.456, "free_energy_gap": -0.5}
    records = [
        {"layer": 1, "epoch": 1, "seconds": 1.0},
        {"layer": 1, "epoch": 2, "seconds": 1.5, **numbers},
        {"layer": 2, "epoch": 1, "seconds": 4.0, **numbers, "kl": 9.0},
    ]
    lines = [line.split() for line in summary(records).splitlines()]
    assert lines[1] == ["1", "2", "1.23", "2.35", "3.46", "-0.50", "2.5"]
    assert lines[2] == ["2", "1", "1.23", "9.00", "3.46", "-0.50", "4.0"]


def test_the_learning_rate_rises_over_the_first_epochs(monkeypatch: pytest.MonkeyPatch) -> None:
    rates: list[float] = []
    step = LayerTrainer.step

    def watch(self: LayerTrainer, indices: Tensor, epoch: int, number: int) -> None:
        step(self, indices, epoch, number)
        rates.extend({group["lr"] for group in self.optimizer.param_groups})

    monkeypatch.setattr(LayerTrainer, "step", watch)
    train(config=replace(SMALL, hidden=(4,), epochs=(3,), learning_rate=(0.6,), warmup_epochs=2))
    steps = len(rates) // 3
    assert steps > 1
    rising = [0.6 * (number + 1) / (2 * steps) for number in range(2 * steps)]
    assert rates == pytest.approx(rising + [0.6] * steps)


def test_without_warm_up_the_rate_is_whole_from_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    rates: set[float] = set()
    step = LayerTrainer.step

    def watch(self: LayerTrainer, indices: Tensor, epoch: int, number: int) -> None:
        step(self, indices, epoch, number)
        rates.update(group["lr"] for group in self.optimizer.param_groups)

    monkeypatch.setattr(LayerTrainer, "step", watch)
    train(config=replace(SMALL, hidden=(4,), epochs=(2,), learning_rate=(0.6,), warmup_epochs=0))
    assert rates == {0.6}
