"""Two mistakes of a widely copied pair of PyTorch labs on MNIST, as data sets, to see what each costs.

The labs train classifiers from Xavier's start. Both scale pixels for training and forget to for testing; the deeper one
defines five layers and strings together the first three, so that the 512 outputs of a hidden layer stand for classes.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np

from dbn.data.table import Table
from dbn.data.torchvision_datasets import load_named

OUTPUTS = 512


def unscaled_test(name: str, data_dir: Path | None = None) -> Table:
    """Grey levels 0 … 1 to learn from and 0 … 255 to test on."""
    mnist = load_named("mnist", data_dir)
    assert mnist.x_test is not None
    return replace(mnist, x=mnist.x.astype(np.float32) / 255, x_test=mnist.x_test.astype(np.float32))


def too_many_outputs(name: str, data_dir: Path | None = None) -> Table:
    """512 classes, of which ten occur: a network of so many outputs learns that the others never do."""
    return replace(load_named("mnist", data_dir), classes=tuple(map(str, range(OUTPUTS))))
