"""Greedy layer-by-layer training of a stack of RBMs."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from dbn.registry import Registry, lazy_exports

if TYPE_CHECKING:
    from dbn.pretraining.penalties import Penalty as Penalty
    from dbn.pretraining.pretrain import pretrain as pretrain

PENALTIES: "Registry[Callable[..., Penalty]]" = Registry(
    "penalty",
    {
        "l1": "dbn.pretraining.penalties:L1",
        "sparsity": "dbn.pretraining.penalties:SparsityTarget",
        "max_norm": "dbn.pretraining.penalties:MaxNorm",
    },
)
"""Every penalty by its name on the command line and in checkpoints."""

__getattr__, __dir__, __all__ = lazy_exports(__name__, __file__)
