"""Pre-train stacks of restricted Boltzmann machines, seed networks with them, and measure whether it helped.

stack = dbn.pretrain(x, hidden=[500, 500], epochs=10, seed=0)
stack = dbn.load("runs/pretrain")
network = stack.to_mlp(n_classes=10)
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dbn.belief_net import DBN
    from dbn.errors import InputError
    from dbn.pretraining import pretrain
    from dbn.rbm import RBM
    from dbn.units import Bernoulli, Gaussian
    from dbn.weights import load

__version__ = "0.1.0"
__all__ = ["DBN", "RBM", "Bernoulli", "Gaussian", "InputError", "load", "pretrain"]

_ROOMS = {
    "DBN": "belief_net",
    "RBM": "rbm",
    "Bernoulli": "units",
    "Gaussian": "units",
    "InputError": "errors",
    "load": "weights",
    "pretrain": "pretraining",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used: a script's --help does not wait for torch."""
    if name not in _ROOMS:
        raise AttributeError(f"module 'dbn' has no attribute {name!r}")
    return getattr(import_module(f"dbn.{_ROOMS[name]}"), name)
