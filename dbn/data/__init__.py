"""Data sets: training, validation and test examples from a name, a file or arrays."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from dbn.registry import Registry, lazy_exports

if TYPE_CHECKING:
    from dbn.data.cut import splits_from_arrays as splits_from_arrays
    from dbn.data.datasets import load_splits as load_splits
    from dbn.data.examples import Examples as Examples
    from dbn.data.splits import Splits as Splits
    from dbn.data.splits import unsplit as unsplit

DATASETS: "Registry[Callable[[str, Path | None], Splits]]" = Registry(
    "data set",
    {
        "mnist-10k": "dbn.data.datasets:load_shipped",
        "mnist": "dbn.data.torchvision_datasets:load_named",
        "fashion-mnist": "dbn.data.torchvision_datasets:load_named",
        "kmnist": "dbn.data.torchvision_datasets:load_named",
        "usps": "dbn.data.torchvision_datasets:load_named",
        "cifar10": "dbn.data.torchvision_datasets:load_named",
        "digits": "dbn.data.sklearn_datasets:load_bundled",
        "iris": "dbn.data.sklearn_datasets:load_bundled",
        "wine": "dbn.data.sklearn_datasets:load_bundled",
        "breast_cancer": "dbn.data.sklearn_datasets:load_bundled",
        "mnist-rot": "dbn.data.larochelle:make_named",
        "mnist-back-rand": "dbn.data.larochelle:make_named",
        "rectangles": "dbn.data.larochelle:make_named",
        "convex": "dbn.data.larochelle:make_named",
        "mnist-lab-pixels": "dbn.data.mnist_lab:unscaled_test",
        "mnist-lab-outputs": "dbn.data.mnist_lab:too_many_outputs",
    },
)
"""Every named data set: a function of the name and of the folder of `--data-dir`. It returns what `unsplit` does, from
which validation and test rows are cut where there are none."""

__getattr__, __dir__, __all__ = lazy_exports(__name__, __file__)
