"""Initial weights of a network by Xavier, He, LSUV and others or by pre-training, and their names."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from dbn.registry import Registry, lazy_exports

if TYPE_CHECKING:
    from dbn.initializers.arms import Arm as Arm
    from dbn.initializers.arms import parse_arm as parse_arm
    from dbn.initializers.initialize import initialize as initialize
    from dbn.initializers.schemes import Initializer as Initializer
    from dbn.initializers.schemes import batch_norm as batch_norm
    from dbn.initializers.schemes import constant as constant
    from dbn.initializers.schemes import from_dbn as from_dbn
    from dbn.initializers.schemes import he_normal as he_normal
    from dbn.initializers.schemes import he_uniform as he_uniform
    from dbn.initializers.schemes import lecun_normal as lecun_normal
    from dbn.initializers.schemes import lecun_uniform as lecun_uniform
    from dbn.initializers.schemes import lsuv as lsuv
    from dbn.initializers.schemes import mup_normal as mup_normal
    from dbn.initializers.schemes import normal as normal
    from dbn.initializers.schemes import orthogonal as orthogonal
    from dbn.initializers.schemes import sparse as sparse
    from dbn.initializers.schemes import torch_default as torch_default
    from dbn.initializers.schemes import truncated_normal as truncated_normal
    from dbn.initializers.schemes import uniform as uniform
    from dbn.initializers.schemes import xavier_normal as xavier_normal
    from dbn.initializers.schemes import xavier_uniform as xavier_uniform
    from dbn.initializers.schemes import zeros as zeros

    kaiming_normal, kaiming_uniform = he_normal, he_uniform
    glorot_normal, glorot_uniform = xavier_normal, xavier_uniform

SCHEMES = (
    "zeros constant normal uniform truncated_normal sparse lecun_normal lecun_uniform xavier_normal xavier_uniform "
    "he_normal he_uniform orthogonal lsuv batch_norm mup_normal torch_default"
)
INITIALIZERS: "Registry[Callable[..., Initializer]]" = Registry(
    "initializer", {name: f"dbn.initializers.schemes:{name}" for name in SCHEMES.split()}
)
"""Every initializer that is made from numbers alone; `dbn` is made from a stack by `from_dbn`."""

ALIASES = {
    "kaiming_normal": "he_normal",
    "kaiming_uniform": "he_uniform",
    "glorot_normal": "xavier_normal",
    "glorot_uniform": "xavier_uniform",
}
"""Other names of initializers."""

_export, _, _names = lazy_exports(__name__, __file__)
__all__ = [*_names, *ALIASES]


def __getattr__(name: str) -> Any:
    return _export(ALIASES.get(name, name))


def __dir__() -> list[str]:
    return __all__
