"""Images of filters and samples, and figures of studies."""

from typing import TYPE_CHECKING

from dbn.registry import lazy_exports

if TYPE_CHECKING:
    from dbn.plotting.figures import error_against_depth as error_against_depth
    from dbn.plotting.figures import error_against_labels as error_against_labels
    from dbn.plotting.figures import learning_curves as learning_curves
    from dbn.plotting.figures import save as save
    from dbn.plotting.figures import signal_by_layer as signal_by_layer
    from dbn.plotting.images import filters as filters
    from dbn.plotting.images import save_png as save_png

__getattr__, __dir__, __all__ = lazy_exports(__name__, __file__)
