"""Train a classifier from several initializations and compare them: one arm per initialization."""

from typing import TYPE_CHECKING

from dbn.registry import lazy_exports

if TYPE_CHECKING:
    from dbn.finetuning.compare import ComparisonResult as ComparisonResult
    from dbn.finetuning.compare import FinetuningOptions as FinetuningOptions
    from dbn.finetuning.compare import compare as compare
    from dbn.finetuning.comparison import Comparison as Comparison
    from dbn.finetuning.problem import Problem as Problem
    from dbn.finetuning.signal_propagation import LayerSignal as LayerSignal
    from dbn.finetuning.signal_propagation import signal_propagation as signal_propagation

__getattr__, __dir__, __all__ = lazy_exports(__name__, __file__)
