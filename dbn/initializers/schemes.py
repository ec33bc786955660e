"""Initialization schemes: functions of their parameters that return an `Initializer`, pre-training among them.

W are a layer's weights, n_in and n_out its fan-in and fan-out as torch counts them: inputs and outputs, times the
kernel size of a convolution. Biases are `bias`, 0 by default; layers without biases have none.
"""

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from math import sqrt
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import init

from dbn.errors import InputError, check_types
from dbn.initializers.gains import TORCH_GAINS, gain_of
from dbn.models.dbn import DBN, copy_layers
from dbn.models.mlp import activation_module, linear_layers
from dbn.rng import global_numbers

Layer = nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d

Fill = Callable[[Sequence[Layer], str, torch.Generator, Tensor], None]
"""Initializes layers that are each followed by the named activation, with random numbers from a CPU generator.

The last argument is one batch of inputs of the first layer, scaled training data (B, V) on the layers' device.
"""

FillNetwork = Callable[[nn.Module, Sequence[Layer], torch.Generator, Tensor], None]
"""Initializes the layers of a network of any architecture, given one batch of its inputs."""


@dataclass(frozen=True)
class Initializer:
    """A scheme with its parameters."""

    fill: Fill
    activation: str
    """The default of an arm."""
    every_layer: bool = False
    """Whether it initializes the output layer too."""
    normalize: bool = False
    """Whether it is for networks with batch normalization."""
    from_data: bool = False
    """Whether it needs data, and may reject them."""
    fill_network: FillNetwork | None = None
    """In place of `fill` where the layers are not a chain, for a scheme that needs data."""


@check_types
def from_dbn(stack: DBN, *, mirrored: bool = False) -> Initializer:
    """The weights and hidden biases of a pre-trained stack (Hinton, Osindero & Teh 2006).

    mirrored: for an autoencoder, all layers as `DBN.to_autoencoder` has them.

    >>> from dbn.models import RBM, Bernoulli
    >>> from dbn.initializers import initialize
    >>> stack = DBN([RBM(Bernoulli(4), Bernoulli(3))])
    >>> network = initialize(nn.Sequential(nn.Linear(4, 3), nn.Sigmoid(), nn.Linear(3, 2)), from_dbn(stack))
    >>> bool((network[0].weight == stack.layers[0].weight).all())
    True
    """

    @torch.no_grad()
    def fill(layers: Sequence[Layer], *_: object) -> None:
        for layer, source in zip(layers, linear_layers(stack.to_autoencoder()), strict=True):
            layer.load_state_dict(source.state_dict())

    if mirrored:
        return Initializer(fill, "sigmoid", every_layer=True)
    return Initializer(lambda layers, *_: copy_layers(stack, layers), "sigmoid")


def zeros() -> Initializer:
    """W = 0 and b = 0 in every layer, the output too: the units of a layer stay identical in training."""
    return _drawn(lambda weight, *_: init.zeros_(weight), "sigmoid", every_layer=True)


def constant(value: float = 0.1, bias: float = 0.0) -> Initializer:
    """W = value and b = bias in every layer, the output too: the units of a layer stay identical in training."""
    return _drawn(lambda weight, *_: init.constant_(weight, value), "sigmoid", bias, every_layer=True)


def normal(std: float = 0.01, bias: float = 0.0) -> Initializer:
    """W ~ N(0, std²) for any size: if std is too small, signals vanish with depth; if too large, units saturate."""
    return _drawn(lambda weight, _, random: init.normal_(weight, 0.0, std, random), "sigmoid", bias)


def uniform(bound: float = 0.05, bias: float = 0.0) -> Initializer:
    """W ~ U(−bound, bound) for any size."""
    return _drawn(lambda weight, _, random: init.uniform_(weight, -bound, bound, random), "sigmoid", bias)


def truncated_normal(std: float = 0.01, bias: float = 0.0) -> Initializer:
    """W ~ N(0, std²) given |W| ≤ 2·std, with a variance of 0.774·std²."""
    low, high = -2 * std, 2 * std
    return _drawn(lambda weight, _, random: init.trunc_normal_(weight, 0.0, std, low, high, random), "sigmoid", bias)


def sparse(sparsity: float = 0.9, std: float = 0.01, bias: float = 0.0) -> Initializer:
    """⌈sparsity·n_in⌉ incoming weights of each unit are 0, the others ~ N(0, std²) (Martens 2010)."""

    def draw(weight: Tensor, activation: str, generator: torch.Generator) -> None:
        with global_numbers(generator):  # its choice of weights takes no generator
            # torch counts the zeros of a column, Martens those of a unit, which is a row here.
            init.sparse_(weight.flatten(1).t(), sparsity, std)

    return _drawn(draw, "sigmoid", bias)


def lecun_normal(bias: float = 0.0, gain: float = 1.0) -> Initializer:
    """W ~ N(0, gain²/n_in) (LeCun, Bottou, Orr & Müller 1998, with gain 1)."""
    return _drawn(_by_inputs(_normal, gain), "tanh", bias)


def lecun_uniform(bias: float = 0.0, gain: float = 1.0) -> Initializer:
    """W ~ U(−a, a), a = gain·√(3/n_in) (LeCun, Bottou, Orr & Müller 1998, with gain 1)."""
    return _drawn(_by_inputs(_uniform, gain), "tanh", bias)


def xavier_normal(bias: float = 0.0, gain: float | None = None) -> Initializer:
    """W ~ N(0, gain²·2/(n_in + n_out)) (Glorot & Bengio 2010, with gain 1); by default `gain_of` the activation.

    Their argument is for a slope of 1 at 0. Sigmoid units have ¼, so that gain 4 keeps signals, and gain 1 does not.
    """
    return _drawn(_scaled(init.xavier_normal_, gain), "sigmoid", bias)


def xavier_uniform(bias: float = 0.0, gain: float | None = None) -> Initializer:
    """W ~ U(−a, a), a = gain·√(6/(n_in + n_out)) (Glorot & Bengio 2010); the gain is that of `xavier_normal`."""
    return _drawn(_scaled(init.xavier_uniform_, gain), "sigmoid", bias)


def he_normal(bias: float = 0.0, gain: float | None = None) -> Initializer:
    """W ~ N(0, gain²/n_in) (He, Zhang, Ren & Sun 2015).

    The gain is √2 by default, their own for ReLU, also for sigmoid and tanh; for SELU, GELU and SiLU `gain_of` them,
    which keeps the mean square as √2 does for ReLU.
    """
    return _drawn(_by_inputs(_normal, gain), "relu", bias)


def he_uniform(bias: float = 0.0, gain: float | None = None) -> Initializer:
    """W ~ U(−a, a), a = gain·√(3/n_in) (He, Zhang, Ren & Sun 2015); the gain is that of `he_normal`."""
    return _drawn(_by_inputs(_uniform, gain), "relu", bias)


def orthogonal(bias: float = 0.0, gain: float | None = None) -> Initializer:
    """W = gain·Q with orthonormal rows or, where they are fewer, columns of Q (Saxe, McClelland & Ganguli 2014).

    A convolution's W is (n_out, the rest). The gain is that of `xavier_normal`.
    """
    return _drawn(_scaled(init.orthogonal_, gain), "relu", bias)


TOLERANCE, ROUNDS = 0.02, 20
"""LSUV: how far from 1 a layer's variance may stay, and how often it is corrected at most."""


def lsuv(bias: float = 0.0, std: float = 1.0) -> Initializer:
    """Orthonormal W, then layer after layer W ← W·√(std²/Var(W·x + b)), until |Var/std² − 1| ≤ 0.02.

    Mishkin & Matas (2016), with std 1. Var is the variance over the batch and all units of the layer, before the
    activation. InputError where no scale brings it to std², as on data that are all 0.
    """

    @torch.no_grad()
    def scale(layer: Layer, depth: int, generator: torch.Generator, output: Callable[[], Tensor]) -> None:
        _set(layer, lambda weight: init.orthogonal_(weight, generator=generator), bias)
        for _ in range(ROUNDS + 1):
            variance = output().var(correction=0) / std**2
            if (variance - 1).abs() <= TOLERANCE:
                return
            layer.weight.div_(variance.sqrt())
        raise InputError(
            f"lsuv: no scale brings the outputs of hidden layer {depth} on the data to a variance of {std**2:g}, as "
            "where they are all 0: choose another initializer"
        )

    @torch.no_grad()
    def fill(layers: Sequence[Layer], activation: str, generator: torch.Generator, x: Tensor) -> None:
        follow = nn.Identity() if activation == "identity" else activation_module(activation)
        for depth, layer in enumerate(layers, start=1):
            scale(layer, depth, generator, partial(layer, x))
            x = follow(layer(x))

    @torch.no_grad()
    def fill_network(network: nn.Module, layers: Sequence[Layer], generator: torch.Generator, x: Tensor) -> None:
        order = list(_outputs(network, layers, x))
        if len(order) < len(layers):
            raise InputError("lsuv: a forward pass leaves out some of the network's layers: choose another initializer")
        for depth, layer in enumerate(order, start=1):
            scale(layer, depth, generator, lambda: _outputs(network, [layer], x)[layer])  # noqa: B023

    return Initializer(fill, "relu", from_data=True, fill_network=fill_network)


def batch_norm() -> Initializer:
    """He normal in a network with batch normalization (Ioffe & Szegedy 2015)."""
    return _drawn(_by_inputs(_normal), "relu", normalize=True)


def mup_normal(bias: float = 0.0, gain: float = 1.0) -> Initializer:
    """W ~ N(0, gain²/n_in²): the output layer of the maximal update parametrization (Yang & Hu 2021)."""
    return _drawn(lambda weight, _, random: _normal(weight, gain / _inputs_of(weight), random), "relu", bias)


def torch_default() -> Initializer:
    """torch's own: W and b ~ U(−a, a), a = 1/√n_in."""

    @torch.no_grad()
    def fill(layers: Sequence[Layer], activation: str, generator: torch.Generator, x: Tensor) -> None:
        for layer in layers:
            fresh = deepcopy(layer).to("cpu", torch.float32)
            with global_numbers(generator):
                fresh.reset_parameters()
            for parameter, value in zip(layer.parameters(), fresh.parameters(), strict=True):
                parameter.copy_(value)

    return Initializer(fill, "relu")


Draw = Callable[[Tensor, str, torch.Generator], object]


def _inputs_of(weight: Tensor) -> int:
    return weight[0].numel()


def _normal(weight: Tensor, std: float, generator: torch.Generator) -> Tensor:
    return init.normal_(weight, 0.0, std, generator)


def _uniform(weight: Tensor, std: float, generator: torch.Generator) -> Tensor:
    return init.uniform_(weight, -sqrt(3.0) * std, sqrt(3.0) * std, generator)


def _by_inputs(draw: Callable[[Tensor, float, torch.Generator], Tensor], gain: float | None = None) -> Draw:
    """Weights of standard deviation gain/√n_in, by default with He's gain."""

    def fill(weight: Tensor, activation: str, generator: torch.Generator) -> Tensor:
        he = gain_of("relu" if activation in TORCH_GAINS else activation)
        return draw(weight, (gain or he) / sqrt(_inputs_of(weight)), generator)

    return fill


def _scaled(draw: Callable[..., object], gain: float | None) -> Draw:
    return lambda weight, activation, generator: draw(weight, gain or gain_of(activation), generator)


def _drawn(
    draw: Draw, activation: str, bias: float = 0.0, *, every_layer: bool = False, normalize: bool = False
) -> Initializer:
    """Weights drawn layer by layer, biases constant."""

    def fill(layers: Sequence[Layer], following: str, generator: torch.Generator, x: Tensor) -> None:
        for layer in layers:
            _set(layer, lambda weight: draw(weight, following, generator), bias)

    return Initializer(fill, activation, every_layer, normalize)


@torch.no_grad()
def _set(layer: Layer, draw: Callable[[Tensor], object], bias: float) -> None:
    # Drawn on the CPU, so that a seed gives the same weights on every device.
    weight = torch.empty(layer.weight.shape, dtype=torch.float32, device="cpu")
    draw(weight)
    layer.weight.copy_(weight)
    if layer.bias is not None:
        layer.bias.fill_(bias)


def _outputs(network: nn.Module, layers: Sequence[Layer], x: Tensor) -> dict[Layer, Tensor]:
    """The first output of each layer in a forward pass in evaluation mode, in the order of their calls."""
    found: dict[Layer, Tensor] = {}

    def hook(layer: nn.Module, _: object, output: Tensor) -> None:
        found.setdefault(cast(Layer, layer), output.clone())  # the next module may change it in place

    hooks = [layer.register_forward_hook(hook) for layer in layers]
    training = {module: module.training for module in network.modules()}
    try:
        network.eval()(x)
    finally:
        for handle in hooks:
            handle.remove()
        for module, mode in training.items():
            module.training = mode
    return found
