"""Kinds of units: `base` says what each states, and each has a file of its own."""

from typing import TYPE_CHECKING

from dbn.registry import Registry, lazy_exports

if TYPE_CHECKING:
    from dbn.models.units.base import Units as Units
    from dbn.models.units.bernoulli import Bernoulli as Bernoulli
    from dbn.models.units.binomial import Binomial as Binomial
    from dbn.models.units.categorical import Categorical as Categorical
    from dbn.models.units.drelu import DReLU as DReLU
    from dbn.models.units.gaussian import Gaussian as Gaussian
    from dbn.models.units.mixed import Mixed as Mixed
    from dbn.models.units.relu import ReLU as ReLU
    from dbn.models.units.spin import Spin as Spin

UNITS: "Registry[type[Units]]" = Registry(
    "unit type",
    {
        "bernoulli": "dbn.models.units.bernoulli:Bernoulli",
        "binomial": "dbn.models.units.binomial:Binomial",
        "gaussian": "dbn.models.units.gaussian:Gaussian",
        "relu": "dbn.models.units.relu:ReLU",
        "drelu": "dbn.models.units.drelu:DReLU",
        "spin": "dbn.models.units.spin:Spin",
        "categorical": "dbn.models.units.categorical:Categorical",
        "mixed": "dbn.models.units.mixed:Mixed",
    },
)
"""Every unit type by its name in files and on the command line, which is its `kind`."""

__getattr__, __dir__, __all__ = lazy_exports(__name__, __file__)
