"""Persistent chains divided among ranks; state and metrics are those of all chains."""

from collections.abc import Callable
from typing import final

import torch
from torch import Tensor

from dbn.config.pretraining import Pretraining
from dbn.models.rbm import RBM
from dbn.sampling import CHAINS
from dbn.sampling.chains import Chains, NegativeSamples
from dbn.training import distributed

COUNTS = "swaps"
"""The entry of a state that counts over all chains."""
ONE_EACH = "reference"
"""The entry of a state with a row per chain; other matrices have as many rows, or groups of as many."""


@final
class SharedChains(Chains):
    """`chains` chains divided among the ranks, with the interface of one `Chains`: a state fits any number of ranks."""

    def __init__(self, make: Callable[[int], Chains], chains: int) -> None:
        """make: creates so many chains, at least 1 on every rank."""
        self.chains = chains
        self.make = make
        own = distributed.shard(chains)
        self.own = make(own.stop - own.start)

    @property
    def steps(self) -> int:
        """Gibbs steps per gradient."""
        return self.own.steps

    @steps.setter
    def steps(self, steps: int) -> None:
        self.own.steps = steps

    def negatives(self, rbm: RBM, data: Tensor, hidden_field: Tensor, generator: torch.Generator) -> NegativeSamples:
        """Negative samples of this rank."""
        return self.own.negatives(rbm, data, hidden_field, generator)

    def metrics(self) -> dict[str, float]:
        """Of all chains; collective."""
        everywhere = self.make(self.chains)
        everywhere.load_state(self.state())
        self.own.metrics()  # resets its counts
        return everywhere.metrics()

    def state(self) -> dict[str, Tensor]:
        """Of all chains, as in one process; collective."""
        own = self.own.state()
        return {name: _gathered(name, value, own, self.chains) for name, value in own.items()}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Restore this rank's share of a state of all chains."""
        self.own.load_state({name: _share(name, value, state) for name, value in state.items()})


def _gathered(name: str, value: Tensor, own: dict[str, Tensor], chains: int) -> Tensor:
    mine = len(own[ONE_EACH])
    if name == COUNTS:
        total = value.clone()
        distributed.all_reduce_sum(total)
        return total
    if value.ndim < 2:
        return value
    groups = value.view(-1, mine, *value.shape[1:])
    everywhere = value.new_zeros(len(groups), chains, *value.shape[1:])
    everywhere[:, distributed.shard(chains)] = groups
    distributed.all_reduce_sum(everywhere)
    return everywhere.flatten(0, 1)


def _share(name: str, value: Tensor, state: dict[str, Tensor]) -> Tensor:
    chains = len(state[ONE_EACH])
    if name == COUNTS:
        return value if distributed.is_main() else torch.zeros_like(value)
    if value.ndim < 2:
        return value
    return value.view(-1, chains, *value.shape[1:])[:, distributed.shard(chains)].flatten(0, 1)


def make_chains(config: Pretraining, steps: int) -> Chains:
    """The negative samples of a configuration; persistent chains are divided among ranks."""
    resolved = config.resolved()

    def make(chains: int) -> Chains:
        made: Chains = CHAINS.build(config.estimator, steps=steps, chains=chains, temperatures=resolved["temperatures"])
        return made

    chains = resolved["chains"]
    return SharedChains(make, chains) if chains is not None and distributed.size() > 1 else make(chains)
