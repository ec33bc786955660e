"""Two mistakes of a widely copied pair of PyTorch labs on MNIST, as data sets, to see what each costs.

The labs train classifiers initialized by Xavier's rule. Both scale pixels for training and forget to for testing; the
deeper one defines five layers and joins the first three, so that 512 hidden units serve as classes.
"""

from dataclasses import replace
from pathlib import Path

from dbn.data.examples import Examples
from dbn.data.splits import Splits
from dbn.data.torchvision_datasets import load_named

OUTPUTS = 512


def unscaled_test(name: str, data_dir: Path | None = None) -> Splits:
    """Grey levels 0 … 1 to learn from and 0 … 255 to test on."""
    mnist = load_named("mnist", data_dir)
    assert mnist.test is not None
    train, test = Examples(mnist.train.tensor / 255, mnist.train.y), Examples(mnist.test.tensor.float(), mnist.test.y)
    return replace(mnist, train=train, valid=train[:0], test=test, divisor=1.0, unchecked=True)


def too_many_outputs(name: str, data_dir: Path | None = None) -> Splits:
    """512 classes, of which ten occur: a network of so many outputs learns that the others never do."""
    return replace(load_named("mnist", data_dir), classes=tuple(map(str, range(OUTPUTS))))
