"""Evaluate a saved or given model: log Z, log-likelihoods and bounds, in nats."""

from typing import TYPE_CHECKING

from dbn.registry import lazy_exports

if TYPE_CHECKING:
    from dbn.evaluation.evaluate import Evaluation as Evaluation
    from dbn.evaluation.evaluate import evaluate as evaluate
    from dbn.evaluation.rows import row_values as row_values

__getattr__, __dir__, __all__ = lazy_exports(__name__, __file__)
