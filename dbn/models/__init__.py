"""Units, RBMs, stacks of them and networks: the mathematics alone."""

from typing import TYPE_CHECKING

from dbn.models.units import UNITS
from dbn.registry import lazy_exports

if TYPE_CHECKING:
    from dbn.models.autoencoder import Autoencoder as Autoencoder
    from dbn.models.dbn import DBN as DBN
    from dbn.models.label_model import LabelModel as LabelModel
    from dbn.models.rbm import RBM as RBM
    from dbn.models.scaling import Scaling as Scaling
    from dbn.models.units import UNITS as UNITS
    from dbn.models.units.base import Units as Units
    from dbn.models.units.bernoulli import Bernoulli as Bernoulli
    from dbn.models.units.binomial import Binomial as Binomial
    from dbn.models.units.categorical import Categorical as Categorical
    from dbn.models.units.drelu import DReLU as DReLU
    from dbn.models.units.gaussian import Gaussian as Gaussian
    from dbn.models.units.relu import ReLU as ReLU
    from dbn.models.units.spin import Spin as Spin

__getattr__, __dir__, __all__ = lazy_exports(__name__, __file__)
