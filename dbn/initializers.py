"""The starts of a network: one function and one line in a table each, pre-training among them.

An initialiser fills the hidden layers of a given network; the output layer is the caller's, alike for every arm.
Glorot & Bengio (2010); He et al. (2015); Hinton, Osindero & Teh (2006).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

import torch
from torch import Tensor, nn
from torch.nn import init

from dbn.belief_net import DBN, copy_layers
from dbn.errors import InputError
from dbn.mlp import ACTIVATIONS

Fill = Callable[[Sequence[nn.Linear], str, torch.Generator], None]
"""Fills hidden layers that are followed by the named activation, with numbers from the CPU generator."""


@dataclass(frozen=True)
class Initializer:
    """A start and the activation that goes with it unless the arm names another."""

    fill: Fill
    activation: str


def from_dbn(stack: DBN) -> Initializer:
    """The weights and hidden biases of a pre-trained stack."""

    def fill(layers: Sequence[nn.Linear], activation: str, generator: torch.Generator) -> None:
        copy_layers(stack, layers)

    return Initializer(fill, "sigmoid")


def _each(draw: Callable[[Tensor, str, torch.Generator], object]) -> Fill:
    @torch.no_grad()
    def fill(layers: Sequence[nn.Linear], activation: str, generator: torch.Generator) -> None:
        for layer in layers:
            # Drawn on the CPU, so that a seed gives the same start on every device.
            weight = torch.empty(layer.weight.shape)
            draw(weight, activation, generator)
            layer.weight.copy_(weight)
            layer.bias.zero_()

    return fill


def _gain(activation: str) -> float:
    return 1.0 if activation == "identity" else init.calculate_gain(activation)  # type: ignore[arg-type]


def _xavier_uniform(weight: Tensor, activation: str, generator: torch.Generator) -> None:
    init.xavier_uniform_(weight, _gain(activation), generator=generator)


def _xavier_normal(weight: Tensor, activation: str, generator: torch.Generator) -> None:
    init.xavier_normal_(weight, _gain(activation), generator=generator)


def _he_uniform(weight: Tensor, activation: str, generator: torch.Generator) -> None:
    init.kaiming_uniform_(weight, nonlinearity="relu", generator=generator)


def _he_normal(weight: Tensor, activation: str, generator: torch.Generator) -> None:
    init.kaiming_normal_(weight, nonlinearity="relu", generator=generator)


INITIALIZERS: dict[str, Initializer] = {
    "xavier_uniform": Initializer(_each(_xavier_uniform), "sigmoid"),
    "xavier_normal": Initializer(_each(_xavier_normal), "sigmoid"),
    "he_uniform": Initializer(_each(_he_uniform), "relu"),
    "he_normal": Initializer(_each(_he_normal), "relu"),
}
"""Every start that needs no data; `dbn` is made from a stack by `from_dbn`."""


@dataclass(frozen=True)
class Arm:
    """One line of a comparison: a start and an activation."""

    name: str
    """As the user wrote it: NAME or NAME:ACTIVATION."""
    start: str
    activation: str

    def initializer(self, stack: DBN | None) -> Initializer:
        """The table's entry, or the stack's for `dbn`."""
        if self.start != "dbn":
            return INITIALIZERS[self.start]
        if stack is None:
            raise InputError("the arm 'dbn' starts from a stack: name one with --pretrained")
        return from_dbn(stack)


def parse_arm(text: str) -> Arm:
    """NAME or NAME:ACTIVATION; InputError for a name that is not in its table."""
    start, colon, activation = text.partition(":")
    known = ["dbn", *INITIALIZERS]
    if start not in known:
        nearest = get_close_matches(start, known, 1)
        hint = f"did you mean {nearest[0]!r}" if nearest else f"choose from {', '.join(known)}"
        raise InputError(f"--init: there is no initialiser {start!r}: {hint}")
    if colon and activation not in ACTIVATIONS:
        raise InputError(
            f"--init: {text!r} names no known activation: choose from {', '.join(ACTIVATIONS)} after the colon"
        )
    default = "sigmoid" if start == "dbn" else INITIALIZERS[start].activation
    return Arm(text, start, activation or default)
