"""Every start of a network against its formula."""

from math import sqrt

import pytest
import torch
from enumeration import Z, make_stack, rng
from torch import nn
from torch.testing import assert_close

from dbn.errors import InputError
from dbn.initializers import INITIALIZERS, Arm, from_dbn, parse_arm
from dbn.mlp import initialise_output, linear_layers, mlp

SIZES = [300, 400, 200, 10]
GAIN = {"sigmoid": 1.0, "tanh": 5 / 3, "relu": sqrt(2)}

each_start = pytest.mark.parametrize("name", INITIALIZERS)


def filled(name: str, activation: str = "relu", seed: int = 0) -> list[nn.Linear]:
    """The layers of a network whose hidden ones were filled and whose parameters had all been 1."""
    layers = linear_layers(mlp(SIZES, activation))
    with torch.no_grad():
        for layer in layers:
            layer.weight.fill_(1.0)
            layer.bias.fill_(1.0)
    INITIALIZERS[name].fill(layers[:-1], activation, rng(seed))
    return layers


def expected_variance(name: str, activation: str, inputs: int, outputs: int) -> float:
    """Glorot & Bengio: 2/(n_in + n_out) times the gain squared; He et al.: 2/n_in whatever follows."""
    return GAIN[activation] ** 2 * 2 / (inputs + outputs) if name.startswith("xavier") else 2 / inputs


@each_start
@pytest.mark.parametrize("activation", GAIN)
def test_weights_have_the_variance_of_the_formula(name: str, activation: str) -> None:
    kurtosis = 9 / 5 if name.endswith("uniform") else 3.0
    for layer in filled(name, activation)[:-1]:
        variance = expected_variance(name, activation, layer.in_features, layer.out_features)
        weight = layer.weight.detach().double()
        n = weight.numel()
        assert abs(float(weight.mean())) < Z * sqrt(variance / n)
        assert abs(float((weight**2).mean()) / variance - 1) < Z * sqrt((kurtosis - 1) / n)
        reach = float(weight.abs().max()) / sqrt(3 * variance)
        assert 0.999 < reach <= 1 + 1e-6 if name.endswith("uniform") else reach > 2


@each_start
def test_biases_are_zero_and_the_output_layer_is_left_alone(name: str) -> None:
    *hidden, output = filled(name)
    for layer in hidden:
        assert torch.equal(layer.bias, torch.zeros_like(layer.bias))
    assert torch.equal(output.weight, torch.ones_like(output.weight))
    assert torch.equal(output.bias, torch.ones_like(output.bias))


@each_start
def test_weights_follow_the_generator(name: str) -> None:
    first, again, other = (filled(name, seed=seed)[1].weight for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    twins = linear_layers(mlp([50, 50, 50, 2], "relu"))[:-1]
    INITIALIZERS[name].fill(twins, "relu", rng())
    assert not torch.equal(twins[0].weight, twins[1].weight)


def test_dbn_copies_the_stack_and_leaves_the_output_layer_alone() -> None:
    stack = make_stack(("bernoulli", "bernoulli", "gaussian")).float()
    before = {name: tensor.clone() for name, tensor in stack.state_dict().items()}
    layers = linear_layers(mlp([*stack.sizes, 4], ["sigmoid", "identity"]))
    output = {name: tensor.clone() for name, tensor in layers[-1].state_dict().items()}
    from_dbn(stack).fill(layers, "sigmoid", rng())
    for layer, source in zip(layers, linear_layers(stack.encoder()), strict=False):
        assert torch.equal(layer.weight, source.weight)
        assert torch.equal(layer.bias, source.bias)
    assert_close(dict(layers[-1].state_dict()), output, rtol=0, atol=0)
    with torch.no_grad():
        for layer in layers:
            layer.weight.zero_()
            layer.bias.zero_()
    assert_close(dict(stack.state_dict()), before, rtol=0, atol=0)


def test_the_output_layer_of_every_arm_is_xavier_uniform() -> None:
    layer, again = nn.Linear(400, 200), nn.Linear(400, 200)
    initialise_output(layer, rng(1))
    initialise_output(again, rng(1))
    bound = sqrt(6 / (400 + 200))
    assert 0.999 * bound < layer.weight.abs().max() <= bound
    assert abs(float((layer.weight.detach() ** 2).mean()) * 3 / bound**2 - 1) < Z * sqrt(0.8 / layer.weight.numel())
    assert torch.equal(layer.bias, torch.zeros(200))
    assert torch.equal(layer.weight, again.weight)


@pytest.mark.parametrize(
    ("text", "start", "activation"),
    [
        ("dbn", "dbn", "sigmoid"),
        ("dbn:tanh", "dbn", "tanh"),
        ("xavier_uniform", "xavier_uniform", "sigmoid"),
        ("xavier_normal", "xavier_normal", "sigmoid"),
        ("xavier_uniform:relu", "xavier_uniform", "relu"),
        ("he_uniform", "he_uniform", "relu"),
        ("he_normal", "he_normal", "relu"),
        ("he_normal:sigmoid", "he_normal", "sigmoid"),
    ],
)
def test_an_arm_is_a_start_and_an_activation(text: str, start: str, activation: str) -> None:
    assert parse_arm(text) == Arm(text, start, activation)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("xavier_unifrom", "no initialiser 'xavier_unifrom': did you mean 'xavier_uniform'"),
        ("zzz", "no initialiser 'zzz': choose from dbn, xavier_uniform, xavier_normal, he_uniform, he_normal"),
        ("", "no initialiser ''"),
        (":relu", "no initialiser ''"),
        ("DBN", "no initialiser 'DBN'"),
        ("dbn:", "'dbn:' names no known activation: choose from sigmoid, tanh, relu"),
        ("he_normal:gelu", "'he_normal:gelu' names no known activation"),
        ("he_normal:relu:relu", "'he_normal:relu:relu' names no known activation"),
    ],
)
def test_an_arm_that_is_none_is_refused(text: str, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        parse_arm(text)


def test_an_arm_finds_its_start() -> None:
    stack = make_stack(("bernoulli", "bernoulli")).float()
    assert parse_arm("he_normal:tanh").initializer(None) is INITIALIZERS["he_normal"]
    layer = nn.Linear(3, 3)
    parse_arm("dbn").initializer(stack).fill([layer], "sigmoid", rng())
    assert torch.equal(layer.weight, stack.layers[0].weight)
    with pytest.raises(InputError, match="name one with --pretrained"):
        parse_arm("dbn").initializer(None)
