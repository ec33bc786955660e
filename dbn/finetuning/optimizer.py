"""The optimizer of a network whose layers have learning rates of their own."""

from collections.abc import Iterable, Sequence

import torch
from torch import nn

from dbn.finetuning.problem import Problem
from dbn.training.optimizers import make_optimizer

RatedLayer = tuple[list[nn.Parameter], float]
"""Parameters, and their learning rate before the schedule."""


def rated_layers(network: nn.Sequential, learning_rate: float, factors: Sequence[float]) -> list[RatedLayer]:
    """From the input up: of each Linear and of what follows it before the next; one factor is that of all."""
    layers: list[list[nn.Parameter]] = []
    for module in network:
        if isinstance(module, nn.Linear):
            layers.append([])
        layers[-1] += module.parameters()
    factors = factors if len(factors) > 1 else [*factors] * len(layers)
    return [(layer, learning_rate * factor) for layer, factor in zip(layers, factors, strict=True)]


def optimizer_of(problem: Problem, layers: Iterable[RatedLayer]) -> torch.optim.Optimizer:
    """That of the problem, for these layers."""
    parameters, rates = zip(*layers, strict=True)
    return make_optimizer(
        problem.config.optimizer,
        *parameters,
        learning_rate=rates,
        momentum=problem.config.momentum,
        weight_decay=problem.config.weight_decay,
        capturable=problem.device.type == "cuda",
    )
