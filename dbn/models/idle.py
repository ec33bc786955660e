"""Layers of a stack that have hardly left their start."""

from collections.abc import Sequence

import torch
from torch import Tensor

from dbn.models.dbn import DBN

LEAST_SPREAD = 0.02
"""Standard deviation of a hidden unit's mean over examples, of the range of its states; trained layers have 0.1 to 0.4,
and initial weights give 0.01 or less."""
INITIAL_WEIGHTS = 0.0115
"""Standard deviation of the weights, which is 0.01 at the start (`RBM.initialize`)."""


@torch.no_grad()
def idle_layers(stack: DBN, x: Tensor) -> list[int]:
    """The layers, 1, 2, …, that give nearly the same for all rows of scaled x (N, V), or have nearly initial weights.

    >>> from dbn.models import RBM, Bernoulli
    >>> idle_layers(DBN([RBM(Bernoulli(4), Bernoulli(3))]), torch.eye(4))  # all weights are 0
    [1]
    """
    found = []
    for number, rbm in enumerate(stack.layers, start=1):
        x = rbm.up(x)
        spread, support = float(x.std(0, correction=0).mean()), rbm.hidden.support()
        least = 0.0 if support is None else LEAST_SPREAD * float(support.max() - support.min())
        if spread <= least or float(rbm.weight.std()) < INITIAL_WEIGHTS:
            found.append(number)
    return found


def idle_sentence(layers: Sequence[int]) -> str:
    """What a person must know of idle layers; empty where there are none."""
    if not layers:
        return ""
    names = f"layer{'s' * (len(layers) > 1)} {' and '.join(map(str, layers))}"
    return (
        f"The stack has hardly left its start: the hidden units of {names} give nearly the same for every example. "
        "Pre-train it for more updates: more epochs, or smaller batches."
    )
