"""Negative samples for the likelihood gradient: contrastive divergence, persistent chains, parallel tempering."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from dbn.registry import Registry, lazy_exports

if TYPE_CHECKING:
    from dbn.sampling.chains import Chains as Chains
    from dbn.sampling.chains import NegativeSamples as NegativeSamples
    from dbn.sampling.chains import autocorrelation as autocorrelation
    from dbn.sampling.class_chains import ClassChains as ClassChains
    from dbn.sampling.contrastive_divergence import DataChains as DataChains
    from dbn.sampling.parallel_tempering import TemperedChains as TemperedChains
    from dbn.sampling.persistent_chains import LaggedChains as LaggedChains
    from dbn.sampling.persistent_chains import PersistentChains as PersistentChains
    from dbn.sampling.samples import Samples as Samples
    from dbn.sampling.samples import effective_number as effective_number
    from dbn.sampling.samples import sample as sample

CHAINS: "Registry[Callable[..., Chains]]" = Registry(
    "estimator",
    {
        "cd": "dbn.sampling.contrastive_divergence:DataChains",
        "pcd": "dbn.sampling.persistent_chains:PersistentChains",
        "lagged-pcd": "dbn.sampling.persistent_chains:LaggedChains",
        "pt": "dbn.sampling.parallel_tempering:TemperedChains",
        "class-pcd": "dbn.sampling.class_chains:ClassChains",
    },
)
"""Estimators by name; each is built with those of `steps`, `chains` and `temperatures` that it takes."""

__getattr__, __dir__, __all__ = lazy_exports(__name__, __file__)
