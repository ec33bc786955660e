"""A trained model as one HTML page that computes by itself: drawings, reconstructions, Gibbs steps, imputed values."""

from typing import TYPE_CHECKING

from dbn.registry import lazy_exports

if TYPE_CHECKING:
    from dbn.dream.write import write_dream as write_dream

__getattr__, __dir__, __all__ = lazy_exports(__name__, __file__)
