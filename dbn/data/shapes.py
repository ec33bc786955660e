"""White shapes on black: rectangles, and sets that are convex or not.

Larochelle, Erhan, Courville, Bergstra & Bengio (2007), *An empirical evaluation of deep architectures on problems with
many factors of variation*, and its online companion.
"""

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dbn.data.portable_rng import Draws

SIDE = 28
WHITE = 255
LEAST_DIFFERENCE = 3  # of a rectangle's sides
ROUND = 4096  # candidates at once, where some are refused

Labeled = tuple[NDArray, NDArray]
"""Images (n, 28, 28) uint8, and classes (n,) int64."""


class Family(NamedTuple):
    """Of intersections of half-planes: the parameter of their geometric number, and the least number of pixels."""

    rate: float
    least: int


CONVEX = Family(0.195, 19)
PIECE = Family(0.07, 10)  # a set that is not convex is the union of 2 to 4


def rectangles(n: int, draws: Draws) -> Labeled:
    """Outlines, one pixel thick, of `n` rectangles anywhere in the image; 0 is taller, 1 wider.

    Height and width are uniform in 1 … 28, drawn again where they differ by less than 3; then the corner is uniform
    over where the rectangle fits.
    """
    sides = _first(n, lambda: _unequal(1 + draws.below(np.full((ROUND, 2), SIDE))))
    begins = draws.below(SIDE + 1 - sides)
    ends = begins + sides - 1
    at = np.arange(SIDE)
    within = (begins[..., None] <= at) & (at <= ends[..., None])  # (n, 2, 28): rows, columns
    border = (begins[..., None] == at) | (at == ends[..., None])
    rows, columns = within[:, 0, :, None], within[:, 1, None, :]
    outline = rows & columns & (border[:, 0, :, None] | border[:, 1, None, :])
    return outline * np.uint8(WHITE), (sides[:, 1] > sides[:, 0]).astype(np.int64)


def _unequal(sides: NDArray) -> NDArray:
    unequal: NDArray = sides[np.abs(sides[:, 0] - sides[:, 1]) >= LEAST_DIFFERENCE]
    return unequal


def convex_or_not(n: int, draws: Draws) -> Labeled:
    """White sets, half of them convex (class 0) and half not (class 1), in random order.

    Convex: the intersection of half-planes, geometric(0.195) in number, of at least 19 pixels. Not convex: the union
    of 2 to 4 intersections, geometric(0.07) and of at least 10 pixels, unless `is_convex`.

    Published is further that the classes have the same mean number of white pixels. Under the rates above that holds
    (451 of 784) where the geometric distribution starts at 0, as in the MATLAB that the authors used: no half-plane at
    all is an all-white image, about a third of the convex ones. From 1 it would be 275 against 465.
    """
    y = (np.arange(n) % 2)[draws.order(n)]
    white = np.empty((n, SIDE, SIDE), bool)
    white[y == 0] = _filled(intersections(int((y == 0).sum()), CONVEX, draws))
    white[y == 1] = _first(int((y == 1).sum()), lambda: _not_convex(draws))
    return white * np.uint8(WHITE), y


def _not_convex(draws: Draws) -> NDArray:
    """Those of `ROUND` unions that are not convex, (n, 28, 28) bool."""
    counts = 2 + draws.below(np.full(ROUND, 3))
    pieces = _filled(intersections(int(counts.sum()), PIECE, draws))
    unions = np.logical_or.reduceat(pieces, np.cumsum(counts) - counts)
    broken: NDArray = unions[~is_convex(unions)]
    return broken


def half_planes(points: NDArray, angles: NDArray) -> NDArray:
    """The pixels (x, y) with (x − points)·(cos angle, sin angle) ≥ 0, as first and last column of every row.

    `points` (n, 2), in pixels from the image's upper left corner; -> (n, 2, 28), empty rows with first > last.
    A pixel is its center.
    """
    x, y = points[:, :1], points[:, 1:]
    cos, sin = np.cos(angles)[:, None], np.sin(angles)[:, None]
    edge = x - 0.5 - (np.arange(SIDE) + 0.5 - y) * sin / cos
    first = np.where(cos > 0, np.ceil(edge).clip(0, SIDE), 0)
    last = np.where(cos > 0, SIDE - 1, np.floor(edge).clip(-1, SIDE - 1))
    return np.stack([first, last], 1).astype(np.int8)


def intersections(n: int, family: Family, draws: Draws) -> NDArray:
    """`n` intersections of half-planes, (n, 2, 28) as from `half_planes`.

    The number of half-planes is geometric, from 0; each has an orientation uniform in 0 … 2π and a point of its border
    uniform in the image. What has too few pixels is drawn again, number and all.
    """
    return _first(n, lambda: _candidates(family, draws))


def _candidates(family: Family, draws: Draws) -> NDArray:
    """Those of `ROUND` intersections that have enough pixels. More half-planes never add one, so it stops early."""
    counts = draws.geometric(family.rate, ROUND)
    spans = np.tile(np.array([[0], [SIDE - 1]], np.int8), (ROUND, 1, SIDE))
    enough = np.ones(ROUND, bool)
    for number in range(counts.max()):
        going = np.flatnonzero(enough & (counts > number))
        planes = half_planes(SIDE * draws.uniform(len(going), 2), 2 * np.pi * draws.uniform(len(going)))
        first = np.maximum(spans[going, 0], planes[:, 0])
        last = np.minimum(spans[going, 1], planes[:, 1])
        spans[going] = np.stack([first, last], 1)
        enough[going] = (last - first + 1).clip(0).sum(1) >= family.least
    return spans[enough]


def _filled(spans: NDArray) -> NDArray:
    """(n, 2, 28) first and last columns -> (n, 28, 28) bool."""
    columns: NDArray = np.arange(SIDE, dtype=np.int8)
    return (spans[:, 0, :, None] <= columns) & (columns <= spans[:, 1, :, None])


def _first(n: int, draw: Callable[[], NDArray]) -> NDArray:
    """The first `n` rows that `draw` gives, called as often as it takes."""
    rows = [draw()]
    while sum(map(len, rows)) < n:
        rows.append(draw())
    return np.concatenate(rows)[:n]


def is_convex(white: NDArray) -> NDArray:
    """(n, 28, 28) bool -> (n,): no black pixel's center lies on the segment between two white ones' centers.

    Holds for every intersection of half-planes. Along each of the directions in which three pixels can lie, a black
    pixel with white ones on both sides is looked for; eight images share a byte.
    """
    packed = np.packbits(white.transpose(1, 2, 0), axis=2)
    broken = np.zeros(packed.shape[2], np.uint8)
    for step in _directions():
        broken |= np.bitwise_or.reduce(~packed & _behind(packed, step) & _behind(packed, (-step[0], -step[1])), (0, 1))
    whole: NDArray = np.unpackbits(broken)[: len(white)] == 0
    return whole


def _directions() -> Iterator[tuple[int, int]]:
    """(rows, columns) of the shortest step of each direction, one of two opposite ones."""
    most = (SIDE - 1) // 2
    for rows in range(most + 1):
        for columns in range(-most, most + 1):
            if math.gcd(rows, columns) == 1 and (rows, columns) > (0, 0):
                yield rows, columns


def _behind(packed: NDArray, step: tuple[int, int]) -> NDArray:
    """Bits of the pixels that have a white one at any number of steps behind them."""
    seen = _moved(packed, step, 1)
    steps = 1  # that `seen` looks back over
    while steps * max(map(abs, step)) < SIDE - 1:
        seen = seen | _moved(seen, step, steps)
        steps *= 2
    return seen


def _moved(packed: NDArray, step: tuple[int, int], times: int) -> NDArray:
    """The images moved by `times` steps, black coming in."""
    moved = np.zeros_like(packed)
    (to_rows, from_rows), (to_columns, from_columns) = (_overlap(times * length) for length in step)
    moved[to_rows, to_columns] = packed[from_rows, from_columns]
    return moved


def _overlap(offset: int) -> tuple[slice, slice]:
    """Of a line of pixels with itself `offset` further: where it comes to lie, and from where."""
    here, there = slice(max(offset, 0), SIDE + min(offset, 0)), slice(max(-offset, 0), SIDE - max(offset, 0))
    return here, there
