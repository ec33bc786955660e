"""Each mistake is there, and nothing else is changed."""

import numpy as np
import pytest
import torch

from dbn.data import DATASETS, mnist_lab
from dbn.data.datasets import load_splits
from dbn.data.splits import Splits, unsplit

N, N_TEST = 200, 50


@pytest.fixture(autouse=True)
def mnist(monkeypatch: pytest.MonkeyPatch) -> Splits:
    rng = np.random.default_rng(0)
    x, x_test = (rng.integers(0, 256, (n, 28, 28)).astype(np.uint8) for n in (N, N_TEST))
    y, y_test = (np.arange(n) % 10 for n in (N, N_TEST))
    digits = unsplit("mnist", x, y, x_test, y_test)
    load = lambda name, data_dir: {"mnist": digits}[name]  # noqa: E731
    monkeypatch.setattr(mnist_lab, "load_named", load)
    monkeypatch.setitem(DATASETS, "mnist", load)
    return digits


def same_labels(a: Splits, b: Splits) -> bool:
    assert a.test is not None
    assert b.test is not None
    pairs = ((a.train.y, b.train.y), (a.valid.y, b.valid.y), (a.test.y, b.test.y))
    return all(one is not None and other is not None and torch.equal(one, other) for one, other in pairs)


def test_only_test_pixels_are_not_scaled(mnist: Splits) -> None:
    right, wrong = load_splits("mnist"), load_splits("mnist-lab-pixels")
    assert (right.divisor, wrong.divisor) == (255.0, 1.0)
    assert (right.name, wrong.name) == ("mnist", "mnist-lab-pixels")
    for part in ("train", "valid"):
        assert torch.equal(getattr(wrong, part).x, torch.from_numpy(getattr(right, part).x.numpy() / np.float32(255)))
    assert wrong.test is not None
    assert mnist.test is not None
    assert torch.equal(wrong.test.x, mnist.test.x.float())
    assert same_labels(right, wrong)


def test_only_the_number_of_classes_is_wrong() -> None:
    right, wrong = load_splits("mnist"), load_splits("mnist-lab-outputs")
    assert (right.n_classes, wrong.n_classes) == (10, 512)
    assert wrong.classes[:10] == right.classes
    assert (wrong.divisor, wrong.image_shape) == (right.divisor, right.image_shape)
    assert torch.equal(right.train.x, wrong.train.x)
    assert same_labels(right, wrong)
