"""Stacks on columns of category codes and on spins, from the data to samples and networks."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny import metrics
from torch import Tensor
from torch.testing import assert_close

import dbn
from dbn.errors import InputError
from dbn.models.rbm import RBM
from dbn.models.scaling import Scaling
from dbn.models.units.bernoulli import Bernoulli
from dbn.models.units.categorical import Categorical
from dbn.models.units.naming import make_units
from dbn.models.units.spin import Spin

OPTIONS: dict[str, Any] = {"epochs": 2, "batch_size": 10, "device": "cpu"}
CODES = torch.randint(0, 3, (60, 4), generator=torch.Generator().manual_seed(0))
CODES[:, 1] = CODES[:, 0]
CATEGORIES = "categorical(states=3)"


def trained(**options: Any) -> dbn.DBN:
    return dbn.pretrain(CODES, **{"hidden": [6], "visible": CATEGORIES, **OPTIONS, **options})


def test_codes_become_one_hot_columns_and_come_back() -> None:
    scaling = Scaling(1.0, codes=3)
    hot = scaling(CODES)
    assert_close(hot, torch.nn.functional.one_hot(CODES, 3).flatten(1).float())
    for x in (CODES.byte(), CODES.double(), CODES.int()):
        assert torch.equal(scaling(x), hot)
    assert torch.equal(scaling.inverse(hot), CODES)
    assert Categorical(12, states=3).in_support(hot)


def test_a_stack_takes_codes_and_gives_codes(tmp_path: Path) -> None:
    stack = trained(run=tmp_path / "run", estimator="pcd")
    assert stack.sizes == [12, 6]
    assert str(stack.layers[0].visible) == "Categorical(12, states=3)"
    hot = torch.nn.functional.one_hot(CODES, 3).flatten(1).float()
    for x in (CODES, CODES.float(), CODES.numpy(), hot):
        assert_close(stack.up(x), stack.layers[0].up(hot))
    loaded = dbn.load(tmp_path / "run")
    assert loaded.description() == stack.description()
    assert torch.equal(loaded.up(CODES), stack.up(CODES))
    draws = loaded.sample(50, steps=3)
    assert draws.shape == (50, 4)
    assert set(draws.unique().tolist()) <= {0, 1, 2}
    network = stack.to_mlp(n_classes=2)
    assert network[0].in_features == 12
    assert_close(network[:2](hot), stack.up(CODES))


def test_hidden_categories_seed_a_grouped_softmax() -> None:
    stack = dbn.pretrain(
        CODES, hidden=[6, 4], visible=CATEGORIES, hidden_units=["categorical(states=2)", "spin"], **OPTIONS
    )
    x = stack.scale(CODES)
    assert_close(stack.encoder()(x), stack.up(CODES))
    assert_close(stack.layers[0].up(x).view(-1, 3, 2).sum(2), torch.ones(60, 3))


def test_a_run_on_categories_resumes_bit_for_bit(tmp_path: Path) -> None:
    for estimator in ("cd", "lagged-pcd", "pt"):
        whole, part = tmp_path / f"{estimator}-whole", tmp_path / f"{estimator}-part"

        def stop(record: dict[str, Any]) -> None:
            if record["epoch"] == 2:
                raise KeyboardInterrupt

        settings: dict[str, Any] = {"epochs": 4, "estimator": estimator, "average": 0.9}
        expected = trained(run=whole, **settings)
        with pytest.raises(KeyboardInterrupt):
            trained(run=part, callback=stop, **settings)
        found = trained(run=part, resume=True, **settings)
        assert all(torch.equal(value, found.state_dict()[name]) for name, value in expected.state_dict().items())
        assert metrics(whole) == metrics(part)


X = torch.stack([CODES[:, 0], CODES[:, 2] / 2, torch.linspace(0, 3, 60), (-1) ** CODES[:, 3]], 1).float()
RESUMED = {
    "spin": (X[:, 3:], ["spin", "bernoulli"]),
    "binomial(trials=2)": (CODES, ["binomial(trials=3)", "bernoulli"]),
    "relu": (X[:, :3], ["relu"]),
    "gaussian": (X, ["gaussian", "bernoulli"]),
    "1 binomial(trials=2) + 1 bernoulli + 1 relu + 1 spin": (X, ["spin", "bernoulli"]),
    "auto": (X, ["bernoulli", "categorical(states=3)"]),
}


@pytest.mark.parametrize("visible", RESUMED)
def test_a_run_of_every_kind_of_units_resumes_byte_for_byte(visible: str, tmp_path: Path) -> None:
    def stop(record: dict[str, Any]) -> None:
        if record["layer"] == 1 and record["epoch"] == 2:
            raise KeyboardInterrupt

    x, hidden_units = RESUMED[visible]
    settings: dict[str, Any] = {"visible": visible, "hidden": [4, 3][: len(hidden_units)], "hidden_units": hidden_units}
    settings |= OPTIONS | {"epochs": 3, "learning_rate": 0.01}
    dbn.pretrain(x, run=tmp_path / "whole", **settings)
    with pytest.raises(KeyboardInterrupt):
        dbn.pretrain(x, run=tmp_path / "part", callback=stop, **settings)
    dbn.pretrain(x, run=tmp_path / "part", resume=True, **settings)
    for name in ("dbn.safetensors", "encoder.safetensors"):
        assert (tmp_path / "part" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert metrics(tmp_path / "part") == metrics(tmp_path / "whole")


def test_weights_of_a_group_sum_to_zero_after_training() -> None:
    for options in ({}, {"optimizer": "adam"}, {"weight_decay": 0.0, "average": 0.5}):
        rbm = trained(**options).layers[0]
        assert rbm.weight.abs().max() > 0.01
        assert_close(rbm.weight.view(6, 4, 3).sum(2), torch.zeros(6, 4), rtol=0, atol=1e-5)
        assert_close(rbm.visible.bias.view(4, 3).sum(1), torch.zeros(4), rtol=0, atol=1e-5)


@pytest.mark.parametrize("hidden", [Bernoulli(3), Categorical(4, states=2), Spin(2)])
@torch.no_grad()
def test_the_gauge_changes_no_probability(hidden: Any) -> None:
    rbm = RBM(Categorical(6, states=3), hidden).double()
    generator = torch.Generator().manual_seed(1)
    for parameter in rbm.parameters():
        parameter.normal_(generator=generator)
    v = torch.nn.functional.one_hot(torch.cartesian_prod(torch.arange(3), torch.arange(3)), 3).flatten(1).double()
    before, up = (-rbm.free_energy(v)).softmax(0), rbm.up(v)
    assert rbm.fix_gauge()
    assert_close((-rbm.free_energy(v)).softmax(0), before)
    assert_close(rbm.up(v), up)
    weight = rbm.weight.clone()
    rbm.fix_gauge()
    assert_close(rbm.weight.data, weight)
    assert not RBM(Bernoulli(3), Bernoulli(2)).fix_gauge()


@pytest.mark.parametrize(
    ("value", "said"),
    [(3, "has 3 in row 7, column 2"), (-1, "has -1 in row 7, column 2"), (0.5, "has 0.5 in row 7, column 2")],
)
def test_a_value_that_is_no_code_is_refused_where_it_stands(value: float, said: str) -> None:
    x = CODES[:8].float()
    x[7, 2] = value
    stack = trained()
    for call in (lambda: stack.up(x), lambda: stack.scale(x), lambda: dbn.evaluate(stack, x, exact=True)):
        with pytest.raises(InputError, match=said) as refusal:
            call()
        assert "whole numbers from 0 to 2" in str(refusal.value)
    rows = CODES.repeat(3, 1).float()
    rows[0, 1] = value
    with pytest.raises(InputError, match=r"x has .* in row 0, column 1"):
        dbn.pretrain(rows, hidden=[6], visible=CATEGORIES, **OPTIONS)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"visible": "categorical"}, r"needs states: write categorical\(states=VALUE\)"),
        ({"visible": "categorical(states=1)"}, "at least 2, not 1"),
        ({"visible": "categorical(states=2.5)"}, r"at least 2, not 2\.5"),
        ({"visible": "categorical(levels=3)"}, "no parameter 'levels': it has states"),
        ({"visible": "bernoulli(states=3)"}, "bernoulli has no parameters"),
        ({"visible": "categorical(states=3"}, "expected NAME or NAME"),
        ({"hidden_units": "categorical(states=4)"}, "6 categorical units are no groups of 4: give a multiple of 4"),
        ({"divisor": 2}, "divisor does not go with categorical units"),
    ],
)
def test_units_that_cannot_be_are_refused_in_a_sentence(options: dict[str, Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=said) as refusal:
        trained(run=tmp_path / "run", **options)
    assert not (tmp_path / "run").exists()
    assert "\n" not in str(refusal.value)


def test_names_of_units_make_them_and_they_know_their_names() -> None:
    for text in ("bernoulli", "gaussian", "spin", "categorical(states=3)"):
        assert make_units(text, 6).spec == text
    assert make_units("categorical( states = 3 )", 6).spec == "categorical(states=3)"


def spins(n: int = 80) -> Tensor:
    x = 2.0 * torch.randint(0, 2, (n, 5), generator=torch.Generator().manual_seed(1)) - 1
    x[:, 1] = x[:, 0]
    return x


def test_spins_from_the_data_to_a_network(tmp_path: Path) -> None:
    stack = dbn.pretrain(spins(), hidden=[4], visible="spin", hidden_units="spin", run=tmp_path / "run", **OPTIONS)
    assert [type(module).__name__ for module in stack.encoder()] == ["Linear", "Tanh"]
    assert_close(stack.up(spins()), stack.encoder()(spins()))
    found = dbn.evaluate(dbn.load(tmp_path / "run"), spins(), exact=True).to_dict()
    assert found["test_log_likelihood"] < 0
    assert found["pseudo_likelihood"]["mean"] < 0
    assert np.isfinite(found["log_z"])


@pytest.mark.parametrize(
    ("x", "said"),
    [
        ((spins() + 1) / 2, r"go from 0 to 1, 0 in row 0, .*, but spin units need values of -1 and 1: give 2x - 1"),
        (2 * spins(), "in \\[-1, 1\\]"),
    ],
)
def test_bits_and_other_numbers_are_no_spins(x: Tensor, said: str) -> None:
    with pytest.raises(InputError, match=said):
        dbn.pretrain(x, hidden=[4], visible="spin", **OPTIONS)


def test_likelihoods_of_codes_are_exact_and_by_ais() -> None:
    stack = trained()
    exact = dbn.evaluate(stack, CODES, exact=True).to_dict()
    hot = stack.scale(CODES)
    rbm = stack.layers[0]
    log_z = dbn.likelihood.log_partition(rbm)
    assert exact["test_log_likelihood"] == pytest.approx(-float(rbm.free_energy(hot).mean()) - log_z, abs=1e-4)
    lower, upper = dbn.evaluate(stack, CODES, ais=100).to_dict()["log_z_interval"]
    assert lower < log_z < upper


def test_an_arm_has_the_activation_of_the_stack_or_says_another() -> None:
    x, y = spins().numpy(), np.arange(80) % 2
    stack = dbn.pretrain(x, hidden=[4], visible="spin", hidden_units="spin", **OPTIONS)
    settings: dict[str, Any] = {"pretrained": [stack], "seeds": 1, "epochs": 1, "device": "cpu"}
    with pytest.raises(InputError, match="spin hidden units have tanh: write dbn:tanh"):
        dbn.compare(x, y, init=["dbn"], **settings)
    assert list(dbn.compare(x, y, init=["dbn:tanh"], **settings).to_dict()["arms"]) == ["dbn:tanh"]


def test_a_stack_on_categories_seeds_a_network_that_takes_codes(tmp_path: Path) -> None:
    y = (CODES[:, 0] == 2).long()
    settings: dict[str, Any] = {"seeds": 1, "epochs": 3, "device": "cpu", "pretrained": [trained()]}
    found = dbn.compare(CODES, y, init=["dbn", "he_normal"], run=tmp_path / "run", **settings)
    assert list(found.to_dict()["arms"]) == ["dbn", "he_normal"]
    classifier = dbn.load_classifier(tmp_path / "run")
    assert classifier.predict_proba(CODES).shape == (60, 2)
    with pytest.raises(InputError, match="has 3 in row 0, column 1"):
        classifier.predict_proba(torch.tensor([[0, 3, 1, 1]]))
