"""Every start of a network against its formula."""

from collections.abc import Callable
from math import ceil, exp, sqrt
from typing import Any

import pytest
import torch
from enumeration import CHANCE, Z, make_stack, rng
from scipy import integrate, stats
from torch import Tensor, nn
from torch.nn import init
from torch.testing import assert_close

from dbn.errors import InputError
from dbn.initializers import INITIALIZERS
from dbn.initializers import schemes as starts
from dbn.initializers.gains import gain_of
from dbn.initializers.schemes import Initializer, from_dbn
from dbn.models.mlp import activation_module, linear_layers, mlp

SIZES = [300, 400, 200, 10]
GAIN = {"sigmoid": 1.0, "tanh": 5 / 3, "relu": sqrt(2)}
EVERY_LAYER = {"zeros", "constant"}


def inputs(seed: int = 9) -> Tensor:
    """(128, 300), neither centred nor of one variance."""
    return torch.rand(128, 300, generator=rng(seed)) * torch.linspace(0, 3, 300) + 0.5


def filled(initializer: Initializer, activation: str = "relu", seed: int = 0) -> list[nn.Linear]:
    """The layers of a network whose parameters had all been 7, where they were filled."""
    layers = linear_layers(mlp(SIZES, activation))
    with torch.no_grad():
        for layer in layers:
            layer.weight.fill_(7.0)
            layer.bias.fill_(7.0)
    initializer.fill(layers if initializer.every_layer else layers[:-1], activation, rng(seed), inputs())
    return layers


# Distributions

Law = Callable[[int, int, float], Any]
"""From inputs, outputs and gain to what a weight is drawn from."""


def normal(variance: Callable[[int, int, float], float]) -> Law:
    return lambda n_in, n_out, gain: stats.norm(0, sqrt(variance(n_in, n_out, gain)))


def uniform(bound: Callable[[int, int, float], float]) -> Law:
    def law(n_in: int, n_out: int, gain: float) -> Any:
        a = bound(n_in, n_out, gain)
        return stats.uniform(-a, 2 * a)

    return law


LAWS: dict[str, tuple[Initializer, Law]] = {
    "normal": (starts.normal(), normal(lambda *_: 0.01**2)),
    "normal(std=1)": (starts.normal(1.0), normal(lambda *_: 1.0)),
    "uniform": (starts.uniform(), uniform(lambda *_: 0.05)),
    "uniform(bound=2)": (starts.uniform(2.0), uniform(lambda *_: 2.0)),
    "truncated_normal": (starts.truncated_normal(), lambda *_: stats.truncnorm(-2, 2, 0, 0.01)),
    "truncated_normal(std=3)": (starts.truncated_normal(3.0), lambda *_: stats.truncnorm(-2, 2, 0, 3)),
    "lecun_normal": (starts.lecun_normal(), normal(lambda n_in, n_out, gain: 1 / n_in)),
    "lecun_uniform": (starts.lecun_uniform(), uniform(lambda n_in, n_out, gain: sqrt(3 / n_in))),
    "xavier_normal": (starts.xavier_normal(), normal(lambda n_in, n_out, gain: gain**2 * 2 / (n_in + n_out))),
    "xavier_uniform": (starts.xavier_uniform(), uniform(lambda n_in, n_out, gain: gain * sqrt(6 / (n_in + n_out)))),
    "xavier_normal(gain=3)": (starts.xavier_normal(gain=3.0), normal(lambda n_in, n_out, _: 9 * 2 / (n_in + n_out))),
    "xavier_uniform(gain=1)": (
        starts.xavier_uniform(gain=1.0),
        uniform(lambda n_in, n_out, _: sqrt(6 / (n_in + n_out))),
    ),
    "he_normal": (starts.he_normal(), normal(lambda n_in, n_out, gain: 2 / n_in)),
    "he_uniform": (starts.he_uniform(), uniform(lambda n_in, n_out, gain: sqrt(6 / n_in))),
    "he_normal(gain=3)": (starts.he_normal(gain=3.0), normal(lambda n_in, n_out, gain: 9 / n_in)),
    "he_uniform(gain=1)": (starts.he_uniform(gain=1.0), uniform(lambda n_in, n_out, gain: sqrt(3 / n_in))),
    "lecun_normal(gain=4)": (starts.lecun_normal(gain=4.0), normal(lambda n_in, n_out, gain: 16 / n_in)),
    "lecun_uniform(gain=4)": (starts.lecun_uniform(gain=4.0), uniform(lambda n_in, n_out, gain: 4 * sqrt(3 / n_in))),
    "mup_normal": (starts.mup_normal(), normal(lambda n_in, n_out, gain: 1 / n_in**2)),
    "mup_normal(gain=2)": (starts.mup_normal(gain=2.0), normal(lambda n_in, n_out, gain: 4 / n_in**2)),
    "batch_norm": (starts.batch_norm(), normal(lambda n_in, n_out, gain: 2 / n_in)),
    "torch_default": (starts.torch_default(), uniform(lambda n_in, n_out, gain: 1 / sqrt(n_in))),
}


@pytest.mark.parametrize("activation", GAIN)
@pytest.mark.parametrize("name", LAWS)
def test_weights_are_drawn_from_the_law_of_the_formula(name: str, activation: str) -> None:
    initializer, law = LAWS[name]
    for layer in filled(initializer, activation)[:-1]:
        exact = law(layer.in_features, layer.out_features, GAIN[activation])
        weight = layer.weight.detach().double().flatten()
        mean, variance, _, excess = exact.stats("mvsk")
        assert mean == pytest.approx(0, abs=1e-9)
        assert abs(float(weight.mean())) < Z * sqrt(variance / len(weight))
        assert abs(float((weight**2).mean()) / variance - 1) < Z * sqrt((excess + 2) / len(weight))
        low, high = exact.support()
        assert low * (1 + 1e-6) <= float(weight.min())
        assert float(weight.max()) <= high * (1 + 1e-6)
        assert stats.kstest(weight.numpy(), exact.cdf).pvalue > CHANCE


def test_every_start_that_draws_has_a_law() -> None:
    without = {"zeros", "constant", "sparse", "orthogonal", "lsuv"}
    assert {name.partition("(")[0] for name in LAWS} == INITIALIZERS.keys() - without


@pytest.mark.parametrize(
    ("initializer", "value", "bias"),
    [(starts.zeros(), 0.0, 0.0), (starts.constant(), 0.1, 0.0), (starts.constant(-2.0, bias=0.5), -2.0, 0.5)],
)
def test_zeros_and_constant_fill_every_layer(initializer: Initializer, value: float, bias: float) -> None:
    for layer in filled(initializer):
        assert torch.equal(layer.weight, torch.full_like(layer.weight, value))
        assert torch.equal(layer.bias, torch.full_like(layer.bias, bias))


@pytest.mark.parametrize(("sparsity", "std"), [(0.9, 0.01), (0.0, 1.0), (0.501, 0.3), (0.99, 2.0)])
def test_sparse_weights_are_few_and_normal(sparsity: float, std: float) -> None:
    for layer in filled(starts.sparse(sparsity, std))[:-1]:
        weight = layer.weight.detach()
        zeros = ceil(sparsity * layer.in_features)
        assert ((weight == 0).sum(1) == zeros).all()
        others = weight[weight != 0].double()
        assert stats.kstest(others.numpy(), stats.norm(0, std).cdf).pvalue > CHANCE
        if zeros:
            # A unit leaves out each input with probability p = zeros/n_in: the variance of an input's count is
            # n_out·p·(1 − p), and the counts of all inputs have a fixed sum.
            p = zeros / layer.in_features
            counts = (weight == 0).double().sum(0)
            spread = ((counts - layer.out_features * p) ** 2).sum() / (layer.out_features * p * (1 - p))
            scale = layer.in_features / (layer.in_features - 1)
            assert CHANCE < stats.chi2.sf(float(spread) / scale, layer.in_features - 1) < 1 - CHANCE


def test_sparse_starts_as_its_formula_says_by_default() -> None:
    for layer, again in zip(filled(starts.sparse()), filled(starts.sparse(0.9, 0.01, 0.0)), strict=True):
        assert torch.equal(layer.weight, again.weight)


@pytest.mark.parametrize("activation", GAIN)
def test_orthogonal_weights_are(activation: str) -> None:
    wide_or_tall = filled(starts.orthogonal(), activation)[:-1]
    assert {layer.in_features > layer.out_features for layer in wide_or_tall} == {True, False}
    for layer in wide_or_tall:
        assert_semi_orthogonal(layer.weight, GAIN[activation])
    for layer in filled(starts.orthogonal(gain=0.5), activation)[:-1]:
        assert_semi_orthogonal(layer.weight, 0.5)


def assert_semi_orthogonal(weight: Tensor, gain: float) -> None:
    q = weight.detach().double() / gain
    product = q @ q.T if len(q) < q.shape[1] else q.T @ q
    assert_close(product, torch.eye(len(product), dtype=torch.float64), rtol=0, atol=1e-5)


# Gains


FUNCTIONS: dict[str, Callable[[float], float]] = {
    "relu": lambda z: max(z, 0.0),
    "selu": lambda z: 1.0507009873554805 * (z if z > 0 else 1.6732632423543772 * (exp(z) - 1)),
    "gelu": lambda z: z * stats.norm.cdf(z),
    "silu": lambda z: z / (1 + exp(-z)),
}


def moment(activation: str, power: int) -> float:
    """E[f(z)^power], z ~ N(0, 1)."""
    f = FUNCTIONS[activation]
    return sum(integrate.quad(lambda z: f(z) ** power * stats.norm.pdf(z), *ends)[0] for ends in ((-12, 0), (0, 12)))


@pytest.mark.parametrize("activation", FUNCTIONS)
def test_the_gain_keeps_the_mean_square(activation: str) -> None:
    gain = gain_of(activation)
    assert gain == pytest.approx(1 / sqrt(moment(activation, 2)), abs=1e-6)
    # Of an input with |x|² = n/gain², each unit of a layer has a field from N(0, 1).
    x = torch.full((1, 300), 1 / gain)
    layer = nn.Linear(300, 50_000)
    starts.he_normal().fill([layer], activation, rng(1), x)
    square = float((activation_module(activation)(layer(x)).double().detach() ** 2).mean())
    exact, fourth = moment(activation, 2), moment(activation, 4)
    assert abs(square - exact) < Z * sqrt((fourth - exact**2) / layer.out_features)


@pytest.mark.parametrize("activation", FUNCTIONS)
def test_signals_keep_their_size_through_five_layers(activation: str) -> None:
    layers = linear_layers(mlp([400] * 6 + [2], activation))[:-1]
    starts.he_normal().fill(layers, activation, rng(2), inputs())
    x = torch.randn(100, 400, generator=rng(3)) / gain_of(activation)
    with torch.no_grad():
        for layer in layers:
            field = layer(x)
            x = activation_module(activation)(field)
    assert 0.5 < float(field.square().mean()) < 2


def test_the_gains_of_other_activations_are_torchs() -> None:
    assert [gain_of(name) for name in ("identity", "sigmoid", "tanh", "relu")] == [1, 1, 5 / 3, sqrt(2)]
    assert gain_of("selu") == 1


@pytest.mark.parametrize("gain", [1.0, 4.0])
def test_a_layer_of_sigmoid_units_passes_a_quarter_of_the_gain(gain: float) -> None:
    # At x = 0 the slope is ¼, so that a small difference d becomes ¼·W·d, whose mean square is gain²/16·|d|²/n.
    layer = nn.Linear(400, 400).double()
    starts.xavier_normal(gain=gain).fill([layer], "sigmoid", rng(4), inputs())
    d = torch.full((400,), 1e-4, dtype=torch.float64)
    h = torch.sigmoid(layer(torch.stack([-d, d])))
    passed = (h[1] - h[0]).detach() / 2e-4
    assert abs(float((passed**2).mean()) / (gain / 4) ** 2 - 1) < Z * sqrt(2 / 400)


@pytest.mark.parametrize("activation", GAIN)
@pytest.mark.parametrize(
    ("initializer", "draw", "nonlinearity"),
    [
        (starts.he_normal(), init.kaiming_normal_, "relu"),
        (starts.he_uniform(), init.kaiming_uniform_, "relu"),
        (starts.lecun_normal(), init.kaiming_normal_, "linear"),
        (starts.lecun_uniform(), init.kaiming_uniform_, "linear"),
    ],
)
def test_weights_by_inputs_are_torchs(initializer: Initializer, draw: Any, nonlinearity: str, activation: str) -> None:
    generator = rng(0)
    for layer in filled(initializer, activation)[:-1]:
        again = draw(torch.empty_like(layer.weight), nonlinearity=nonlinearity, generator=generator)
        assert torch.equal(layer.weight, again)


# LSUV


def variances(layers: list[nn.Linear], activation: str) -> list[float]:
    """Of each hidden layer's outputs before the activation, over examples and units."""
    found, x = [], inputs().double()
    for layer in layers[:-1]:
        field = x @ layer.weight.detach().double().T + layer.bias.detach().double()
        found.append(float(((field - field.mean()) ** 2).mean()))
        x = activation_module(activation)(field)
    return found


@pytest.mark.parametrize("bias", [0.0, 0.3])
@pytest.mark.parametrize("activation", GAIN)
def test_lsuv_brings_every_layer_to_variance_one(activation: str, bias: float) -> None:
    layers = filled(starts.lsuv(bias), activation)
    assert all(abs(variance - 1) <= 0.02 for variance in variances(layers, activation))
    wider = filled(starts.lsuv(bias, std=2.5), activation)
    assert all(abs(variance / 6.25 - 1) <= 0.02 for variance in variances(wider, activation))
    plain = linear_layers(mlp(SIZES, activation))
    generator = rng(0)
    for layer, start in zip(layers[:-1], plain, strict=False):
        with torch.no_grad():
            init.orthogonal_(start.weight, generator=generator)
            start.bias.fill_(bias)
        scale = float(layer.weight.detach().norm() / start.weight.detach().norm())
        assert_close(layer.weight, scale * start.weight, rtol=1e-5, atol=1e-7)
        assert torch.equal(layer.bias, torch.full_like(layer.bias, bias))
        assert_semi_orthogonal(start.weight, 1.0)
    assert max(abs(variance - 1) for variance in variances(plain, activation)) > 0.1


@pytest.mark.parametrize(("variance", "scaled"), [(1.019, False), (0.981, False), (1.021, True), (0.979, True)])
def test_lsuv_leaves_a_variance_that_is_near_one(variance: float, scaled: bool) -> None:
    start = init.orthogonal_(torch.empty(400, 300), generator=rng())
    x = torch.randn(200, 300, generator=rng(1))
    x *= (variance / (x @ start.T).var(correction=0)).sqrt()
    layer = nn.Linear(300, 400)
    starts.lsuv().fill([layer], "relu", rng(), x)
    assert torch.equal(layer.weight, start) != scaled
    assert abs(float(layer(x).var(correction=0).detach()) - (1.0 if scaled else variance)) < 1e-4


@pytest.mark.parametrize("x", [torch.zeros(20, 300), torch.full((20, 300), torch.nan)], ids=["zero", "nan"])
def test_lsuv_refuses_data_that_do_not_vary(x: Tensor) -> None:
    with pytest.raises(InputError, match=r"^lsuv: no scale brings the outputs of hidden layer 1"):
        starts.lsuv().fill(linear_layers(mlp(SIZES, "relu"))[:-1], "relu", rng(), x)


# All starts

each_start = pytest.mark.parametrize("name", INITIALIZERS)


@each_start
def test_the_output_layer_is_left_alone_but_by_two(name: str) -> None:
    *_, output = filled(INITIALIZERS[name]())
    untouched = [bool((parameter == 7.0).all()) for parameter in (output.weight, output.bias)]
    assert untouched == [name not in EVERY_LAYER] * 2


@pytest.mark.parametrize("name", sorted(INITIALIZERS.keys() - {"torch_default"}))
def test_hidden_biases_are_zero_unless_given(name: str) -> None:
    for layer in filled(INITIALIZERS[name]())[:-1]:
        assert torch.equal(layer.bias, torch.zeros_like(layer.bias))
    if name not in ("zeros", "batch_norm"):
        for layer in filled(INITIALIZERS[name](bias=0.25))[:-1]:
            assert torch.equal(layer.bias, torch.full_like(layer.bias, 0.25))


def test_biases_of_torchs_own_start_are_uniform() -> None:
    for layer in filled(starts.torch_default())[:-1]:
        a = 1 / sqrt(layer.in_features)
        assert stats.kstest(layer.bias.detach().numpy(), stats.uniform(-a, 2 * a).cdf).pvalue > CHANCE


def test_torchs_own_start_is_torchs_own() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(int(torch.randint(2**32, (), generator=rng(3))))
        fresh = nn.Linear(300, 400)
    layer = filled(starts.torch_default(), seed=3)[0]
    assert torch.equal(layer.weight, fresh.weight)
    assert torch.equal(layer.bias, fresh.bias)


@each_start
def test_weights_follow_the_generator(name: str) -> None:
    first, again, other = (filled(INITIALIZERS[name](), seed=seed)[1].weight for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert torch.equal(first, other) == (name in EVERY_LAYER)
    twins = linear_layers(mlp([50, 50, 50, 2], "relu"))[:-1]
    INITIALIZERS[name]().fill(twins, "relu", rng(), inputs()[:, :50])
    assert torch.equal(twins[0].weight.sign(), twins[1].weight.sign()) == (name in EVERY_LAYER)


@each_start
def test_global_random_numbers_are_neither_used_nor_moved(name: str) -> None:
    weights = []
    for seed in (1, 2):
        layers = linear_layers(mlp([20, 30, 10, 2], "tanh"))
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            before = torch.get_rng_state()
            INITIALIZERS[name]().fill(layers, "tanh", rng(), inputs()[:, :20])
            assert torch.equal(before, torch.get_rng_state())
        weights.append([parameter for layer in layers for parameter in (layer.weight, layer.bias)])
    assert all(torch.equal(a, b) for a, b in zip(*weights, strict=True))


def test_dbn_copies_the_stack_and_leaves_the_output_layer_alone() -> None:
    stack = make_stack(("bernoulli", "bernoulli", "gaussian")).float()
    before = {name: tensor.clone() for name, tensor in stack.state_dict().items()}
    layers = linear_layers(mlp([*stack.sizes, 4], ["sigmoid", "identity"]))
    output = {name: tensor.clone() for name, tensor in layers[-1].state_dict().items()}
    from_dbn(stack).fill(layers, "sigmoid", rng(), torch.zeros(1, stack.sizes[0]))
    for layer, source in zip(layers, linear_layers(stack.encoder()), strict=False):
        assert torch.equal(layer.weight, source.weight)
        assert torch.equal(layer.bias, source.bias)
    assert_close(dict(layers[-1].state_dict()), output, rtol=0, atol=0)
    with torch.no_grad():
        for layer in layers:
            layer.weight.zero_()
            layer.bias.zero_()
    assert_close(dict(stack.state_dict()), before, rtol=0, atol=0)
