"""Pre-train stacks of restricted Boltzmann machines, initialize networks with them, and measure whether it helped.

stack = dbn.pretrain(x, hidden=[500, 500], epochs=10, seed=0)
stack = dbn.load("runs/pretrain")
network = stack.to_mlp(n_classes=10)
"""

TYPE_CHECKING = False  # for type checkers it is true, and `typing` takes a while to import

if TYPE_CHECKING:
    from dbn import config as config
    from dbn import data as data
    from dbn import initializers as initializers
    from dbn import likelihood as likelihood
    from dbn import models as models
    from dbn import sampling as sampling
    from dbn.errors import InputError as InputError
    from dbn.evaluation.evaluate import evaluate as evaluate
    from dbn.finetuning.compare import compare as compare
    from dbn.finetuning.signal_propagation import signal_propagation as signal_propagation
    from dbn.initializers.initialize import initialize as initialize
    from dbn.models.autoencoder import Autoencoder as Autoencoder
    from dbn.models.dbn import DBN as DBN
    from dbn.models.rbm import RBM as RBM
    from dbn.models.units import Bernoulli as Bernoulli
    from dbn.models.units import Gaussian as Gaussian
    from dbn.pretraining.label_model import train_label_model as train_label_model
    from dbn.pretraining.pretrain import pretrain as pretrain
    from dbn.pretraining.pretrain import train_rbm as train_rbm
    from dbn.runs.classifier import load_autoencoder as load_autoencoder
    from dbn.runs.classifier import load_classifier as load_classifier
    from dbn.runs.label_model import load_label_model as load_label_model
    from dbn.runs.weights import load as load

__version__ = "0.1.0"


def __getattr__(name: str) -> object:
    """See `dbn.registry.lazy_exports`, which is imported here: the program handles signals before all else."""
    from dbn.registry import lazy_exports

    get, listed, names = lazy_exports(__name__, __file__)
    globals().update(__getattr__=get, __dir__=listed, __all__=names)
    return names if name == "__all__" else get(name)


def __dir__() -> list[str]:
    from dbn.registry import lazy_exports

    return lazy_exports(__name__, __file__)[2]
