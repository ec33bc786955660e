"""Initialization of any network in place."""

from typing import Any

import torch
from torch import Tensor, nn

from dbn.arrays import as_tensor
from dbn.errors import InputError, check_types, naming_arguments
from dbn.initializers.arms import parse_initializer
from dbn.initializers.schemes import Initializer, Layer
from dbn.models.mlp import ACTIVATIONS, initialize_normalizing
from dbn.registry import suggestion
from dbn.rng import stream


@naming_arguments()
@check_types
def initialize(
    network: nn.Module,
    scheme: str | Initializer,
    activation: str = "relu",
    data: Any = None,
    output: str | Initializer | None = "xavier_uniform",
    seed: int = 0,
) -> nn.Module:
    """Initialize every linear and convolutional layer of a network in place, the last one by `output`; return it.

    Layers are taken in the order in which the module registers them; those of other types keep their values.

    scheme, output: a name as in an arm, such as "he_normal" or "normal(std=0.1)", or an `Initializer`, such as
    `from_dbn(stack)`. output None leaves the last layer alone; else `zeros` and `constant` set it too. activation: what
    follows each layer, for schemes with a gain. data: a batch of the network's inputs, for `lsuv`. InputError for
    unknown names, a network without such layers, missing data, and a stack of other sizes.

    >>> network = nn.Sequential(nn.Conv2d(1, 8, 3, bias=False), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 10))
    >>> network = initialize(network, "he_normal", seed=1)
    >>> bool(abs(network[0].weight.var() / (2 / 9) - 1) < 0.5), network[-1].bias.count_nonzero()
    (True, tensor(0))
    """
    layers = [module for module in network.modules() if isinstance(module, Layer)]
    if not layers:
        raise InputError("the network has no linear or convolutional layer to initialize")
    if any(nn.parameter.is_lazy(layer.weight) for layer in layers):
        raise InputError("the network has lazy layers, whose sizes are not known: run it on a batch of data first")
    if activation not in (known := [*ACTIVATIONS, "identity"]):
        raise InputError(f"there is no activation {activation!r}{suggestion(activation, known)}")
    initializer = _initializer(scheme)
    if initializer.normalize and not initialize_normalizing(network):
        raise InputError("batch_norm is for a network with batch normalization: add such layers, or use he_normal")
    x = layers[0].weight.new_empty(0) if data is None else as_tensor(data, "data").to(layers[0].weight)
    if initializer.from_data and data is None:
        raise InputError("this initializer needs data: give a batch of the network's inputs as data")
    *hidden, last = layers
    if output is not None:
        _fill(network, _initializer(output), [last], "identity", stream(seed, "output layer"), x)
        hidden = layers if initializer.every_layer else hidden
    _fill(network, initializer, hidden, activation, stream(seed, "start"), x)
    return network


def _initializer(scheme: str | Initializer) -> Initializer:
    return scheme if isinstance(scheme, Initializer) else parse_initializer(scheme)


def _fill(
    network: nn.Module,
    initializer: Initializer,
    layers: list[Layer],
    activation: str,
    generator: torch.Generator,
    x: Tensor,
) -> None:
    if not layers:
        return
    if initializer.fill_network is not None:
        initializer.fill_network(network, layers, generator, x)
    else:
        initializer.fill(layers, activation, generator, x)
