"""Dropout whose masks follow from a seed, put around the layers of a network that knows nothing of it.

Srivastava, Hinton, Krizhevsky, Sutskever & Salakhutdinov (2014), "Dropout: a simple way to prevent neural networks from
overfitting".
"""

from typing import final

import torch
from torch import Tensor, nn

from dbn.models.mlp import linear_layers
from dbn.rng import bernoulli_


@final
class SeededDropout(nn.Module):
    """x ↦ x·m/keep in training, each m 1 with probability keep = 1 − rate, else 0; x itself in eval mode.

    m comes from `generator`, on the device of x, since nn.Dropout takes none; whoever trains seeds it each step.

    Weights that come from pre-training stay as they are. Srivastava et al. (2014) train on W'(m·x), predict with
    keep·W'x, and so set W' = W/keep, that E[W'(m·x)] = Wx be the field W was pre-trained at. The division is on x
    here: W(m·x/keep) is the same number under every mask, and Wx what the network predicts with. To divide W as well
    would multiply the fields of pre-training by 1/keep. For weights W = keep·W', a max-norm c of theirs is keep·c.
    """

    def __init__(self, rate: float, generator: torch.Generator) -> None:
        super().__init__()
        self.rate, self.generator = rate, generator

    def forward(self, x: Tensor) -> Tensor:
        """Of the shape of x."""
        if not self.training:
            return x
        keep = 1 - self.rate
        # Drawn in float32 whatever x is: bfloat16 would round the probability.
        mask = bernoulli_(torch.full(x.shape, keep, device=x.device), self.generator)
        return x * mask.div_(keep).to(x.dtype)

    def extra_repr(self) -> str:
        """The rate, where a network is printed."""
        return f"rate={self.rate}"


def with_dropout(network: nn.Sequential, inputs: float, hidden: float, generator: torch.Generator) -> nn.Sequential:
    """The modules of `network`, the same and not copies, with dropout before its first Linear and before the others.

    What this one learns `network` has learnt, whose keys and predictions know nothing of dropout.
    """
    first, *others = linear_layers(network)
    rates: dict[nn.Module, float] = {first: inputs, **dict.fromkeys(others, hidden)}
    learner = nn.Sequential()
    for module in network:
        if rate := rates.get(module):
            learner.append(SeededDropout(rate, generator))
        learner.append(module)
    return learner
