"""Pre-train stacks of restricted Boltzmann machines, seed networks with them, and measure whether it helped.

stack = dbn.pretrain(x, hidden=[500, 500], epochs=10, seed=0)
stack = dbn.load("runs/pretrain")
network = stack.to_mlp(n_classes=10)
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dbn.errors import InputError
    from dbn.models.dbn import DBN
    from dbn.models.rbm import RBM
    from dbn.models.units import Bernoulli, Gaussian
    from dbn.pretraining.pretrain import pretrain
    from dbn.runs.classifier import load_classifier
    from dbn.runs.weights import load

__version__ = "0.1.0"
__all__ = ["DBN", "RBM", "Bernoulli", "Gaussian", "InputError", "load", "load_classifier", "pretrain"]

_ROOMS = {
    "DBN": "models.dbn",
    "RBM": "models.rbm",
    "Bernoulli": "models.units",
    "Gaussian": "models.units",
    "InputError": "errors",
    "load": "runs.weights",
    "load_classifier": "runs.classifier",
    "pretrain": "pretraining.pretrain",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used: a script's --help does not wait for torch."""
    if name not in _ROOMS:
        raise AttributeError(f"module 'dbn' has no attribute {name!r}")
    return getattr(import_module(f"dbn.{_ROOMS[name]}"), name)
