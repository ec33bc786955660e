"""Compare initializations over a grid of depths, activations and numbers of labels."""

from typing import TYPE_CHECKING

from dbn.registry import lazy_exports

if TYPE_CHECKING:
    from dbn.study.runner import run_study as run_study
    from dbn.study.study import Study as Study

__getattr__, __dir__, __all__ = lazy_exports(__name__, __file__)
