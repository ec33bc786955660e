"""States of the layers of a stack, drawn one after the other, up from the data or down from the top."""

from collections.abc import Sequence

import torch
from torch import Tensor

from dbn.models.rbm import RBM


def states_up(rbms: Sequence[RBM], v: Tensor, generator: torch.Generator) -> list[Tensor]:
    """v (B, V), then a draw of the hidden units of each RBM given the layer below, bottom first."""
    states = [v]
    for rbm in rbms:
        states.append(rbm.sample_hidden(states[-1], generator))
    return states


def states_down(rbms: Sequence[RBM], h: Tensor, generator: torch.Generator, *, mean_last: bool = False) -> list[Tensor]:
    """h (B, H) of the topmost RBM, and a draw of the visible units of each given the layer above, bottom first.

    mean_last: the mean of the lowest in place of a draw.
    """
    states = [h]
    for rbm in reversed(rbms):
        takes_mean = mean_last and rbm is rbms[0]
        states.append(rbm.down(states[-1]) if takes_mean else rbm.sample_visible(states[-1], generator))
    return states[::-1]
