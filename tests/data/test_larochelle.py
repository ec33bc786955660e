"""Each published rule, against a slow twin that goes pixel by pixel."""

import math
import os
from hashlib import blake2b
from itertools import pairwise, product
from pathlib import Path

import numpy as np
import pytest
from enumeration import CHANCE, Z
from scipy import ndimage, stats

from dbn.data import larochelle as made_data
from dbn.data import shapes
from dbn.data import torchvision_datasets as vision
from dbn.data.datasets import load_splits
from dbn.data.larochelle import MADE, choose, make_named, rotate
from dbn.data.portable_rng import Draws
from dbn.data.shapes import Family, convex_or_not, half_planes, intersections, is_convex, rectangles
from dbn.data.splits import unsplit
from dbn.errors import InputError

SIDE = 28
CONVEX = Family(0.195, 19)
PIECE = Family(0.07, 10)
MNIST = Path(os.environ.get("DBN_DATA", ""), "MNIST", "raw", "train-images-idx3-ubyte")
PUBLISHED = {
    "mnist-rot": ((10_000, 2_000, 50_000), "28f23e36104b9235"),
    "mnist-back-rand": ((10_000, 2_000, 50_000), "fec063f93a77b668"),
    "rectangles": ((1_000, 200, 50_000), "f84ba69e469e8b5f"),
    "convex": ((6_000, 2_000, 50_000), "2b149af2c9e562bb"),
}
"""Sizes, and the fingerprint of what `SEED` gives."""
SMALL = {
    "mnist-rot": "716a40ef55d7b092",
    "mnist-back-rand": "643f01c19958550d",
    "rectangles": "579412df58d1eb69",
    "convex": "213f6853c676d5e3",
}
"""What it gives of 200 + 100 + 300 examples, digits from the fixture."""


def mean_is(values, expected):
    """Whether a mean lies within its computed error of what it should be."""
    values = np.asarray(values, float)
    return abs(values.mean() - expected) <= Z * values.std() / len(values) ** 0.5


def share_is(hits, expected):
    """The same for hits with known chances, one chance or one each."""
    expected = np.broadcast_to(expected, hits.shape)
    return abs((hits - expected).sum()) <= Z * (expected * (1 - expected)).sum() ** 0.5


# Random numbers


def test_uniform_numbers_are_those_of_numpy():
    draws = Draws(0, "twin")
    twin = np.random.Generator(np.random.PCG64(0))
    twin.bit_generator.state = draws.source.state
    assert np.array_equal(draws.uniform(50, 3), twin.random((50, 3)))


@pytest.mark.parametrize("rate", [CONVEX.rate, PIECE.rate])
def test_geometric_numbers_begin_at_nought(rate):
    numbers = Draws(0, "geometric").geometric(rate, 100_000)
    for k in range(12):
        assert share_is(numbers == k, rate * (1 - rate) ** k)
    assert mean_is(numbers, 1 / rate - 1)


@pytest.mark.parametrize("limit", [1, 3, 28])
def test_whole_numbers_below(limit):
    numbers = Draws(0, "below").below(np.full(30_000, limit))
    counts = np.bincount(numbers, minlength=limit)
    assert len(counts) == limit
    assert limit == 1 or stats.chisquare(counts).pvalue > CHANCE


def test_bytes_are_uniform_at_each_place_of_a_word():
    drawn = Draws(0, "bytes").bytes(20_001, 7).reshape(-1)
    places = drawn[: len(drawn) // 8 * 8].reshape(-1, 8).T
    for place in places:
        assert stats.chisquare(np.bincount(place, minlength=256)).pvalue > CHANCE / 8
    assert np.abs(np.corrcoef(places) - np.eye(8)).max() < Z / places.shape[1] ** 0.5


def test_an_order_holds_every_number_once_and_is_fair():
    orders = np.array([Draws(seed, "order").order(6) for seed in range(3000)])
    assert (np.sort(orders, axis=1) == np.arange(6)).all()
    for place, number in product(range(6), range(6)):
        assert share_is(orders[:, place] == number, 1 / 6)


# Rectangles


def test_rectangles_are_outlines_of_one_pixel():
    x, y = rectangles(2000, Draws(1, "rectangles"))
    assert set(np.unique(x)) == {0, 255}
    for picture, label in zip(x, y, strict=True):
        rows, columns = np.nonzero(picture)
        top, bottom, left, right = rows.min(), rows.max(), columns.min(), columns.max()
        twin = np.zeros((SIDE, SIDE), np.uint8)
        for row in range(top, bottom + 1):
            twin[row, left] = twin[row, right] = 255
        for column in range(left, right + 1):
            twin[top, column] = twin[bottom, column] = 255
        assert np.array_equal(picture, twin)
        height, width = bottom - top + 1, right - left + 1
        assert abs(height - width) >= 3
        assert MADE["rectangles"].classes[label] == ("wider" if width > height else "taller")


def test_sides_and_corners_of_rectangles_are_uniform():
    x, y = rectangles(20_000, Draws(2, "rectangles"))
    assert share_is(y, 0.5)
    sides, begins = [], []
    for axis in (2, 1):
        lit = x.any(axis)
        begins.append(lit.argmax(1))
        sides.append(SIDE - lit[:, ::-1].argmax(1) - begins[-1])
    counts = np.histogram2d(*sides, bins=np.arange(1, 30))[0]
    allowed = np.abs(np.subtract.outer(np.arange(28), np.arange(28))) >= 3
    assert counts[~allowed].sum() == 0
    assert stats.chisquare(counts[allowed]).pvalue > CHANCE
    for side, begin in zip(sides, begins, strict=True):
        places = SIDE + 1 - side
        for share in (begin == 0, begin == places - 1, begin == places // 2):
            assert share_is(share, 1 / places)


# Convex sets


def pixels_of_half_plane(point, angle):
    """Pixel by pixel."""
    inside = np.zeros((SIDE, SIDE), bool)
    for row, column in product(range(SIDE), range(SIDE)):
        along = (column + 0.5 - point[0]) * math.cos(angle) + (row + 0.5 - point[1]) * math.sin(angle)
        inside[row, column] = along >= 0
    return inside


def filled(spans):
    first, last = spans[:, 0, :, None], spans[:, 1, :, None]
    return (first <= np.arange(SIDE)) & (np.arange(SIDE) <= last)


def test_half_planes_against_their_pixels():
    rng = np.random.default_rng(0)
    points, angles = 28 * rng.random((120, 2)), 2 * np.pi * rng.random(120)
    for spans, point, angle in zip(filled(half_planes(points, angles)), points, angles, strict=True):
        assert np.array_equal(spans, pixels_of_half_plane(point, angle))


def slow_intersections(n, family, rng):
    """All pixels of all half-planes, from numpy's own distributions."""
    found = []
    y, x = np.mgrid[:SIDE, :SIDE] + 0.5
    while len(found) < n:
        white = np.ones((SIDE, SIDE), bool)
        for _ in range(rng.geometric(family.rate) - 1):
            angle, point = rng.uniform(0, 2 * np.pi), rng.uniform(0, SIDE, 2)
            white &= (x - point[0]) * np.cos(angle) + (y - point[1]) * np.sin(angle) >= 0
        if white.sum() >= family.least:
            found.append(white)
    return np.array(found)


def same_distribution(one, other):
    one, other = one.reshape(len(one), -1).sum(1), other.reshape(len(other), -1).sum(1)
    return stats.ks_2samp(one, other).pvalue > CHANCE


@pytest.mark.parametrize("family", [CONVEX, PIECE])
def test_intersections_of_half_planes(family):
    fast = filled(intersections(1500, family, Draws(3, "sets")))
    assert fast.sum((1, 2)).min() >= family.least
    assert is_convex(fast).all()
    slow = slow_intersections(700, family, np.random.default_rng(1))
    assert same_distribution(fast, slow)
    assert same_distribution(fast[:, :9, :9], slow[:, :9, :9])  # a corner, so that place and direction count
    assert same_distribution(fast[:, 10:18, 20:], slow[:, 10:18, 20:])


def slow_is_convex(white):
    """Every pair of white pixels, and every pixel that their segment meets in its centre."""
    at = np.argwhere(white)
    one, other = (ends.reshape(-1, 2) for ends in np.broadcast_arrays(at[:, None], at[None]))
    apart = np.gcd(*(other - one).T)
    for step in range(1, SIDE - 1):
        far = apart > step
        between = one[far] + (other[far] - one[far]) // apart[far, None] * step
        if not white[tuple(between.T)].all():
            return False
    return True


def test_convexity_of_two_pixels_in_every_direction():
    steps = [(rows, columns) for rows in range(SIDE) for columns in range(1 - SIDE, SIDE) if (rows, columns) > (0, 0)]
    white = np.zeros((len(steps), SIDE, SIDE), bool)
    for picture, (rows, columns) in zip(white, steps, strict=True):
        left = max(0, -columns)
        picture[0, left] = picture[rows, left + columns] = True
    assert is_convex(white).tolist() == [math.gcd(*step) == 1 for step in steps]
    for picture, (rows, columns) in zip(white, steps, strict=True):
        apart, left = math.gcd(rows, columns), max(0, -columns)
        for step in range(apart):
            picture[step * rows // apart, left + step * columns // apart] = True
    assert is_convex(white).all()


def test_convexity_against_every_pair_of_pixels():
    rng = np.random.default_rng(2)
    sets = filled(intersections(30, PIECE, Draws(4, "sets")))
    scratched = sets[:6] & (rng.random((6, SIDE, SIDE)) > 2e-3)
    white = np.concatenate([scratched, sets[6:14] | sets[14:22], sets[22:] & ~sets[6:14]])
    expected = [slow_is_convex(picture) for picture in white]
    assert is_convex(white).tolist() == expected
    assert 5 < sum(expected) < len(white) - 5  # both kinds are here


def test_convex_or_not():
    assert (shapes.CONVEX, shapes.PIECE) == (CONVEX, PIECE)
    x, y = convex_or_not(1501, Draws(5, "convex"))
    assert np.bincount(y).tolist() == [751, 750]
    white = x == 255
    assert (white | (x == 0)).all()
    pixels = white.sum((1, 2))
    assert (pixels[y == 0].min(), pixels[y == 1].min()) >= (CONVEX.least, PIECE.least)
    for label in (0, 1):
        assert [slow_is_convex(picture) for picture in white[y == label][:8]] == [label == 0] * 8
    assert (is_convex(white) == (y == 0)).all()
    difference = pixels[y == 0].mean() - pixels[y == 1].mean()
    assert abs(difference) < Z * (pixels[y == 0].var() / 751 + pixels[y == 1].var() / 750) ** 0.5
    assert share_is(y[:1000], 0.5)  # in no order


def test_the_two_classes_are_what_the_rules_give():
    x, y = convex_or_not(3000, Draws(6, "convex"))
    white = x == 255
    assert same_distribution(white[y == 0], filled(intersections(1500, CONVEX, Draws(7, "sets"))))
    pieces = filled(intersections(12_000, PIECE, Draws(8, "sets")))
    begins = np.cumsum(np.r_[0, np.random.default_rng(3).integers(2, 5, 3000)])
    unions = np.array([pieces[begin:end].any(0) for begin, end in pairwise(begins)])
    twin = unions[~is_convex(unions)]
    assert same_distribution(white[y == 1], twin)
    assert same_distribution(white[y == 1][:, :9, :9], twin[:, :9, :9])


# Digits


def test_no_digit_is_chosen_twice():
    chosen, test_chosen = zip(*(choose(60, 10, 12, 50, Draws(seed, "digits")) for seed in range(800)), strict=True)
    for learn, test in zip(chosen, test_chosen, strict=True):
        assert (len(learn), len(test)) == (12, 50)
        assert len({*learn, *test}) == 62
        assert learn.max() < 60
    for row in (0, 30, 59):
        assert share_is((np.array(chosen) == row).any(1), 12 / 60)
    for row in (60, 69):
        assert share_is((np.array(test_chosen) == row).any(1), 50 / 58)


@pytest.mark.parametrize("margin", [0, 5])
def test_rotation_against_scipy(margin):
    rng = np.random.default_rng(4)
    x = np.pad(rng.integers(0, 256, (40, SIDE - 2 * margin, SIDE - 2 * margin)), ((0, 0), *2 * [(margin, margin)]))
    angles = rng.uniform(0, 2 * np.pi, 40)
    transposed = rotate(x.astype(np.uint8), angles)
    for picture, source, angle in zip(transposed, x, np.degrees(angles), strict=True):
        twin = ndimage.rotate(source.astype(float), angle, reshape=False, order=1, mode="grid-constant")
        assert np.array_equal(picture, np.rint(twin))


def test_quarter_turns():
    x = np.random.default_rng(5).integers(0, 256, (4, SIDE, SIDE)).astype(np.uint8)
    transposed = rotate(x, np.arange(4) * np.pi / 2)
    assert all(np.array_equal(transposed[quarters], np.rot90(x[quarters], quarters)) for quarters in range(4))


N_TRAIN, N_TEST = 900, 300


@pytest.fixture
def mnist(monkeypatch):
    """A small one: uniform grey that tells the label, with a black square in the middle."""
    y = np.arange(N_TRAIN + N_TEST) % 10
    x = np.repeat((15 + 20 * y).astype(np.uint8), SIDE * SIDE).reshape(-1, SIDE, SIDE)
    x[:, 8:20, 8:20] = 0
    digits = unsplit("mnist", x[:N_TRAIN], y[:N_TRAIN], x[N_TRAIN:], y[N_TRAIN:])
    monkeypatch.setattr(made_data, "load_named", lambda name, data_dir: {"mnist": digits}[name])


def arrays(splits):
    """Images and classes to learn from, and to test on."""
    learn = [splits.train, splits.valid]
    return [[np.concatenate(each) for each in zip(*((p.x.numpy(), p.y.numpy()) for p in parts), strict=True)]
            for parts in (learn, [splits.test])]  # fmt: skip


def test_angles_are_uniform(mnist, monkeypatch):
    angles = []
    monkeypatch.setattr(made_data, "rotate", lambda x, some: angles.append(some) or rotate(x, some))
    made = make_named("mnist-rot", sizes=(600, 200, 400))
    drawn = np.concatenate(angles)
    assert len(drawn) == 1200
    assert stats.kstest(drawn / (2 * np.pi), "uniform").pvalue > CHANCE
    for x, y in arrays(made):
        assert (x[:, 4 * SIDE + 14] == 15 + 20 * y).all()  # the label went with its picture
        assert (x[:, 14 * SIDE + 14] == 0).all()


def test_background_is_uniform_and_the_larger_of_both_stays(mnist):
    (x, y), (x_test, y_test) = arrays(make_named("mnist-back-rand", sizes=(600, 200, 400)))
    x = np.concatenate([x, x_test]).reshape(-1, SIDE, SIDE)
    digit = 15 + 20 * np.concatenate([y, y_test])
    dark = x[:, 8:20, 8:20]
    assert stats.chisquare(np.bincount(dark.reshape(-1), minlength=256)).pvalue > CHANCE
    lit = x[:, :, 21:].reshape(len(x), -1)
    assert (lit.min(1) == digit).all()  # and the label went with its picture
    assert share_is(lit == digit[:, None], (digit[:, None] + 1) / 256)
    larger = lit[digit == 115]
    assert stats.chisquare(np.bincount(larger[larger > 115], minlength=256)[116:]).pvalue > CHANCE


# Whole data sets


def bytes_of(splits):
    return b"".join(values.tobytes() for part in arrays(splits) for values in part)


@pytest.mark.parametrize("name", MADE)
def test_a_seed_gives_these_bytes(mnist, name):
    sizes = (200, 100, 300)
    one, same, other = (make_named(name, sizes=sizes, seed=seed) for seed in (0, 0, 1))
    assert [tuple(part.x.shape) for part in (one.train, one.valid, one.test)] == [(n, 784) for n in sizes]
    assert bytes_of(one) == bytes_of(same)
    assert (one.train.x != other.train.x).double().mean() > 0.01
    assert blake2b(bytes_of(one), digest_size=8).hexdigest() == SMALL[name]


@pytest.mark.parametrize(
    "name", [name if name == "rectangles" else pytest.param(name, marks=pytest.mark.slow) for name in MADE]
)
def test_published_sizes(name):
    if name.startswith("mnist") and not MNIST.is_file():
        pytest.skip("full MNIST is not in $DBN_DATA")
    splits = load_splits(name)
    (n_train, *others), fingerprint = PUBLISHED[name]
    assert [len(part) for part in (splits.train, splits.valid, splits.test)] == [n_train, *others]
    assert (splits.divisor, splits.image_shape, splits.test_is_cut) == (255.0, (1, SIDE, SIDE), False)
    assert splits.fingerprint == make_named(name).fingerprint == fingerprint


@pytest.mark.parametrize("name", ["mnist-rot", "mnist-back-rand"])
def test_without_mnist_the_sentence_is_that_of_mnist(tmp_path, monkeypatch, name):
    known = vision.import_torchvision().datasets.MNIST
    monkeypatch.setattr(known, "mirrors", ["http://127.0.0.1:1/"])
    sentences = []
    for dataset in (name, "mnist"):
        with pytest.raises(InputError) as caught:
            load_splits(dataset, data_dir=tmp_path)
        sentences.append(str(caught.value))
    assert sentences[0] == sentences[1]
    assert "train-images-idx3-ubyte" in sentences[0]


def test_mnist_that_is_too_small(mnist):
    with pytest.raises(
        InputError, match=r"mnist-rot is made from 62,000 digits, but .* hold 900 .* and 300 for testing"
    ):
        make_named("mnist-rot")


@pytest.mark.parametrize("name", ["rectangles", "convex"])
def test_shapes_need_no_mnist(monkeypatch, name):
    monkeypatch.setattr(made_data, "load_named", None)
    assert len(make_named(name, sizes=(20, 10, 20)).train) == 20
