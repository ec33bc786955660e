"""The gain that an initializer takes for the activation that follows."""

from math import pi, sqrt

import torch
from torch.nn import init

from dbn.models.mlp import activation_module

TORCH_GAINS = {"identity": "linear", "sigmoid": "sigmoid", "tanh": "tanh", "relu": "relu"}
"""Activations with torch's gain, by its names. Its ¾ for SELU is not that of self-normalizing networks."""


def gain_of(activation: str) -> float:
    """The gain before an activation: torch's for sigmoid (1), tanh (5/3), ReLU (√2) and identity (1).

    For others f it is 1/√E[f(z)²], z ~ N(0, 1), which keeps the mean square from layer to layer and gives √2 for ReLU
    as well. That of SELU is 1 (Klambauer, Unterthiner, Mayr & Hochreiter 2017).

    >>> [round(gain_of(name), 3) for name in ("selu", "gelu", "silu")]
    [1.0, 1.534, 1.677]
    """
    if activation in TORCH_GAINS:
        return init.calculate_gain(TORCH_GAINS[activation])  # type: ignore[arg-type]
    z = torch.linspace(-12, 12, 24001, dtype=torch.float64, device="cpu")
    density = torch.exp(-(z**2) / 2) / sqrt(2 * pi)
    square = torch.trapezoid(activation_module(activation)(z) ** 2 * density, z)
    return round(float(square.rsqrt()), 6)  # the same on every machine
