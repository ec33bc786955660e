"""`initialize` on networks of any architecture."""

from math import sqrt
from typing import Any

import pytest
import torch
from enumeration import Z, rng
from tiny import splits, stack
from torch import Tensor, nn

import dbn.initializers
from dbn.config.finetuning import Finetuning
from dbn.errors import InputError
from dbn.finetuning.problem import Problem
from dbn.initializers import ALIASES, INITIALIZERS, from_dbn, initialize, parse_arm
from dbn.models.mlp import linear_layers, mlp
from dbn.models.scaling import Scaling

CONVOLUTIONS = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}


class Residual(nn.Module):
    """Layers that are registered in another order than they are called in, in no chain."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(30, 30, bias=False)
        self.outer = nn.Linear(20, 30)
        self.dropout = nn.Dropout()
        self.output = nn.Linear(30, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.relu(self.outer(x))
        return self.output(self.dropout(h + torch.relu(self.inner(h))))


def convolutional(bias: bool = True) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 16, 5, bias=bias),
        nn.ReLU(inplace=True),
        nn.Conv2d(16, 32, 3, bias=bias),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(32 * 4, 10),
    )


def images(n: int = 40) -> Tensor:
    return torch.rand(n, 3, 8, 8, generator=rng(1)) * 3 + 0.5


@pytest.mark.parametrize("name", sorted(INITIALIZERS.keys() - {"batch_norm"}))
def test_a_network_is_that_of_the_arm(name: str) -> None:
    problem = Problem(splits(), Scaling(), (7, 5), (stack(),), Finetuning(init=(name,), labels=24, valid_labels=9))
    arm = parse_arm(name)
    expected = problem.network(arm, 3)
    network = mlp([36, 7, 5, splits().n_classes], arm.activation)
    assert initialize(network, name, arm.activation, problem._inputs(3), seed=3) is network
    for key, value in expected.state_dict().items():
        assert torch.equal(network.state_dict()[key], value), key


@pytest.mark.parametrize("dimensions", CONVOLUTIONS)
@pytest.mark.parametrize(
    ("scheme", "variance"),
    [
        ("he_normal", lambda fan_in, fan_out: 2 / fan_in),
        ("kaiming_uniform", lambda fan_in, fan_out: 2 / fan_in),
        ("lecun_normal", lambda fan_in, fan_out: 1 / fan_in),
        ("glorot_normal", lambda fan_in, fan_out: 2 * 2 / (fan_in + fan_out)),
        ("xavier_uniform(gain=1)", lambda fan_in, fan_out: 2 / (fan_in + fan_out)),
        ("torch_default", lambda fan_in, fan_out: 1 / (3 * fan_in)),
        ("normal(std=0.3)", lambda *_: 0.09),
    ],
)
@pytest.mark.parametrize("bias", [True, False])
def test_convolutions_have_the_fans_of_their_kernels(scheme: str, variance: Any, dimensions: int, bias: bool) -> None:
    layer = CONVOLUTIONS[dimensions](20, 40, 3, bias=bias)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.fill_(7.0)
    initialize(nn.Sequential(layer, nn.ReLU(), nn.Linear(4, 2)), scheme, seed=dimensions)
    weight = layer.weight.detach().double()
    exact = variance(20 * 3**dimensions, 40 * 3**dimensions)
    assert abs(float(weight.square().mean()) / exact - 1) < Z * sqrt(2 / weight.numel())
    if bias and scheme != "torch_default":
        assert torch.equal(layer.bias, torch.zeros_like(layer.bias))


def test_sparse_and_orthogonal_convolutions() -> None:
    layer = initialize(convolutional(), "sparse(sparsity=0.9)")[2]
    assert ((layer.weight == 0).flatten(1).sum(1) == 130).all()  # of 16·9 = 144 per unit
    layer = initialize(convolutional(), "orthogonal(gain=1)")[2]
    rows = layer.weight.detach().flatten(1)
    torch.testing.assert_close(rows @ rows.T, torch.eye(32), atol=1e-5, rtol=0)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("make", [convolutional, None])
def test_lsuv_brings_every_layer_of_any_network_to_variance_one(make: Any, bias: bool) -> None:
    network = Residual() if make is None else make(bias)
    x = torch.rand(200, 20, generator=rng(2)) * 4 if make is None else images()
    network.train()
    before = torch.get_rng_state()
    initialize(network, "lsuv", data=x)
    assert torch.equal(before, torch.get_rng_state())
    assert all(module.training for module in network.modules())
    assert not any(module._forward_hooks for module in network.modules())
    *hidden, _ = (module for module in network.modules() if isinstance(module, nn.Linear | nn.Conv2d))
    found = {}
    for layer in hidden:
        layer.register_forward_hook(lambda layer, _, output: found.update({layer: output.detach().var(correction=0)}))
    network.eval()(x)
    assert all(abs(float(variance) - 1) <= 0.02 for variance in found.values())
    assert len(found) == 2


def test_lsuv_refuses_what_a_forward_pass_leaves_out() -> None:
    network = Residual()
    network.unused = nn.Linear(3, 3)
    network.output, network.last = None, nn.Linear(3, 3)
    network.forward = lambda x: torch.relu(network.inner(network.outer(x)))  # type: ignore[method-assign]
    with pytest.raises(InputError, match="a forward pass leaves out some"):
        initialize(network, "lsuv", data=torch.rand(9, 20))


@pytest.mark.parametrize("scheme", ["zeros", "constant(value=2)"])
def test_constant_schemes_set_the_last_layer_too_unless_it_is_left_alone(scheme: str) -> None:
    value = 0.0 if scheme == "zeros" else 2.0
    network = initialize(mlp([4, 3, 2], "relu"), scheme)
    assert all((layer.weight == value).all() for layer in linear_layers(network))
    network = mlp([4, 3, 2], "relu")
    before = {name: tensor.clone() for name, tensor in network[-1].state_dict().items()}
    initialize(network, scheme, output=None)
    assert (network[0].weight == value).all()
    assert all(torch.equal(tensor, before[name]) for name, tensor in network[-1].state_dict().items())


def test_the_last_layer_may_have_a_scheme_of_its_own() -> None:
    network = initialize(mlp([4, 3, 2], "relu"), "he_normal", output="constant(value=3, bias=1)")
    assert (network[-1].weight == 3).all()
    assert (network[-1].bias == 1).all()
    assert not (network[0].weight == 3).any()


def test_a_stack_initializes_the_layers_before_the_last() -> None:
    network = initialize(mlp([36, 7, 5, 3], "sigmoid"), from_dbn(stack()))
    for layer, rbm in zip(linear_layers(network), stack().layers, strict=False):
        assert torch.equal(layer.weight, rbm.weight)
        assert torch.equal(layer.bias, rbm.hidden.bias)


def test_batch_normalization_is_reset() -> None:
    network = mlp([4, 3, 2], "relu", normalize=True)
    with torch.no_grad():
        network[1].weight.fill_(7.0)
        network[1].running_mean.fill_(7.0)
    initialize(network, "batch_norm")
    assert (network[1].weight == 1).all()
    assert (network[1].running_mean == 0).all()


def test_a_seed_gives_one_network() -> None:
    one, same, other = (initialize(convolutional(), "he_normal", seed=seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(one[key], same[key]) for key in one)
    assert not torch.equal(one["0.weight"], other["0.weight"])
    assert not torch.equal(one["5.weight"], other["5.weight"])


@pytest.mark.parametrize(
    ("network", "options", "sentence"),
    [
        (nn.ReLU(), {}, "no linear or convolutional layer"),
        (nn.Sequential(nn.LazyLinear(3), nn.Linear(3, 2)), {}, "lazy layers"),
        (None, {"scheme": "he_norml"}, "there is no initializer 'he_norml', did you mean 'he_normal'?"),
        (None, {"scheme": "normal(std=0)"}, "std of normal must be a number between 1e-9 and 1e9, not '0'"),
        (None, {"scheme": "dbn"}, "'dbn' needs a stack"),
        (None, {"scheme": "lsuv"}, "needs data"),
        (None, {"scheme": "lsuv", "data": torch.zeros(5, 4)}, "lsuv: no scale brings the outputs of hidden layer 1"),
        (None, {"scheme": "batch_norm"}, "add such layers, or use he_normal"),
        (None, {"activation": "rleu"}, "there is no activation 'rleu', did you mean 'relu'?"),
        (None, {"output": "xavier"}, "there is no initializer 'xavier'"),
        (mlp([36, 7, 4, 3], "relu"), {"scheme": from_dbn(stack())}, "layer 2 of the stack is (5, 7), of the network"),
        (convolutional(), {"scheme": from_dbn(stack())}, "layer 1 of the network must be linear with a bias"),
        (
            nn.Sequential(nn.Linear(36, 7, bias=False), nn.Linear(7, 5), nn.Linear(5, 2)),
            {"scheme": from_dbn(stack())},
            "layer 1 of the network must be linear with a bias",
        ),
    ],
)
def test_what_cannot_be_initialized_is_refused(network: Any, options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError) as caught:
        initialize(mlp([4, 3, 2], "relu") if network is None else network, **{"scheme": "he_normal", **options})
    assert sentence in str(caught.value)
    assert "--" not in str(caught.value)


@pytest.mark.parametrize("name", [*INITIALIZERS, *ALIASES])
def test_every_scheme_and_alias_is_a_public_function(name: str) -> None:
    assert getattr(dbn.initializers, name) is INITIALIZERS[ALIASES.get(name, name)]
    assert name in dbn.initializers.__all__
