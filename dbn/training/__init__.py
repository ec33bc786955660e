"""What every training shares: the loop, devices, optimizers, processes, checkpoint control."""

from typing import TYPE_CHECKING

from dbn.registry import Registry, lazy_exports

if TYPE_CHECKING:
    import torch

    from dbn.training.distributed import process_group as process_group

OPTIMIZERS: "Registry[type[torch.optim.Optimizer]]" = Registry(
    "optimizer",
    {
        "sgd": "dbn.training.sgd:SGD",
        "adam": "torch.optim:Adam",
        "adamw": "torch.optim:AdamW",
        "rmsprop": "torch.optim:RMSprop",
        "nadam": "torch.optim:NAdam",
        "adagrad": "torch.optim:Adagrad",
    },
)
"""Every optimizer by its name on the command line; each is given those of `lr`, `momentum` and `weight_decay` that it
takes, and `fused` where it can be."""

__getattr__, __dir__, __all__ = lazy_exports(__name__, __file__)
