"""scikit-learn's bundled data sets, which need no network."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from dbn.data.splits import Splits, checked
from dbn.data.table import table_of
from dbn.errors import InputError


def load_bundled(name: str, data_dir: Path | None = None) -> Splits:
    """The data set of `sklearn.datasets.load_NAME`: columns of real numbers, or the images of `digits` over 16.

    InputError where scikit-learn is missing.
    """
    try:
        import sklearn.datasets
    except ImportError as error:
        raise InputError(f"{name} is part of scikit-learn: pip install 'torch-dbn[sklearn]'") from error
    bunch = getattr(sklearn.datasets, f"load_{name}")()
    labels = np.asarray(bunch.target_names)[bunch.target]
    if "images" in bunch:  # of 0 … 16
        return checked(table_of(name, {"x": (bunch.images / 16).astype(np.float32), "y": labels}))
    splits = checked(table_of(name, {"x": bunch.data, "y": labels}, columns=tuple(map(str, bunch.feature_names))))
    return replace(splits, notes=("These are real numbers, for --visible gaussian.",))
