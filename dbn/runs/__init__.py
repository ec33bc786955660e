"""Run folders: one writer, resumable, with checkpoints, TensorBoard events and weights."""

from typing import TYPE_CHECKING

from dbn.registry import lazy_exports

if TYPE_CHECKING:
    from dbn.runs.classifier import Classifier as Classifier
    from dbn.runs.classifier import load_classifier as load_classifier
    from dbn.runs.folder import RunFolder as RunFolder
    from dbn.runs.resume import begin as begin
    from dbn.runs.weights import load as load

__getattr__, __dir__, __all__ = lazy_exports(__name__, __file__)
