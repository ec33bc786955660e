"""Dropout with seeded masks, added around the layers of an existing network.

Srivastava, Hinton, Krizhevsky, Sutskever & Salakhutdinov (2014), "Dropout: a simple way to prevent neural networks from
overfitting".
"""

from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor, nn

from dbn.models.mlp import linear_layers
from dbn.rng import bernoulli_


@final
class SeededDropout(nn.Module):
    """x ↦ x·m/keep in training, each m 1 with probability keep = 1 − rate, else 0; x itself in eval mode.

    m comes from `generator`, on the device of x, since nn.Dropout takes none; the trainer seeds it for each step.

    Pre-trained weights W are used unchanged. Srivastava et al. (2014) train on W'(m·x) and predict with keep·W'x, so
    that pre-trained weights become W' = W/keep. Here the division is on x: W(m·x/keep) is the same number under every
    mask, and the network predicts with Wx. A max-norm c for W' is keep·c for W.
    """

    def __init__(self, rate: float, generator: torch.Generator) -> None:
        super().__init__()
        self.rate, self.generator = rate, generator

    def forward(self, x: Tensor) -> Tensor:
        """Of the shape of x."""
        return x * self.mask(x) if self.training else x

    def mask(self, x: Tensor) -> Tensor:
        """m/keep, a new draw of the shape and type of x."""
        return masks(self.rate, x, [self.generator])[0]

    def extra_repr(self) -> str:
        """The rate, as printed."""
        return f"rate={self.rate}"


def masks(rate: float, x: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
    """m/keep of each generator: (S, …), of the shape and type of x."""
    keep = 1 - rate
    # Drawn in float32 whatever x is: bfloat16 would round the probability.
    drawn = torch.full((len(generators), *x.shape), keep, dtype=torch.float32, device=x.device)
    for mask, generator in zip(drawn.unbind(), generators, strict=True):
        bernoulli_(mask, generator)
    return drawn.div_(keep).to(x.dtype)


def with_dropout(network: nn.Sequential, inputs: float, hidden: float, generator: torch.Generator) -> nn.Sequential:
    """The modules of `network`, shared and not copied, with dropout before its first Linear and before the others.

    Training it trains `network`, whose keys and predictions do not change.
    """
    first, *others = linear_layers(network)
    rates: dict[nn.Module, float] = {first: inputs, **dict.fromkeys(others, hidden)}
    learner = nn.Sequential()
    for module in network:
        if rate := rates.get(module):
            learner.append(SeededDropout(rate, generator))
        learner.append(module)
    return learner
