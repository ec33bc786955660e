"""Rows with holes in training: gradients against sums over all states, moments, metrics, options and files."""

from math import nan
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

import dbn
from dbn.cli.program import main
from dbn.config.label_model import LabelTraining
from dbn.config.pretraining import Pretraining
from dbn.data.row_sources import ArrayRows
from dbn.data.rows import Rows
from dbn.errors import InputError
from dbn.models.missing import Missing, Observed
from dbn.models.rbm import RBM
from dbn.models.scaling import Scaling
from dbn.models.units.naming import make_units
from dbn.pretraining.layer_data import LayerData, Unlabeled
from dbn.pretraining.metrics import layer_metrics
from dbn.pretraining.stack import new_rbm
from dbn.pretraining.trainer import LayerTrainer
from dbn.runs.training_data import splits_of
from dbn.sampling import DataChains
from tests.enumeration import KINDS, MIXED, Z, make_rbm, rng, support, z_scores

NUMBERS = torch.randn(40, 6, generator=rng()).masked_fill(torch.rand(40, 6, generator=rng(1)) < 0.3, nan)
HOLES = NUMBERS.isnan()
BITS = (NUMBERS > 0).float().masked_fill(HOLES, nan)


def known_sites(rbm: RBM, n: int, seed: int = 0) -> Tensor:
    """Random masks (n, V), alike for the columns of a category."""
    mask = torch.rand(n, rbm.visible.size, generator=rng(seed)) < 0.6
    groups = {"categorical(states=3)": (0, 3), MIXED: (3,)}.get(rbm.visible.spec, ())
    for start in groups:
        mask[:, start : start + 3] = mask[:, start : start + 1]
    return mask


@pytest.mark.parametrize("kind", KINDS)
def test_the_data_side_of_filled_rows_is_the_gradient_of_the_likelihood_of_what_is_observed(kind: str) -> None:
    """log p(v_known) = log Σ_missing exp(−F) − log Z, whose first part autograd differentiates."""
    rbm, n = make_rbm(kind, "bernoulli", seed=4), 4000
    states, weight = support(rbm.visible)
    near = states[states.abs().amax(1) <= 2]
    x, known = near[len(near) // 3][None], known_sites(rbm, 1, seed=2)
    agree = ((states == x) | ~known).all(1)
    assert 1 < agree.sum() < len(states)
    (weight[agree] - rbm.free_energy(states[agree])).logsumexp(0).backward()
    with torch.no_grad():
        _, v = Missing("gibbs", 25).at(rbm, (x * known).expand(n, -1), known.expand(n, -1), rng(3))
        each = rbm.up(v)[:, :, None] * v[:, None, :]
        error = each.std(0) / n**0.5
    assert rbm.weight.grad is not None
    assert rbm.visible.bias.grad is not None
    assert ((each.mean(0) - rbm.weight.grad).abs() <= Z * error + 1e-9).all()
    assert ((v.mean(0) - rbm.visible.bias.grad).abs() <= Z * v.std(0) / n**0.5 + 1e-9).all()


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != MIXED])
@pytest.mark.parametrize("centered", [False, True])
def test_the_gradient_of_incomplete_rows_is_that_of_an_rbm_for_each(kind: str, centered: bool) -> None:
    """Autograd of F(data) − F(negatives) of RBMs that have the observed columns alone."""
    rbm = make_rbm(kind, "bernoulli", seed=5)
    known = known_sites(rbm, 7)
    known[0] = True
    x = rbm.visible.sample(torch.zeros(7, rbm.visible.size, dtype=torch.float64), rng(1)).detach() * known
    config = Pretraining(hidden=(rbm.hidden.size,), visible=kind, gibbs_steps=(2,), batch_size=7, centered=centered)
    made = new_rbm(rbm.visible.size, 1, config)
    width = rbm.visible.codes or 1
    codes = x.unflatten(1, (-1, width)).argmax(2).float() if rbm.visible.codes else x.float()
    stored = codes.masked_fill(~known[:, ::width], nan)
    data = Unlabeled(stored, None, Scaling(1.0, codes=rbm.visible.codes), missing=Missing("absent"))
    trainer = LayerTrainer(made, [], data, config)
    trainer.rbm.load_state_dict(rbm.state_dict())
    every = torch.arange(7)
    rows, there = trainer.data.batch(every), trainer.data.known_of(every)
    assert there is not None
    assert torch.equal(there, known)
    assert_close(rows, x.float())
    trainer.noise.manual_seed(9)
    trainer.set_gradient(rows, 0, None, there)

    chains = DataChains(2)
    of_rows: Any = Observed(made, known)
    negatives = chains.negatives(of_rows, rows, made.hidden_field(rows), rng(9)).states
    assert not negatives[~known].any()
    found = {name: parameter.grad.clone() for name, parameter in made.named_parameters() if parameter.grad is not None}
    wanted = {name: torch.zeros_like(grad) for name, grad in found.items()}
    for row, mask in enumerate(known):
        part = RBM(make_units(kind, int(mask.sum())), make_units("bernoulli", rbm.hidden.size))
        state = made.state_dict()
        part.load_state_dict(
            {name: value if name == "hidden.bias" else value[..., mask] for name, value in state.items()}
        )
        data_row, negative = (each[row : row + 1, mask] for each in (rows, negatives))
        ((part.free_energy(data_row) - part.free_energy(negative)).sum() / 7).backward()
        for name, parameter in part.named_parameters():
            assert parameter.grad is not None
            if name == "hidden.bias":
                wanted[name] += parameter.grad
            else:
                wanted[name][..., mask] += parameter.grad
    if not centered:
        assert_close(found, wanted, rtol=1e-4, atol=1e-5)
    else:  # M·Mᵀ times it, which does not change its sign
        assert sum((found[name] * each).sum() for name, each in wanted.items()) > 0


@pytest.mark.parametrize("kind", ["bernoulli", "spin", "categorical(states=3)"])
def test_chains_of_incomplete_rows_keep_the_distribution_of_the_observed_units(kind: str) -> None:
    rbm = make_rbm(kind, "bernoulli", seed=6)
    known = known_sites(rbm, 9)
    known = known[known.any(1) & ~known.all(1)][:1]
    states = (support(rbm.visible)[0] * known).unique(dim=0)
    if kind == "spin":
        states = states[(states[:, known[0]] != 0).all(1)]
    p = (-rbm.free_energy(states)).softmax(0).detach()
    start = states[torch.multinomial(p, 4000, replacement=True, generator=rng())]
    v = Observed(rbm, known).gibbs(start, 2, rng(1)).detach()
    assert z_scores(v[:, known[0]], states[:, known[0]], p).abs().max() < Z


def test_moments_are_those_of_observed_cells() -> None:
    layer = LayerData(NUMBERS, Scaling(1.0), (), noise=torch.Generator, missing=Missing("gibbs"))
    mean, variance = layer.moments()
    assert_close(mean, torch.from_numpy(np.nanmean(NUMBERS, 0)))
    assert_close(variance, torch.from_numpy(np.nanvar(NUMBERS, 0)))
    scaling = Scaling.fitted(NUMBERS, 1.0, standardized=True)
    assert_close(scaling.shift, torch.from_numpy(np.nanmean(NUMBERS, 0)))
    assert_close(scaling.spread, torch.from_numpy(np.nanstd(NUMBERS, 0)))
    assert scaling.values == (float(np.nanmin(NUMBERS)), float(np.nanmax(NUMBERS)))
    weights = torch.rand(40, generator=rng(2)) + 0.1
    weighted = LayerData(NUMBERS, Scaling(1.0), (), noise=torch.Generator, weights=weights, missing=Missing("gibbs"))
    column, there = NUMBERS[:, 2], ~HOLES[:, 2]
    assert_close(weighted.moments()[0][2], (column[there] * weights[there]).sum() / weights[there].sum())


@pytest.mark.parametrize("way", ["gibbs", "absent"])
def test_metrics_are_of_observed_cells(way: str) -> None:
    rbm = RBM(make_units("gaussian", 6), make_units("bernoulli", 2))  # whose reconstructions are 0
    x, known = NUMBERS.nan_to_num(0.0), ~HOLES
    found = layer_metrics(rbm, x, x[:5], rng(), holes=(Missing(way), known, known[:5]))
    assert found["reconstruction_error"] == pytest.approx(float(x.square().sum() / 40), rel=1e-5)
    assert found["valid_kl"] == pytest.approx(float(x[:5].square().sum() / 10), rel=1e-5)
    assert "free_energy_gap" not in found


def test_complete_rows_are_learned_from_as_before() -> None:
    x = NUMBERS.nan_to_num(0.0).sigmoid()
    stacks = [dbn.pretrain(x, hidden=[4, 3], epochs=3, batch_size=10, missing=way) for way in ("refuse", "absent")]
    for name, value in stacks[0].state_dict().items():
        assert_close(stacks[1].state_dict()[name], value, rtol=1e-4, atol=1e-5)
    assert "missing" not in stacks[0].description()
    assert stacks[1].description()["missing"] == "absent"


@pytest.mark.parametrize("way", ["gibbs", "absent"])
@pytest.mark.parametrize("features", ["mean", "sample"])
def test_a_run_with_holes_resumes_and_loads(way: str, features: str, tmp_path: Path) -> None:
    options: dict[str, Any] = {"hidden": [4, 3], "missing": way, "features": features, "batch_size": 10}
    whole = dbn.pretrain(BITS, epochs=[1, 3], **options)
    dbn.pretrain(BITS, epochs=[1, 2], run=tmp_path / "run", **options)
    dbn.pretrain(BITS, epochs=[1, 3], run=tmp_path / "run", resume=True, **options)
    loaded = dbn.load(tmp_path / "run")
    for name, value in whole.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value), name
    assert loaded.scaling.missing == way
    assert torch.equal(loaded.impute(BITS), whole.impute(BITS))


@pytest.mark.parametrize("estimator", ["pcd", "lagged-pcd", "pt"])
def test_persistent_chains_go_with_filled_rows(estimator: str) -> None:
    stack = dbn.pretrain(NUMBERS, 4, visible="gaussian", missing="gibbs", estimator=estimator, epochs=1, batch_size=10)
    assert all(value.isfinite().all() for value in stack.state_dict().values())


def test_masked_arrays_and_frames_hold_the_same_rows() -> None:
    options: dict[str, Any] = {"hidden": 3, "missing": "absent", "epochs": 1, "batch_size": 10}
    wanted = dbn.pretrain(BITS, **options).state_dict()
    masked = np.ma.MaskedArray(BITS.nan_to_num(0.5).numpy(), HOLES.numpy())
    for x in (masked, pandas.DataFrame(BITS.numpy()), BITS.tolist(), BITS.numpy().astype(object)):
        for name, value in dbn.pretrain(x, **options).state_dict().items():
            assert torch.equal(value, wanted[name]), type(x)


NO_VALUE = BITS.clone()
NO_VALUE[3] = nan
NO_COLUMN = BITS.clone()
NO_COLUMN[:, 1] = nan


@pytest.mark.parametrize(
    ("x", "options", "said"),
    [
        (BITS, {}, r"is nan as a 32-bit float.*, or say missing='gibbs' to learn from rows with holes$"),
        (np.ma.MaskedArray(np.eye(20), np.eye(20)), {}, "is masked.*, or say missing='gibbs'"),
        (NO_VALUE, {"missing": "gibbs"}, r"x: x, row 3 \(counted from 0\) holds no value at all: leave the row out$"),
        (NO_COLUMN, {"missing": "gibbs"}, r"column 1 \(counted from 0\) holds no value in the training rows"),
        (BITS, {"missing": "absent", "estimator": "pcd"}, "missing absent does not go with estimator pcd"),
        (BITS, {"missing": "absent", "missing_steps": 3}, "missing_steps needs missing='gibbs'"),
        (BITS, {"missing": "gibbs", "binarize": "threshold"}, "does not go with missing='gibbs'"),
        (BITS * torch.inf, {"missing": "gibbs"}, "is inf as a 32-bit float"),
        (Rows(ArrayRows(np.eye(20, dtype=np.float32))), {"missing": "gibbs"}, "rows with holes must be in memory"),
    ],
)
def test_what_is_refused(x: Any, options: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        dbn.pretrain(x, hidden=3, epochs=1, **options)


def test_likelihoods_and_label_models_are_refused() -> None:
    with pytest.raises(InputError, match="--likelihood-every does not go with --missing gibbs"):
        Pretraining(missing="gibbs", likelihood_every=1, visible="gaussian")
    with pytest.raises(InputError, match="--missing gibbs does not go with a label model"):
        LabelTraining(missing="gibbs")


TABLE = "age,sex,kind,label\n" + "".join(
    f"{20 + i % 7 if i % 5 else ''},{'mf'[i % 2] if i % 3 else ''},{('red', 'green', 'blue')[i % 3]},{i % 2}\n"
    for i in range(60)
)


def run(words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["torch-dbn", *words.split()])
    main()


def test_tables_on_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("t.csv").write_text(TABLE)
    words = "pretrain --dataset t.csv --label-column label --visible auto --hidden 3 --epochs 1 --run r"
    with pytest.raises(SystemExit) as stopped:
        run(words, monkeypatch)
    assert stopped.value.code == 2
    said = "t.csv, line 2, column 'age' is missing: fill it in, or leave the row or the column out, or say --missing "
    assert said + "gibbs to learn from rows with holes" in capsys.readouterr().err
    assert not Path("r").exists()
    run(words + " --missing gibbs", monkeypatch)
    assert "32 of 180 values, 17.8%, are missing." in capsys.readouterr().out
    run("impute --run r --data t.csv --label-column label --output o.csv", monkeypatch)
    assert "32 missing values in 28 of 60 rows, filled in by means: o.csv" in capsys.readouterr().out
    for before, after in zip(TABLE.splitlines(), Path("o.csv").read_text().splitlines(), strict=True):
        for old, new in zip(before.split(","), after.split(","), strict=True):
            assert old in ("", new)
            assert new
    Path("e.csv").write_text("age,sex,kind\n20,m,red\n,,\n")
    with pytest.raises(SystemExit):
        run("impute --run r --data e.csv --output p.csv", monkeypatch)
    assert "e.csv, line 3 holds no value at all: leave the row out" in capsys.readouterr().err
    assert not Path("p.csv").exists()


def test_rows_of_a_run_with_holes_are_filled_in_where_they_are_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    np.savez("x.npz", x=NUMBERS.numpy(), y=(NUMBERS[:, 0] > 0).long().numpy())
    run("pretrain --dataset x.npz --visible gaussian --missing gibbs --hidden 4 --epochs 2 --run r", monkeypatch)
    splits, stack = splits_of(Path("r")), dbn.load("r")
    given = NUMBERS[(NUMBERS.nan_to_num(7.0)[:, None] == splits.train.tensor[0]).sum(-1).argmax()]
    assert_close(splits.train.tensor[0], stack.impute(given[None])[0], rtol=0.2, atol=0.5)
    there = ~given.isnan()
    assert torch.equal(splits.train.tensor[0][there], given[there])
    assert splits.notes[-1] == f"Missing values are filled in by the stack with means given the others: {HOLES.sum()}."
    for words in (
        "sample --run r --count 2 --image-shape 2x3 --output s.png",
        "evaluate --run r --ais 20 --chains 5",
        "finetune --pretrained r --init dbn --seeds 1 --epochs 1 --run f",
    ):
        run(words, monkeypatch)


def test_arrays_on_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    np.save("x.npy", NUMBERS.numpy())
    common = "--missing absent --hidden 3 --epochs 1"
    run(f"pretrain --dataset x.npy --visible gaussian {common} --run r", monkeypatch)
    run("impute --run r --data x.npy --draws --output o.npy", monkeypatch)
    found = np.load("o.npy")
    assert np.array_equal(found[~HOLES], NUMBERS[~HOLES])
    assert np.isfinite(found).all()
    run("impute --run r --data x.npy --output o.csv", monkeypatch)
    assert np.isfinite(pandas.read_csv("o.csv").to_numpy()).all()
