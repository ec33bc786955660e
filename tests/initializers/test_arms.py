"""The table of initializers, the arms that name them, and the networks that arms become."""

import re
from dataclasses import replace
from itertools import pairwise
from math import sqrt
from pathlib import Path
from typing import Any

import pytest
import torch
from enumeration import Z, make_stack, rng
from tiny import splits, stack
from torch import Tensor, nn
from torch.testing import assert_close

from dbn.config.common import to_dict
from dbn.config.finetuning import Finetuning
from dbn.data.examples import labels_of
from dbn.errors import InputError
from dbn.finetuning.comparison import Comparison
from dbn.finetuning.problem import Problem
from dbn.finetuning.report import table
from dbn.finetuning.summary import result
from dbn.finetuning.trainer import Trainer
from dbn.initializers import INITIALIZERS
from dbn.initializers.arms import PARAMETER_RULES, Arm, parse_arm
from dbn.initializers.schemes import Initializer, constant
from dbn.models.mlp import (
    ACTIVATIONS,
    activation_module,
    initialize_normalizing,
    initialize_output,
    linear_layers,
    meta_mlp,
    mlp,
)
from dbn.models.scaling import Scaling
from dbn.runs.classifier import best_classifier, folder_name, read_classifier
from dbn.runs.resume import begin
from dbn.tasks.metrics import score

SPLITS, STACK = splits(), stack()
CONFIG = Finetuning(
    labels=24, valid_labels=9, seeds=1, epochs=8, batch_size=10, learning_rate=(0.3,), schedule="constant"
)


def problem(*arms: str, **options: Any) -> Problem:
    return Problem(SPLITS, Scaling(), (7, 5), (STACK,), replace(CONFIG, init=arms, **options))


# Words to arms


@pytest.mark.parametrize(
    ("text", "arm"),
    [
        ("dbn", Arm("dbn", "dbn", "sigmoid")),
        ("dbn:tanh", Arm("dbn:tanh", "dbn", "tanh")),
        ("xavier_uniform", Arm("xavier_uniform", "xavier_uniform", "sigmoid")),
        ("xavier_uniform:relu", Arm("xavier_uniform:relu", "xavier_uniform", "relu")),
        ("he_normal", Arm("he_normal", "he_normal", "relu")),
        ("he_normal:sigmoid", Arm("he_normal:sigmoid", "he_normal", "sigmoid")),
        ("kaiming_normal", Arm("kaiming_normal", "he_normal", "relu")),
        ("glorot_uniform(gain=2)", Arm("glorot_uniform(gain=2)", "xavier_uniform", "sigmoid", (("gain", 2.0),))),
        ("lecun_uniform", Arm("lecun_uniform", "lecun_uniform", "tanh")),
        ("normal(std=1.0)", Arm("normal(std=1.0)", "normal", "sigmoid", (("std", 1.0),))),
        ("lecun_normal(gain=4):silu", Arm("lecun_normal(gain=4):silu", "lecun_normal", "silu", (("gain", 4.0),))),
        ("normal(std=1.0):relu", Arm("normal(std=1.0):relu", "normal", "relu", (("std", 1.0),))),
        ("normal(std=1e-3)", Arm("normal(std=1e-3)", "normal", "sigmoid", (("std", 0.001),))),
        ("uniform(bound=.5)", Arm("uniform(bound=.5)", "uniform", "sigmoid", (("bound", 0.5),))),
        (
            "xavier_uniform(bias=-0.01)",
            Arm("xavier_uniform(bias=-0.01)", "xavier_uniform", "sigmoid", (("bias", -0.01),)),
        ),
        ("constant(value=0)", Arm("constant(value=0)", "constant", "sigmoid", (("value", 0.0),))),
        (
            " sparse( sparsity = 0.9, std=0.01 ) : tanh",
            Arm("sparse(sparsity=0.9,std=0.01):tanh", "sparse", "tanh", (("sparsity", 0.9), ("std", 0.01))),
        ),
    ],
)
def test_an_arm_is_a_start_its_parameters_and_an_activation(text: str, arm: Arm) -> None:
    assert parse_arm(text) == arm
    assert parse_arm(arm.name) == arm


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("xavier_unifrom", "there is no initializer 'xavier_unifrom', did you mean 'xavier_uniform'?"),
        ("kaiming", "there is no initializer 'kaiming', did you mean 'kaiming_normal'?"),
        ("he", "there is no initializer 'he': choose from dbn, zeros, constant, normal, "),
        ("nromal(std=1)", "there is no initializer 'nromal', did you mean 'normal'?"),
        ("", "there is no initializer ''"),
        (":relu", "there is no initializer ''"),
        ("(std=1)", "there is no initializer ''"),
        ("DBN", "there is no initializer 'DBN', did you mean 'dbn'?"),
        ("dbn:", "'dbn:' has no known activation after the colon: choose from sigmoid, tanh, relu, selu"),
        ("he_normal:geru", "'he_normal:geru' has no known activation after the colon, did you mean 'gelu'?"),
        ("he_normal:relu:relu", "'he_normal:relu:relu' has no known activation"),
        ("he_normal:identity", "'he_normal:identity' has no known activation"),
        ("normal(std=1", "invalid arm 'normal(std=1': expected NAME, NAME:ACTIVATION or NAME(PARAMETER=VALUE, ...)"),
        ("normal std=1)", "invalid arm 'normalstd=1)': expected NAME"),
        ("normal(std=1)relu", "invalid arm"),
        ("normal(std=(1))", "invalid arm"),
        ("normal:relu(std=1)", "'normal:relu(std=1)' has no known activation"),
        ("normal()", "'' is not a parameter of normal: write NAME=VALUE, with std and bias"),
        ("normal(1.0)", "'1.0' is not a parameter of normal: write NAME=VALUE, with std and bias"),
        ("normal(std=1,)", "'' is not a parameter of normal"),
        ("normal(sdt=1)", "normal has no parameter 'sdt': it has std and bias"),
        ("he_normal(std=1)", "he_normal has no parameter 'std': it has bias and gain"),
        ("sparse(value=1)", "sparse has no parameter 'value': it has sparsity, std and bias"),
        ("normal(std=1,std=2)", "normal has std twice: keep one"),
        ("zeros(value=1)", "zeros has no parameters: leave the parentheses out"),
        ("zeros()", "zeros has no parameters"),
        ("batch_norm(bias=1)", "batch_norm has no parameters"),
        ("torch_default(bias=1)", "torch_default has no parameters"),
        ("dbn(std=1)", "dbn has no parameters"),
        ("normal(std=)", "std of normal must be a number between 1e-9 and 1e9, not ''"),
        ("normal(std=big)", "std of normal must be a number between 1e-9 and 1e9, not 'big'"),
        ("normal(std=0)", "std of normal must be a number between 1e-9 and 1e9, not '0'"),
        ("normal(std=-1)", "std of normal must be a number between 1e-9 and 1e9, not '-1'"),
        ("normal(std=nan)", "std of normal must be a number between 1e-9 and 1e9, not 'nan'"),
        ("normal(std=inf)", "std of normal must be a number between 1e-9 and 1e9, not 'inf'"),
        ("normal(std=1e999)", "std of normal must be a number between 1e-9 and 1e9, not '1e999'"),
        ("normal(std=1_0)", "std of normal must be a number between 1e-9 and 1e9, not '1_0'"),
        ("normal(std=\u0661)", "std of normal must be a number between 1e-9 and 1e9, not '\u0661'"),
        ("normal(std=1=2)", "std of normal must be a number between 1e-9 and 1e9, not '1=2'"),
        ("uniform(bound=-0.1)", "bound of uniform must be a number between 1e-9 and 1e9, not '-0.1'"),
        ("constant(value=1e10)", "value of constant must be a number between -1e9 and 1e9, not '1e10'"),
        ("sparse(sparsity=1)", "sparsity of sparse must be a number at least 0 and below 1, not '1'"),
        ("sparse(sparsity=-0.1)", "sparsity of sparse must be a number at least 0 and below 1, not '-0.1'"),
        ("lsuv(bias=no)", "bias of lsuv must be a number between -1e9 and 1e9, not 'no'"),
    ],
)
def test_an_arm_that_is_none_is_refused(text: str, sentence: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_arm(text)
    said = str(caught.value)
    assert said.startswith("--init: ")
    assert sentence in said
    assert "\n" not in said
    with pytest.raises(InputError, match=re.escape(sentence)):
        problem(text)


@pytest.mark.parametrize("name", INITIALIZERS)
def test_every_parameter_can_be_written_and_has_a_rule(name: str) -> None:
    arm = parse_arm(name)
    assert (arm.name, arm.start, arm.parameters) == (name, name, ())
    assert arm.activation == arm.initializer(None).activation
    for parameter in INITIALIZERS.parameters(name):
        written = parse_arm(f"{name}({parameter}=0.5)")
        assert PARAMETER_RULES[parameter].allowed(0.5)
        layers, plain = ([nn.Linear(40, 8)] for _ in range(2))
        for each, which in ((layers, written), (plain, arm)):
            which.initializer(None).fill(each, "relu", rng(), torch.randn(5, 40, generator=rng(1)))
        assert any((a != b).any() for a, b in zip(layers[0].parameters(), plain[0].parameters(), strict=True))


def test_a_parameter_without_a_rule_is_any_finite_number_and_one_without_a_default_is_needed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def mine(level: float, bias: float = 0.0) -> Initializer:
        return constant(level, bias)

    monkeypatch.setitem(INITIALIZERS, "mine", mine)
    assert parse_arm("mine(level=-1e30)").parameters == (("level", -1e30),)
    with pytest.raises(InputError, match="level of mine must be a finite number, not '1e999'"):
        parse_arm("mine(level=1e999)")
    with pytest.raises(InputError, match=r"mine needs level: write mine\(level=VALUE\)"):
        parse_arm("mine")


def test_an_arm_finds_its_start() -> None:
    made = make_stack(("bernoulli", "bernoulli")).float()
    layer = nn.Linear(3, 3)
    parse_arm("dbn").initializer(made).fill([layer], "sigmoid", rng(), torch.zeros(1, 3))
    assert torch.equal(layer.weight, made.layers[0].weight)
    with pytest.raises(InputError, match="name one with --pretrained"):
        parse_arm("dbn").initializer(None)
    parse_arm("constant(value=3, bias=2):relu").initializer(None).fill([layer], "relu", rng(), torch.zeros(1, 3))
    assert torch.equal(layer.weight, torch.full((3, 3), 3.0))
    assert torch.equal(layer.bias, torch.full((3,), 2.0))


def test_the_name_of_an_arm_is_a_folder_anywhere() -> None:
    for text in (*INITIALIZERS, "sparse( sparsity=.9, std=1e+2 ):relu", "uniform(bound=1E-3)"):
        assert re.fullmatch(r"[\w()=,.+:-]+", folder_name(parse_arm(text).name), re.ASCII)


# Arms to networks


def test_the_output_layer_of_every_arm_is_xavier_uniform() -> None:
    layer, again = nn.Linear(400, 200), nn.Linear(400, 200)
    initialize_output(layer, rng(1))
    initialize_output(again, rng(1))
    bound = sqrt(6 / (400 + 200))
    assert 0.999 * bound < layer.weight.abs().max() <= bound
    assert abs(float((layer.weight.detach() ** 2).mean()) * 3 / bound**2 - 1) < Z * sqrt(0.8 / layer.weight.numel())
    assert torch.equal(layer.bias, torch.zeros(200))
    assert torch.equal(layer.weight, again.weight)


@pytest.mark.parametrize("name", ["dbn", *INITIALIZERS])
def test_a_network_of_every_arm(name: str) -> None:
    made = problem(name)
    arm = parse_arm(name)
    before = torch.get_rng_state()
    network = made.network(arm, 0)
    assert torch.equal(before, torch.get_rng_state())
    again = made.network(arm, 0)
    assert all(torch.equal(value, again.state_dict()[key]) for key, value in network.state_dict().items())
    assert all(parameter.isfinite().all() for parameter in network.parameters())
    *_, output = linear_layers(network)
    shared = linear_layers(made.network(parse_arm("he_normal"), 0))[-1]
    assert torch.equal(output.weight, shared.weight) == (name not in ("zeros", "constant"))
    assert torch.equal(output.bias, shared.bias)
    plain = ["Linear", ACTIVATIONS[arm.activation].__name__]
    if name == "batch_norm":
        plain.insert(1, "BatchNorm1d")
    assert [type(module).__name__ for module in network] == [*plain, *plain, "Linear"]


@pytest.mark.parametrize("activation", ["selu", "gelu", "silu"])
def test_a_network_of_other_activations_learns_and_is_read_again(activation: str, tmp_path: Path) -> None:
    text = f"he_normal:{activation}"
    made = problem(text, epochs=20)
    run = begin(tmp_path / "run", to_dict(made.config), resume=False, overwrite=False)
    comparison = Comparison(made, run)
    chosen = comparison.train()
    tested = comparison.test(chosen)
    comparison.write(chosen, tested)
    (file,) = (run.path / folder_name(text)).glob("seed-*/classifier.safetensors")
    network, about = read_classifier(file)
    assert about["activation"] == activation
    assert type(network[1]).__name__.lower() == activation
    assert tested[text][0].error < 50


@pytest.mark.parametrize(
    ("text", "weight"),
    [
        ("zeros", lambda w: w * 0),
        ("constant(value=0.5)", lambda w: w * 0 + 0.5),
        ("xavier_uniform(gain=3)", lambda w: 3 * w),
    ],
)
def test_every_arm_has_the_output_layer_that_is_asked_for(text: str, weight: Any) -> None:
    plain = problem("dbn", "he_normal").network(parse_arm("dbn"), 0)
    for arm in ("dbn", "he_normal"):
        network = problem("dbn", "he_normal", output_init=text).network(parse_arm(arm), 0)
        assert_close(network[-1].weight, weight(plain[-1].weight))
        assert torch.equal(network[0].weight, problem(arm).network(parse_arm(arm), 0)[0].weight)


def test_the_output_layer_of_the_maximal_update_parametrization_has_variance_gain_by_inputs() -> None:
    wide = {"hidden": (40000,), "stacks": ()}
    made = replace(problem("he_normal", output_init="mup_normal(gain=2)"), **wide)
    weight = made.network(parse_arm("he_normal"), 0)[-1].weight.detach().double()
    assert abs(float((weight**2).mean()) * 40000**2 / 4 - 1) < Z * sqrt(2 / weight.numel())


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("lsuv", "--output-init lsuv is for hidden layers alone: choose another initializer"),
        ("dbn", "--output-init dbn is for hidden layers alone: choose another initializer"),
        ("batch_norm", "--output-init batch_norm is for hidden layers alone: choose another initializer"),
        ("zero", "--output-init: there is no initializer 'zero', did you mean 'zeros'?"),
        ("zeros:relu", "--output-init: there is no initializer 'zeros:relu', did you mean 'zeros'?"),
    ],
)
def test_an_output_layer_that_cannot_be_is_refused(text: str, sentence: str) -> None:
    with pytest.raises(InputError) as caught:
        problem("he_normal", output_init=text)
    assert str(caught.value) == sentence


def test_runs_of_earlier_versions_have_no_output_init() -> None:
    assert "output_init" not in to_dict(CONFIG)
    assert to_dict(replace(CONFIG, output_init="zeros"))["output_init"] == "zeros"


def test_lsuv_measures_on_scaled_training_data() -> None:
    network = problem("lsuv:tanh").network(parse_arm("lsuv:tanh"), 0)
    x = Scaling()(SPLITS.train.x)
    first = network[0](x).detach()
    assert len(x) <= 1000
    assert abs(float(first.var(correction=0)) - 1) <= 0.02
    assert abs(float(network[:3](x).detach().var(correction=0)) - 1) <= 0.02


@pytest.mark.parametrize(
    ("options", "n"),
    [
        ({"batch_size": 23}, 24),
        ({"batch_size": 1}, 24),
        ({"batch_size": 16, "refit": True}, 33),
        ({"batch_size": 8, "refit": True}, 33),
    ],
)
def test_a_batch_of_one_cannot_be_normalized(options: dict[str, Any], n: int) -> None:
    with pytest.raises(InputError, match=f"batch_norm cannot normalize a batch of one example, and {n} examples"):
        problem("he_normal", "batch_norm", **options)
    problem("he_normal", **options)
    if "refit" in options:
        problem("batch_norm", **{**options, "refit": False})


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("normal(std=1)", "normal(std = 1)"),
        ("normal(std=1)", "normal(std=1.0):sigmoid"),
        ("xavier_uniform", "xavier_uniform:sigmoid"),
        ("xavier_uniform", "xavier_uniform(bias=0)"),
        ("he_normal", "kaiming_normal"),
        ("glorot_uniform", "xavier_uniform(bias=0):sigmoid"),
    ],
)
def test_one_arm_in_two_spellings_is_refused(one: str, other: str) -> None:
    with pytest.raises(InputError, match=f"--init names {re.escape(one)} more than once, as "):
        problem(one, other)


def test_arms_that_differ_in_one_thing_are_two() -> None:
    problem("xavier_uniform", "xavier_normal", "xavier_uniform:tanh", "xavier_uniform(bias=0.01)", "dbn", "dbn:tanh")


# What theory says of the starts that fail


def trained(text: str, **options: Any) -> tuple[nn.Sequential, list[Tensor]]:
    """The network after its epochs, and the weights that its layers began with."""
    fit = Trainer(problem(text, **options), parse_arm(text), 0.3, 0)
    start = [layer.weight.detach().clone() for layer in linear_layers(fit.network)]
    assert len(list(fit.epochs())) == fit.last_epoch
    return fit.network, start


def unlikeness(network: nn.Sequential) -> list[float]:
    """Of each hidden layer: how far the weights of its units, in and out, are from those of its first unit."""
    layers = linear_layers(network)
    found = []
    for layer, following in pairwise(layers):
        units = torch.cat([layer.weight, layer.bias[:, None], following.weight.T], 1).detach()
        found.append(float((units - units[0]).abs().max()))
    return found


EQUAL = ("zeros", "constant", "constant(value=-0.3,bias=0.2):tanh", "constant(value=0.2):relu")


@pytest.mark.parametrize("text", EQUAL)
def test_equal_units_stay_equal_whatever_they_learn(text: str) -> None:
    network, start = trained(text, epochs=30)
    # The weights of all layers have moved, those of a layer's units all alike.
    assert all((layer.weight != weight).any() for layer, weight in zip(linear_layers(network), start, strict=True))
    assert max(unlikeness(network)) < 1e-4  # a product of matrices rounds its last columns differently


def test_small_random_weights_break_the_symmetry() -> None:
    network, start = trained("normal(std=0.01):tanh", epochs=30)
    assert max(float(weight.abs().max()) for weight in start[:-1]) < 0.05
    assert min(unlikeness(network)) > 1


@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_zeros_before_an_activation_that_is_zero_at_zero_never_move(activation: str) -> None:
    network, _ = trained(f"zeros:{activation}")
    *layers, output = linear_layers(network)
    assert all((layer.weight == 0).all() and (layer.bias == 0).all() for layer in layers)
    assert (output.weight == 0).all()


# Modules


def test_the_plain_network_is_linear_and_activation() -> None:
    assert [str(module) for module in mlp([4, 3, 2, 5], ["relu", "identity"])] == [
        "Linear(in_features=4, out_features=3, bias=True)",
        "ReLU()",
        "Linear(in_features=3, out_features=2, bias=True)",
        "Linear(in_features=2, out_features=5, bias=True)",
    ]
    assert list(mlp([4, 3, 2, 5], "tanh").state_dict()) == [f"{n}.{of}" for n in (0, 2, 4) for of in ("weight", "bias")]


def test_what_stands_between_the_layers() -> None:
    network = mlp([4, 3, 2, 5], "tanh", normalize=True)
    modules = "Linear BatchNorm1d Tanh Linear BatchNorm1d Tanh Linear"
    assert " ".join(type(module).__name__ for module in network) == modules
    described = meta_mlp({"sizes": [4, 3, 2, 5], "activation": "tanh", "normalise": True})
    assert str(described) == str(network)
    assert {parameter.device.type for parameter in described.parameters()} == {"meta"}
    assert [layer.in_features for layer in linear_layers(network)] == [4, 3, 2]


def test_normalized_layers_are_what_they_say() -> None:
    network = meta_mlp({"sizes": [36, 7, 3], "activation": "tanh", "normalise": True}).to_empty(device="cpu")
    with torch.no_grad():
        for value in network.state_dict().values():
            value.fill_(3)
        initialize_normalizing(network)
        linear, *_, output = linear_layers(network)
        initialize_output(linear, rng())
        initialize_output(output, rng(1))
    x = torch.rand(50, 36, generator=rng(2))
    field = linear(x)
    normalized = (field - field.mean(0)) / (field.var(0, correction=0) + 1e-5).sqrt()
    assert_close(network(x), output(activation_module("tanh")(normalized)))
    # The running mean and variance are a tenth of the batch's, nine tenths of 0 and 1.
    mean, variance = 0.1 * field.mean(0), 0.9 + 0.1 * field.var(0)
    assert_close(network.eval()(x), output(torch.tanh((field - mean) / (variance + 1e-5).sqrt())))


def test_arms_with_brackets_and_normalized_ones_run_from_end_to_end(tmp_path: Path) -> None:
    arms = ("sparse(sparsity=0.5, std=0.3):tanh", "batch_norm")
    made = problem(*arms, input_dropout=0.2, hidden_dropout=0.1, seeds=2)
    run = begin(tmp_path / "run", to_dict(made.config), resume=False, overwrite=False)
    comparison = Comparison(made, run)
    chosen = comparison.train()
    errors = comparison.test(chosen)
    comparison.write(chosen, errors)
    found = result(made, chosen, errors)
    run.write_json("result.json", found)
    assert {"relu, normalized", "tanh"} <= set(re.split(r"  +", table(found)))
    names = ["sparse(sparsity=0.5,std=0.3):tanh", "batch_norm"]
    assert list(found["arms"]) == names
    for name in names:
        (file,) = (run.path / folder_name(name)).glob("seed-*/classifier.safetensors")
        network, about = read_classifier(file)
        assert about["normalise"] == (name == "batch_norm")
        seed = int(file.parent.name.removeprefix("seed-"))
        assert score(network, Scaling(), made.test.x, labels_of(made.test)) == errors[name][seed]
    assert best_classifier(run)[0] in names
