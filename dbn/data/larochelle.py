"""Data sets of Larochelle et al. (2007), made by their published rules.

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

from dbn.data.examples import Examples, labels_of
from dbn.data.portable_rng import Draws
from dbn.data.shapes import SIDE, Labeled, convex_or_not, rectangles
from dbn.data.splits import Splits
from dbn.data.torchvision_datasets import DIGITS, load_named
from dbn.errors import InputError

SEED = 0
CHUNK = 4096

Parts = Callable[[str, int, int, Draws, Path | None], tuple[Labeled, Labeled]]
"""(name, n, n_test, draws, data_dir) -> images (n, 28, 28) and classes to learn from, and to test on."""


class Recipe(NamedTuple):
    """How a data set is made."""

    sizes: tuple[int, int, int]
    """Training, validation and test examples, as published."""
    classes: tuple[str, ...]
    parts: Parts


def make_named(
    name: str, data_dir: Path | None = None, *, sizes: tuple[int, int, int] | None = None, seed: int = SEED
) -> Splits:
    """A data set of `MADE`, or a smaller one by the same rules.

    Raises:
        InputError: MNIST is needed and is not there, as for `load_named`, or is not the published one.
    """
    recipe = MADE[name]
    n_train, n_valid, n_test = sizes or recipe.sizes
    made = recipe.parts(name, n_train + n_valid, n_test, Draws(seed, "made data", name), data_dir)
    learn, test = (Examples(torch.from_numpy(x).flatten(1), torch.from_numpy(y)) for x, y in made)
    shape = (1, SIDE, SIDE)
    return Splits(name, learn[:n_train], learn[n_train:], test, recipe.classes, shape, 255.0)


def choose(n_first: int, n_second: int, n: int, n_test: int, draws: Draws) -> tuple[NDArray, NDArray]:
    """Rows of two files, counted through: `n` of the first, and `n_test` of all others; none twice."""
    first = draws.order(n_first)
    others = np.concatenate([first[n:], n_first + np.arange(n_second)])
    return first[:n], others[draws.order(len(others))[:n_test]]


def _from_digits(change: Callable[[NDArray, Draws], NDArray]) -> Parts:
    """Training and validation digits from MNIST's training file, test digits from all that is left of both files.

    Published are 62,000 digits, of which 50,000 to test on: more than MNIST's own test file holds.
    """

    def parts(name: str, n: int, n_test: int, draws: Draws, data_dir: Path | None) -> tuple[Labeled, Labeled]:
        mnist = load_named("mnist", data_dir)
        if mnist.test is None or mnist.image_shape != (1, SIDE, SIDE):
            raise InputError("mnist is not what was published, remove its files to have them fetched again")
        files = (mnist.train, mnist.test)
        if len(mnist.train) < n or sum(map(len, files)) < n + n_test:
            raise InputError(
                f"{name} is made from {n + n_test:,} digits, but the files of mnist hold {len(mnist.train):,} for "
                f"training and {len(mnist.test):,} for testing: remove them to have the published ones fetched"
            )
        x = torch.cat([file.tensor for file in files]).reshape(-1, SIDE, SIDE).numpy()
        y = torch.cat([labels_of(file) for file in files]).numpy()
        learn, test = choose(len(mnist.train), len(mnist.test), n, n_test, draws)
        return (change(x[learn], draws), y[learn]), (change(x[test], draws), y[test])

    return parts


def rotate(x: NDArray, angles: NDArray) -> NDArray:
    """Images (n, H, W) uint8 rotated about their centers by `angles` (n,), in radians, on black.

    Bilinear, in double precision, rounded to bytes.
    """
    rotated = np.empty_like(x)
    for begin in range(0, len(x), CHUNK):
        some = slice(begin, begin + CHUNK)
        cos, sin = torch.from_numpy(np.cos(angles[some])), torch.from_numpy(np.sin(angles[some]))
        zero = torch.zeros_like(cos)
        rotations = torch.stack([cos, -sin, zero, sin, cos, zero], 1).view(-1, 2, 3)
        images = torch.from_numpy(x[some]).double().unsqueeze(1)
        grid = F.affine_grid(rotations, list(images.shape), align_corners=False)
        rotated[some] = F.grid_sample(images, grid, align_corners=False).round_().squeeze(1).numpy()
    return rotated


def _drawn(draw: Callable[[int, Draws], Labeled]) -> Parts:
    return lambda name, n, n_test, draws, data_dir: (draw(n, draws), draw(n_test, draws))


# By an angle uniform in 0 … 2π; the larger of the digit and a background uniform in 0 … 255, pixel by pixel.
ROTATED = _from_digits(lambda x, draws: rotate(x, 2 * np.pi * draws.uniform(len(x))))
ON_NOISE = _from_digits(lambda x, draws: np.maximum(x, draws.bytes(*x.shape)))

MADE = {
    "mnist-rot": Recipe((10_000, 2_000, 50_000), DIGITS, ROTATED),
    "mnist-back-rand": Recipe((10_000, 2_000, 50_000), DIGITS, ON_NOISE),
    "rectangles": Recipe((1_000, 200, 50_000), ("taller", "wider"), _drawn(rectangles)),
    "convex": Recipe((6_000, 2_000, 50_000), ("convex", "not convex"), _drawn(convex_or_not)),
}
