"""Gibbs chains of many steps, which are CUDA graphs where these are asked for (`dbn.capture`)."""

from collections.abc import Iterator
from typing import final

import torch
from torch import Tensor

from dbn.arrays import Array
from dbn.capture import CapturedSteps
from dbn.models.rbm import RBM


@final
class GibbsChains:
    """Visible states `v` (N, V) of an RBM, and their steps h ~ p(h | v), v ~ p(v | h).

    >>> from dbn.models import Bernoulli
    >>> chains = GibbsChains(RBM(Bernoulli(4), Bernoulli(3)), torch.ones(2, 4), torch.Generator())
    >>> list(chains.run(3)), chains.v.shape
    ([1, 2, 3], torch.Size([2, 4]))
    """

    capturable = True

    def __init__(self, rbm: RBM, v: Array, generator: torch.Generator) -> None:
        self.rbm, self.generator = rbm, generator
        self.v: Tensor = rbm.visible.values(v)
        self.steps = CapturedSteps.of(generator, [self], "Gibbs sampling")

    def run(self, until: int, done: int = 0) -> Iterator[int]:
        """The steps after the first `done`; gives how many are done each time that `v` is theirs."""
        yield from self.steps.loop(self._take, done, until)
        self.steps.forget()

    def _take(self, n: int) -> None:
        self.v = self.rbm.gibbs(self.v, n, self.generator)
