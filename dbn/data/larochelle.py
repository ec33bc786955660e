"""Data sets on which deep stacks were first judged, made anew by their published rules.

Larochelle, Erhan, Courville, Bergstra & Bengio (2007), *An empirical evaluation of deep architectures on problems with
many factors of variation*, and its online companion. Rules and sizes are theirs, the examples are not: these follow
from `SEED`, and errors on them compare with published ones as on another draw from the same source.
"""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from dbn.data.portable_rng import Draws
from dbn.data.shapes import SIDE, LabeledImages, convex_or_not, rectangles
from dbn.data.table import Table
from dbn.data.torchvision_datasets import DIGITS, load_named
from dbn.errors import InputError

SEED = 0


CHUNK = 4096


class Made(NamedTuple):
    """What a data set is made of."""

    sizes: tuple[int, int, int]
    """Training, validation and test examples, as published."""
    classes: tuple[str, ...]
    parts: Callable[[str, int, int, Draws, Path | None], tuple[LabeledImages, LabeledImages]]
    """(name, n, n_test, draws, data_dir) -> examples to learn from, and to test on."""


def make_named(
    name: str, data_dir: Path | None = None, *, sizes: tuple[int, int, int] | None = None, seed: int = SEED
) -> Table:
    """A data set of `MADE`, or a smaller one by the same rules; the last rows of `x` are for validation.

    Raises:
        InputError: MNIST is needed and is not there, as for `load_named`, or is not the published one.
    """
    made = MADE[name]
    train, valid, test = sizes or made.sizes
    learn, load_evaluation_data = made.parts(name, train + valid, test, Draws(seed, "made data", name), data_dir)
    rows, test_rows = (part.x.reshape(len(part.x), -1) for part in (learn, load_evaluation_data))
    return Table(rows, learn.y, test_rows, load_evaluation_data.y, made.classes, (1, SIDE, SIDE), valid)


def choose(n_first: int, n_second: int, n: int, n_test: int, draws: Draws) -> tuple[NDArray, NDArray]:
    """Rows of two files, counted through: `n` of the first, and `n_test` of all others; none twice."""
    first = draws.order(n_first)
    others = np.concatenate([first[n:], n_first + np.arange(n_second)])
    return first[:n], others[draws.order(len(others))[:n_test]]


def _from_digits(change: Callable[[NDArray, Draws], NDArray]) -> Callable[..., tuple[LabeledImages, LabeledImages]]:
    """Training and validation digits from MNIST's training file, test digits from all that is left of both files.

    Published are 62,000 digits, of which 50,000 to test on: more than MNIST's own test file holds.
    """

    def parts(
        name: str, n: int, n_test: int, draws: Draws, data_dir: Path | None
    ) -> tuple[LabeledImages, LabeledImages]:
        mnist = load_named("mnist", data_dir)
        if mnist.x_test is None or mnist.y is None or mnist.y_test is None or mnist.image_shape != (1, SIDE, SIDE):
            raise InputError("mnist is not what was published, remove its files to have them fetched again")
        if len(mnist.x) < n or len(mnist.x) + len(mnist.x_test) < n + n_test:
            raise InputError(
                f"{name} is made from {n + n_test:,} digits, but the files of mnist hold {len(mnist.x):,} for training "
                f"and {len(mnist.x_test):,} for testing: remove them to have the published ones fetched"
            )
        x = np.concatenate([mnist.x, mnist.x_test]).reshape(-1, SIDE, SIDE)
        y = np.concatenate([mnist.y, mnist.y_test])
        learn, test = choose(len(mnist.x), len(mnist.x_test), n, n_test, draws)
        return LabeledImages(change(x[learn], draws), y[learn]), LabeledImages(change(x[test], draws), y[test])

    return parts


def rotate(x: NDArray, angles: NDArray) -> NDArray:
    """Pictures (n, H, W) uint8 turned about their centres by `angles` (n,), in radians; black comes in from outside.

    Bilinear, in double precision, rounded to bytes.
    """
    transposed = np.empty_like(x)
    for begin in range(0, len(x), CHUNK):
        some = slice(begin, begin + CHUNK)
        cos, sin = torch.from_numpy(np.cos(angles[some])), torch.from_numpy(np.sin(angles[some]))
        zero = torch.zeros_like(cos)
        turn = torch.stack([cos, -sin, zero, sin, cos, zero], 1).view(-1, 2, 3)
        pictures = torch.from_numpy(x[some]).double().unsqueeze(1)
        grid = F.affine_grid(turn, list(pictures.shape), align_corners=False)
        transposed[some] = F.grid_sample(pictures, grid, align_corners=False).round_().squeeze(1).numpy()
    return transposed


def _rotated(x: NDArray, draws: Draws) -> NDArray:
    """By an angle uniform in 0 … 2π."""
    return rotate(x, 2 * np.pi * draws.uniform(len(x)))


def _on_noise(x: NDArray, draws: Draws) -> NDArray:
    """The larger of the digit and a background uniform in 0 … 255, pixel by pixel."""
    larger: NDArray = np.maximum(x, draws.bytes(*x.shape))
    return larger


def _from_nothing(draw: Callable[[int, Draws], LabeledImages]) -> Callable[..., tuple[LabeledImages, LabeledImages]]:
    def parts(
        name: str, n: int, n_test: int, draws: Draws, data_dir: Path | None
    ) -> tuple[LabeledImages, LabeledImages]:
        return draw(n, draws), draw(n_test, draws)

    return parts


MADE = {
    "mnist-rot": Made((10_000, 2_000, 50_000), DIGITS, _from_digits(_rotated)),
    "mnist-back-rand": Made((10_000, 2_000, 50_000), DIGITS, _from_digits(_on_noise)),
    "rectangles": Made((1_000, 200, 50_000), ("taller", "wider"), _from_nothing(rectangles)),
    "convex": Made((6_000, 2_000, 50_000), ("convex", "not convex"), _from_nothing(convex_or_not)),
}
