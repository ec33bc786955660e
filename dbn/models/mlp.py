"""The multilayer perceptron that initializers fill with weights."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import init
from torch.nn.modules.batchnorm import _BatchNorm

from dbn.errors import InputError
from dbn.registry import suggestion

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
    "relu": nn.ReLU,
    "selu": nn.SELU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
}
"""Activations by name; "identity" adds no module."""


def mlp(sizes: Sequence[int], activation: str | Sequence[str], *, normalize: bool = False) -> nn.Sequential:
    """`Linear, activation, …, Linear`: sizes (V, H_1, …, C), no activation after the last layer.

    activation: one name, or one per hidden layer. normalize: a BatchNorm1d before each activation (Ioffe & Szegedy
    2015).
    """
    names = [activation] * (len(sizes) - 2) if isinstance(activation, str) else list(activation)
    if len(names) != len(sizes) - 2:
        raise InputError(f"{len(sizes) - 2} hidden layers need as many activations, not {len(names)}")
    network = nn.Sequential()
    for inputs, outputs, name in zip(sizes[:-2], sizes[1:-1], names, strict=True):
        network.append(nn.Linear(inputs, outputs, dtype=torch.float32))
        if normalize:
            network.append(nn.BatchNorm1d(outputs, dtype=torch.float32))
        if name != "identity":
            network.append(activation_module(name))
    network.append(nn.Linear(sizes[-2], sizes[-1], dtype=torch.float32))
    return network


def meta_mlp(description: Mapping[str, Any]) -> nn.Sequential:
    """`mlp` of the description's "sizes", "activation" and "normalise" on the device "meta", without memory."""
    with torch.device("meta"):
        return mlp(description["sizes"], description["activation"], normalize=description.get("normalise", False))


@torch.no_grad()
def network_of(layers: Sequence[tuple[Tensor, Tensor, str | nn.Module]]) -> nn.Sequential:
    """Linear, activation, … with copies of each weight (n_out, n_in) and bias, where they are."""
    network = nn.Sequential()
    for weight, bias, activation in layers:
        # On "meta" first, as torch's initialization would advance the global random state.
        linear = nn.Linear(weight.shape[1], weight.shape[0], device="meta", dtype=weight.dtype)
        linear.to_empty(device=weight.device)
        linear.weight.copy_(weight)
        linear.bias.copy_(bias)
        network.append(linear)
        if activation != "identity":
            network.append(activation_module(activation))
    return network


def activation_module(name: str | nn.Module) -> nn.Module:
    """A new module of `ACTIVATIONS`, or softmax(states=q) over groups of q columns; InputError for another name.

    A module in place of a name is returned as it is.
    """
    if isinstance(name, nn.Module):
        return name
    if match := re.fullmatch(r"softmax\(states=([0-9]+)\)", name):
        return nn.Sequential(nn.Unflatten(-1, (-1, int(match[1]))), nn.Softmax(-1), nn.Flatten(-2))
    if name not in ACTIVATIONS:
        raise InputError(f"there is no activation {name!r}{suggestion(name, ACTIVATIONS)}")
    return ACTIVATIONS[name]()


def linear_layers(network: nn.Module) -> list[nn.Linear]:
    """The linear layers, from input to output."""
    return [module for module in network.modules() if isinstance(module, nn.Linear)]


def initialize_normalizing(network: nn.Module) -> bool:
    """Reset every batch normalization, without random numbers; whether there is one."""
    normalizing = [module for module in network.modules() if isinstance(module, _BatchNorm)]
    for module in normalizing:
        module.reset_parameters()
    return bool(normalizing)


@torch.no_grad()
def initialize_output(layer: nn.Linear, generator: torch.Generator) -> None:
    """Xavier uniform with bias 0, drawn from a CPU generator."""
    weight = torch.empty(layer.weight.shape, dtype=torch.float32, device="cpu")
    layer.weight.copy_(init.xavier_uniform_(weight, generator=generator))
    layer.bias.zero_()
