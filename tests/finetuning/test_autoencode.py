"""Autoencoders as a task: their start, their optimum where it is known, their scores, files and codes."""

import csv
from pathlib import Path
from typing import Any

import pytest
import torch
from enumeration import rng
from torch import Tensor
from torch.testing import assert_close

import dbn
from dbn.config.finetuning import Finetuning
from dbn.data.cut import splits_from_arrays
from dbn.errors import InputError
from dbn.finetuning.loading import make_problem
from dbn.finetuning.problem import Problem
from dbn.finetuning.trainer import Trainer
from dbn.initializers.arms import parse_arm
from dbn.models.dbn import DBN
from dbn.models.rbm import RBM
from dbn.models.scaling import Scaling
from dbn.models.units import Bernoulli, Gaussian
from dbn.tasks.autoencode import Autoencode

CPU = torch.device("cpu")


def stack() -> DBN:
    rbms = [RBM(Bernoulli(16), Bernoulli(5)), RBM(Bernoulli(5), Gaussian(3))]
    with torch.no_grad():
        for number, rbm in enumerate(rbms):
            for parameter in rbm.parameters():
                parameter.normal_(0, 0.7, generator=rng(number))
    return DBN(rbms, Scaling(1.0), (1, 4, 4))


def pictures(n: int = 120) -> Tensor:
    return torch.rand(n, 1, 4, 4, generator=rng(5)).round()


def problem(x: Any, stacks: Any, **options: Any) -> Problem:
    config = Finetuning(task="autoencode", seeds=2, **options)
    return make_problem(splits_from_arrays(x, cut_test=True), stacks, (3,), config, CPU)


def test_the_arm_of_a_stack_starts_as_it_reconstructs() -> None:
    made = problem(pictures(), [stack()], init=("dbn", "he_normal"))
    assert made.sizes == [16, 5, 3, 5, 16]
    x = made.scaling(made.splits.train.x)
    network = made.network(parse_arm("dbn"), 0)
    assert_close(made.task.valued(network(x)), stack().down(stack().up(x)), rtol=1e-5, atol=1e-6)
    activations = [str(module) for module in network if not hasattr(module, "weight")]
    assert activations == ["Sigmoid()"] * 2
    assert [str(module) for module in made.network(parse_arm("he_normal"), 0)].count("ReLU()") == 2


def test_a_linear_one_learns_the_principal_components() -> None:
    """Baldi & Hornik (1989): the least squared error is the sum of the variances of the components left out."""
    mixing = torch.randn(6, 6, generator=rng(1))
    x = torch.randn(200, 6, generator=rng(2)) @ mixing
    options = {"standardize": True, "optimizer": "adam", "learning_rate": (0.03,), "epochs": 60, "batch_size": 20}
    made = make_problem(
        splits_from_arrays(x, cut_test=True),
        [],
        (2,),
        Finetuning(task="autoencode", seeds=1, init=("xavier_uniform",), **options),
        CPU,
    )
    fit = Trainer(made, parse_arm("xavier_uniform"), 0.03, 0)
    assert len(list(fit.epochs())) == 60
    rows = made.scaling(made.splits.train.x)
    variances = torch.linalg.svdvals(rows.double()).square() / len(rows)
    with torch.no_grad():
        error = float((fit.network(rows) - rows).square().sum(1).mean())
    best = float(variances[2:].sum())
    assert best <= error < 1.03 * best
    assert best < 0.6 * float(variances.sum())


def test_scores_are_in_the_units_of_the_values_that_were_divided() -> None:
    x, outputs = torch.rand(5, 2, generator=rng()), torch.randn(5, 2, generator=rng(1))
    found = Autoencode(["a", "b"]).scores(outputs, x)
    assert found.error == pytest.approx(float((x - outputs.sigmoid()).square().sum(1).mean()))
    assert found.explained == pytest.approx(1 - found.error / float(x.var(0, correction=0).sum()))
    shift, spread = [3.0, -1.0], [2.0, 0.5]
    standard = Autoencode(["a", "b"], shift, spread).scores(outputs, x)
    assert standard.error == pytest.approx(float(((x - outputs) * torch.tensor(spread)).square().sum(1).mean()))
    loss = Autoencode(["a", "b"], shift, spread).loss(outputs, x)
    assert float(loss) == pytest.approx(float((x - outputs).square().sum(1).mean()))


def test_a_run_is_compared_saved_and_read_and_its_codes_are_projected(tmp_path: Path) -> None:
    x, run = pictures(), tmp_path / "run"
    x_test, labels = pictures(30), torch.arange(120) % 3
    options: dict[str, Any] = {
        "task": "autoencode",
        "optimizer": "adam",
        "learning_rate": 0.02,
        "epochs": 2,
        "seeds": 2,
    }
    found = dbn.compare(
        x, labels, ["dbn", "he_normal"], pretrained=stack(), x_test=x_test, y_test=labels[:30], run=run, **options
    )
    assert "test squared error" in found.table()
    autoencoder = dbn.load_autoencoder(run, "dbn")
    rows = x_test.flatten(1)
    reconstructed = autoencoder(rows).detach()
    assert_close(reconstructed, found.best("dbn").predict(x_test), rtol=1e-5, atol=1e-6)
    arm = found.arms["dbn"]
    error = float((reconstructed - rows).square().sum(1).mean())
    best = arm["valid_error"].index(min(arm["valid_error"]))
    assert arm["test_error"][best] == pytest.approx(error, rel=1e-5)
    again = dbn.compare(
        x, labels, ["dbn", "he_normal"], pretrained=stack(), x_test=x_test, y_test=labels[:30], run=run, resume=True,
        **options,
    )  # fmt: skip
    assert again.to_dict() == found.to_dict()

    (place,) = (run / "dbn").glob("seed-*/codes")
    codes = [
        [float(word) for word in row]
        for row in csv.reader((place / "tensors.tsv").read_text().splitlines(), delimiter="\t")
    ]
    named = (place / "metadata.tsv").read_text().split()
    assert sorted(named) == sorted(str(label) for label in labels[:30].tolist())
    expected = autoencoder.encode(rows).detach()
    distance, row = (torch.tensor(codes)[:, None] - expected).norm(dim=2).min(1)
    assert distance.max() < 1e-4
    assert [str(int(labels[each])) for each in row] == named
    assert (place / "sprite.png").is_file()
    with pytest.raises(InputError, match="has no probabilities"):
        found.best().predict_proba(x_test)


def test_labels_are_not_needed_and_another_task_is_no_autoencoder(tmp_path: Path) -> None:
    made = problem(pictures(), [stack()], init=("dbn",))
    assert (made.labels, made.task.outputs) == (len(made.splits.train), 16)
    run = tmp_path / "run"
    options: dict[str, Any] = {"hidden": [3], "seeds": 1, "epochs": 1, "learning_rate": 0.1}
    dbn.compare(pictures(60), torch.arange(60) % 2, ["zeros"], run=run, **options)
    with pytest.raises(InputError, match="holds no autoencoder, but a network of the task classify"):
        dbn.load_autoencoder(run)
