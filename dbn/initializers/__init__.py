"""Starting weights of a network, and the arms of a comparison that name them."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from dbn.registry import Registry, lazy_exports

if TYPE_CHECKING:
    from dbn.initializers.arms import Arm as Arm
    from dbn.initializers.arms import parse_arm as parse_arm
    from dbn.initializers.schemes import Initializer as Initializer
    from dbn.initializers.schemes import from_dbn as from_dbn

SCHEMES = (
    "zeros constant normal uniform truncated_normal sparse lecun_normal lecun_uniform xavier_normal xavier_uniform "
    "he_normal he_uniform orthogonal lsuv batch_norm torch_default"
)
INITIALIZERS: "Registry[Callable[..., Initializer]]" = Registry(
    "initializer", {name: f"dbn.initializers.schemes:{name}" for name in SCHEMES.split()}
)
"""Every initializer that is made from numbers alone; `dbn` is made from a stack by `from_dbn`."""

__getattr__, __dir__, __all__ = lazy_exports(__name__, __file__)
