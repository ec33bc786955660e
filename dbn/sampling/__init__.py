"""Negative samples for the likelihood gradient: contrastive divergence, persistent chains, parallel tempering."""

from typing import Any, Protocol

from dbn.sampling.chains import Chains
from dbn.sampling.contrastive_divergence import DataChains
from dbn.sampling.parallel_tempering import TemperedChains
from dbn.sampling.persistent_chains import PersistentChains


class Estimator(Protocol):
    """What makes chains; each takes what it needs of what the configuration says."""

    def __call__(self, *, steps: int, chains: Any, temperatures: Any) -> Chains:
        """Chains of one layer; what an estimator does not take may be None."""
        ...


CHAINS: dict[str, Estimator] = {
    "cd": lambda *, steps, chains, temperatures: DataChains(steps),
    "pcd": lambda *, steps, chains, temperatures: PersistentChains(steps, chains),
    "pt": lambda *, steps, chains, temperatures: TemperedChains(steps, chains, temperatures),
}
"""Every estimator by its name on the command line."""
