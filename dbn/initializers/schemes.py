"""The starts of a network, each a function of its parameters that gives an `Initializer`, pre-training among them.

n_in and n_out are a layer's inputs and outputs, W its weights, (n_out, n_in). Hidden biases are `bias`, 0 unless given.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import init

from dbn.errors import InputError
from dbn.models.dbn import DBN, copy_layers
from dbn.models.mlp import activation_module

Fill = Callable[[Sequence[nn.Linear], str, torch.Generator, Tensor], None]
"""Fills layers that are each followed by the named activation, with numbers from the CPU generator.

The last argument is one batch of what the first layer will see, scaled training data (B, V) on the layers' device.
"""


@dataclass(frozen=True)
class Initializer:
    """A start and what goes with it."""

    fill: Fill
    activation: str
    """Unless the arm names another."""
    every_layer: bool = False
    """Whether it fills the output layer too."""
    normalize: bool = False
    """Whether it is one for networks with normalised layers."""
    from_data: bool = False
    """Whether it is measured on data, and may find them unfit."""


def from_dbn(stack: DBN) -> Initializer:
    """The weights and hidden biases of a pre-trained stack (Hinton, Osindero & Teh 2006)."""

    def fill(layers: Sequence[nn.Linear], activation: str, generator: torch.Generator, x: Tensor) -> None:
        copy_layers(stack, layers)

    return Initializer(fill, "sigmoid")


def zeros() -> Initializer:
    """W = 0 and b = 0 in every layer, the output too: the units of a layer stay identical, whatever they learn."""
    return _drawn(lambda weight, _, generator: init.zeros_(weight), "sigmoid", every_layer=True)


def constant(value: float = 0.1, bias: float = 0.0) -> Initializer:
    """W = value and b = bias in every layer, the output too: the units of a layer stay identical."""
    return _drawn(lambda weight, _, generator: init.constant_(weight, value), "sigmoid", bias, every_layer=True)


def normal(std: float = 0.01, bias: float = 0.0) -> Initializer:
    """W ~ N(0, std²), whatever the sizes: too small, signals vanish with depth; too large, units saturate."""
    return _drawn(lambda weight, _, generator: init.normal_(weight, 0.0, std, generator), "sigmoid", bias)


def uniform(bound: float = 0.05, bias: float = 0.0) -> Initializer:
    """W ~ U(−bound, bound), whatever the sizes."""
    return _drawn(lambda weight, _, generator: init.uniform_(weight, -bound, bound, generator), "sigmoid", bias)


def truncated_normal(std: float = 0.01, bias: float = 0.0) -> Initializer:
    """W ~ N(0, std²) on condition that |W| ≤ 2·std, which leaves a variance of 0.774·std²."""
    return _drawn(
        lambda weight, _, generator: init.trunc_normal_(weight, 0.0, std, -2 * std, 2 * std, generator),
        "sigmoid",
        bias,
    )


def sparse(sparsity: float = 0.9, std: float = 0.01, bias: float = 0.0) -> Initializer:
    """⌈sparsity·n_in⌉ incoming weights of each unit are 0, the others ~ N(0, std²) (Martens 2010)."""

    def draw(weight: Tensor, activation: str, generator: torch.Generator) -> None:
        with _global_numbers(generator):  # its choice of weights takes no generator
            # torch counts the zeros of a column, Martens those of a unit, which is a row here.
            init.sparse_(weight.t(), sparsity, std)

    return _drawn(draw, "sigmoid", bias)


def lecun_normal(bias: float = 0.0) -> Initializer:
    """W ~ N(0, 1/n_in) (LeCun, Bottou, Orr & Müller 1998)."""
    return _drawn(
        lambda weight, _, generator: init.kaiming_normal_(weight, nonlinearity="linear", generator=generator),
        "tanh",
        bias,
    )


def lecun_uniform(bias: float = 0.0) -> Initializer:
    """W ~ U(−a, a), a = √(3/n_in) (LeCun, Bottou, Orr & Müller 1998)."""
    return _drawn(
        lambda weight, _, generator: init.kaiming_uniform_(weight, nonlinearity="linear", generator=generator),
        "tanh",
        bias,
    )


def xavier_normal(bias: float = 0.0, gain: float | None = None) -> Initializer:
    """W ~ N(0, gain²·2/(n_in + n_out)) (Glorot & Bengio 2010, whose gain is 1); left out, `gain_of` the activation."""
    return _drawn(
        lambda weight, following, generator: init.xavier_normal_(weight, gain or gain_of(following), generator),
        "sigmoid",
        bias,
    )


def xavier_uniform(bias: float = 0.0, gain: float | None = None) -> Initializer:
    """W ~ U(−a, a), a = gain·√(6/(n_in + n_out)) (Glorot & Bengio 2010); the gain is that of `xavier_normal`."""
    return _drawn(
        lambda weight, following, generator: init.xavier_uniform_(weight, gain or gain_of(following), generator),
        "sigmoid",
        bias,
    )


def he_normal(bias: float = 0.0) -> Initializer:
    """W ~ N(0, 2/n_in), whatever the activation (He, Zhang, Ren & Sun 2015)."""
    return _drawn(_he_normal, "relu", bias)


def he_uniform(bias: float = 0.0) -> Initializer:
    """W ~ U(−a, a), a = √(6/n_in), whatever the activation (He, Zhang, Ren & Sun 2015)."""
    return _drawn(
        lambda weight, _, generator: init.kaiming_uniform_(weight, nonlinearity="relu", generator=generator),
        "relu",
        bias,
    )


def orthogonal(bias: float = 0.0, gain: float | None = None) -> Initializer:
    """W = gain·Q, the rows or, where they are fewer, the columns of Q orthonormal (Saxe, McClelland & Ganguli 2014).

    The gain is that of `xavier_normal`.
    """
    return _drawn(
        lambda weight, following, generator: init.orthogonal_(weight, gain or gain_of(following), generator),
        "relu",
        bias,
    )


TOLERANCE, ROUNDS = 0.02, 20
"""LSUV: how far from 1 a layer's variance may stay, and how often it is corrected at most."""


def lsuv(bias: float = 0.0) -> Initializer:
    """Orthonormal W, then layer after layer W ← W/√Var(W·x + b), until |Var − 1| ≤ 0.02 (Mishkin & Matas 2016).

    Var is the variance over all examples of the batch and all units of the layer, before the activation. InputError
    when no scale brings it to 1, as on data that are all 0.
    """

    @torch.no_grad()
    def fill(layers: Sequence[nn.Linear], activation: str, generator: torch.Generator, x: Tensor) -> None:
        follow = nn.Identity() if activation == "identity" else activation_module(activation)
        for depth, layer in enumerate(layers, start=1):
            _set(layer, lambda weight: init.orthogonal_(weight, generator=generator), bias)
            for _ in range(ROUNDS + 1):
                variance = layer(x).var(correction=0)
                if (variance - 1).abs() <= TOLERANCE:
                    break
                layer.weight.div_(variance.sqrt())
            else:
                raise InputError(
                    f"--init lsuv: no scale brings the outputs of hidden layer {depth} on training data to a variance "
                    "of 1, as where they are all 0: choose another start"
                )
            x = follow(layer(x))

    return Initializer(fill, "relu", from_data=True)


def batch_norm() -> Initializer:
    """He normal in a network whose layers are normalised over the batch (Ioffe & Szegedy 2015): not a start alone."""
    return _drawn(_he_normal, "relu", normalize=True)


def torch_default() -> Initializer:
    """What `nn.Linear` does by itself: W and b ~ U(−a, a), a = 1/√n_in."""

    @torch.no_grad()
    def fill(layers: Sequence[nn.Linear], activation: str, generator: torch.Generator, x: Tensor) -> None:
        for layer in layers:
            with _global_numbers(generator):
                fresh = nn.Linear(layer.in_features, layer.out_features, device="cpu")
            layer.weight.copy_(fresh.weight)
            layer.bias.copy_(fresh.bias)

    return Initializer(fill, "relu")


def gain_of(activation: str) -> float:
    """torch's factor for the spread of weights before an activation: sigmoid 1, tanh 5/3, relu √2, identity 1."""
    return 1.0 if activation == "identity" else init.calculate_gain(activation)  # type: ignore[arg-type]


Draw = Callable[[Tensor, str, torch.Generator], object]


def _drawn(
    draw: Draw, activation: str, bias: float = 0.0, *, every_layer: bool = False, normalize: bool = False
) -> Initializer:
    """Each layer's weights drawn alone, its biases constant."""

    def fill(layers: Sequence[nn.Linear], following: str, generator: torch.Generator, x: Tensor) -> None:
        for layer in layers:
            _set(layer, lambda weight: draw(weight, following, generator), bias)

    return Initializer(fill, activation, every_layer, normalize)


@torch.no_grad()
def _set(layer: nn.Linear, draw: Callable[[Tensor], object], bias: float) -> None:
    # Drawn on the CPU, so that a seed gives the same start on every device.
    weight = torch.empty(layer.weight.shape, device="cpu")
    draw(weight)
    layer.weight.copy_(weight)
    layer.bias.fill_(bias)


def _he_normal(weight: Tensor, activation: str, generator: torch.Generator) -> None:
    init.kaiming_normal_(weight, nonlinearity="relu", generator=generator)


@contextmanager
def _global_numbers(generator: torch.Generator) -> Iterator[None]:
    """The CPU's global random numbers follow from the generator, and go on afterwards as if nothing had been."""
    with torch.random.fork_rng(devices=[]):
        # Not torch.manual_seed, which seeds every device, and the fork brings back the CPU alone.
        torch.default_generator.manual_seed(int(torch.randint(2**32, (), generator=generator)))
        yield
