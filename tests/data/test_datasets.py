"""Splits by value: the shipped digits, files, labels drawn, and what is done to values."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from dbn.data.binarize import binarize
from dbn.data.cut import draw_labels, splits_from_arrays
from dbn.data.datasets import load_splits
from dbn.data.examples import Examples
from dbn.data.splits import Splits
from dbn.errors import InputError
from dbn.models.scaling import Scaling
from dbn.models.units import Bernoulli
from dbn.models.values import standardization
from dbn.pretraining.pretrain import check_range
from dbn.rng import stream

RNG = np.random.default_rng(0)


def numbered(n, width=3):
    """Rows that can be told apart: the first column counts."""
    x = RNG.random((n, width)).astype(np.float32)
    x[:, 0] = np.arange(n)
    return x


def saved(folder, **arrays):
    path = folder / "data.npz"
    np.savez(path, **arrays)
    return str(path)


def numbers_of(examples):
    return examples.x[:, 0].int().tolist()


def sizes(splits):
    return len(splits.train), len(splits.valid), len(splits.test)


@pytest.fixture(scope="module")
def digits():
    return load_splits("mnist-10k")


def test_shipped_digits(digits):
    assert sizes(digits) == (9000, 1000, 2000)
    assert torch.bincount(digits.valid.y).tolist() == [100] * 10
    assert (digits.divisor, digits.image_shape, digits.n_classes) == (255.0, (1, 28, 28), 10)
    assert digits.classes == tuple("0123456789")
    assert digits.train.x.dtype == torch.uint8
    assert digits.describe() == (
        "mnist-10k: 9,000 training, 1,000 validation and 2,000 test examples of 784 values in 10 classes; "
        "bytes are divided by 255."
    )


def test_shipped_digits_are_fixed(digits):
    assert digits.fingerprint == "385609cff98103c9"


def test_shipped_digits_against_full_mnist(digits):
    raw = Path(os.environ.get("DBN_DATA", ""), "MNIST", "raw")
    if not (raw / "train-images-idx3-ubyte").is_file():
        pytest.skip("full MNIST is not in $DBN_DATA")
    train = np.fromfile(raw / "train-images-idx3-ubyte", np.uint8, 16 + 10_000 * 784)[16:].reshape(-1, 784)
    labels = np.fromfile(raw / "train-labels-idx1-ubyte", np.uint8, 8 + 10_000)[8:]
    test = np.fromfile(raw / "t10k-images-idx3-ubyte", np.uint8)[16:].reshape(-1, 784)
    test_labels = np.fromfile(raw / "t10k-labels-idx1-ubyte", np.uint8)[8:]
    chosen = np.r_[0:1000, 5000:6000]
    assert np.array_equal(digits.test.x, test[chosen])
    assert np.array_equal(digits.test.y, test_labels[chosen])
    here = [
        (row.tobytes(), label)
        for part in (digits.train, digits.valid)
        for row, label in zip(part.x.numpy(), part.y.tolist(), strict=True)
    ]
    assert sorted(here) == sorted((row.tobytes(), int(label)) for row, label in zip(train, labels, strict=True))


@pytest.mark.parametrize("labeled", [True, False])
@pytest.mark.parametrize("tested", [True, False])
def test_no_row_is_in_two_splits(tmp_path, labeled, tested):
    x, labels = numbered(300), np.arange(300) % 3
    arrays = {"x": x[:200], "x_test": x[200:]} if tested else {"x": x}
    if labeled:
        arrays |= {"y": labels[:200], "y_test": labels[200:]} if tested else {"y": labels}
    splits = load_splits(saved(tmp_path, **arrays))
    parts = [part for part in (splits.train, splits.valid, splits.test) if part is not None]
    rows = [number for part in parts for number in numbers_of(part)]
    assert sorted(rows) == list(range(300))
    assert [len(part) for part in parts] == ([180, 20, 100] if tested else [216, 24, 60] if labeled else [270, 30])
    assert splits.test_is_cut is (labeled and not tested)
    if tested:
        assert numbers_of(splits.test) == list(range(200, 300))
    for part in parts:
        assert np.array_equal(part.x, x[numbers_of(part)])
        if labeled:
            assert part.y.tolist() == [number % 3 for number in numbers_of(part)]
        else:
            assert part.y is None


@pytest.mark.parametrize(
    ("class_sizes", "test", "valid"),
    [
        ([50, 50], [10, 10], [4, 4]),
        ([30, 10], [6, 2], [2, 1]),
        ([60, 30, 10], [12, 6, 2], [5, 2, 1]),  # 8 of 48, 24 and 8: 4.8, 2.4 and 0.8
        ([90, 3], [18, 1], [7, 0]),  # a class of three gives one: two would be more than half
        ([90, 5], [18, 1], [6, 1]),  # 7 of 72 and 4 would be 6.6 and 0.4: one at least
        ([95, 1], [19, 0], [7, 0]),  # a single row stays in training
        ([4, 3, 3], [1, 1, 1], [1, 0, 0]),  # ten rows: a class gives half, where no other can
        ([5] * 20, [1] * 20, [1] * 20),  # more classes than a tenth of the rows
    ],
)
def test_sizes_of_splits_per_class(class_sizes, test, valid):
    check_sizes(class_sizes, test, valid, None)


@pytest.mark.parametrize(
    ("class_sizes", "test", "valid"),
    [
        ([30, 10], [6, 2], [2, 1]),  # the odd one to the larger class
        ([60, 30, 10], [12, 6, 2], [3, 3, 2]),
        ([90, 3], [18, 1], [6, 1]),  # a small class gives half of what it has left, the other the rest
        ([4, 3, 3], [1, 1, 1], [1, 0, 0]),
    ],
)
def test_sizes_of_balanced_splits_per_class(class_sizes, test, valid):
    check_sizes(class_sizes, test, valid, "balanced")


def check_sizes(class_sizes, test, valid, split):
    y = np.repeat(np.arange(len(class_sizes)), class_sizes)
    splits = splits_from_arrays(numbered(len(y)), y, cut_test=True, split=split)

    def counts(part):
        return torch.bincount(part.y, minlength=len(class_sizes)).tolist()

    assert (counts(splits.test), counts(splits.valid)) == (test, valid)
    assert (np.add(counts(splits.train), np.add(test, valid)) == class_sizes).all()
    assert min(counts(splits.train)) > 0


def test_arrays_with_test_rows_of_their_own(tmp_path):
    x, y = numbered(60), np.arange(60) % 3
    splits = splits_from_arrays(x[:40], y[:40], x[40:], torch.from_numpy(y[40:]), cut_test=True)
    assert (numbers_of(splits.test), splits.test.y.tolist()) == (list(range(40, 60)), y[40:].tolist())
    assert not splits.test_is_cut
    path = saved(tmp_path, x=x[:40], y=y[:40], x_test=x[40:], y_test=y[40:])
    assert splits.fingerprint == load_splits(path).fingerprint


def test_validation_has_at_most_5000_rows():
    splits = splits_from_arrays(np.zeros((60_000, 1), np.uint8), np.arange(60_000) % 7)
    assert (len(splits.train), len(splits.valid), splits.test) == (55_000, 5_000, None)
    assert torch.bincount(splits.valid.y).tolist() == [715, 715, 714, 714, 714, 714, 714]


def test_splits_depend_on_the_data_alone(tmp_path):
    x, y = numbered(100), np.arange(100) % 4
    path = saved(tmp_path, x=x, y=y)
    torch.manual_seed(1)
    first = load_splits(path)
    torch.manual_seed(2)
    second = load_splits(path)
    assert torch.equal(first.train.x, second.train.x)
    assert first.fingerprint == second.fingerprint
    assert numbers_of(first.valid) != sorted(numbers_of(first.train))[: len(first.valid)]
    changes = [(x + 1, y), (x, (y + 1) % 4), (x[:-1], y[:-1])]
    assert (
        len({first.fingerprint} | {splits_from_arrays(*change, cut_test=True).fingerprint for change in changes}) == 4
    )


@pytest.mark.parametrize(
    ("x", "dtype", "divisor", "image_shape"),
    [
        (RNG.integers(0, 256, (20, 6)).astype(np.uint8), torch.uint8, 255, None),
        (RNG.integers(0, 2, (20, 6)).astype(np.uint8), torch.uint8, 1, None),
        (RNG.integers(0, 2, (20, 6)).astype(bool), torch.uint8, 1, None),
        (RNG.integers(0, 2, (6, 20)).astype(bool).T, torch.uint8, 1, None),
        (RNG.integers(0, 256, (20, 2, 3)), torch.float32, 1, (1, 2, 3)),
        (RNG.normal(size=(20, 3, 2, 2)).astype(">f8"), torch.float32, 1, (3, 2, 2)),
        (RNG.normal(size=(20, 2, 2, 2)).astype(np.float16), torch.float32, 1, None),
    ],
)
def test_types_and_shapes(tmp_path, x, dtype, divisor, image_shape):
    path = tmp_path / "data.npy"
    np.save(path, x)
    splits = load_splits(str(path))
    assert (splits.train.x.dtype, splits.divisor, splits.image_shape) == (dtype, divisor, image_shape)
    assert (splits.classes, splits.n_classes) == ((), 0)
    got = torch.cat([splits.train.x, splits.valid.x]).double().numpy()
    wanted = x.reshape(20, -1).astype(np.float32).astype(np.float64)
    assert np.array_equal(got[np.lexsort(got.T)], wanted[np.lexsort(wanted.T)])


@pytest.mark.parametrize(
    ("labels", "classes"),
    [
        (np.arange(20) % 2 * 10 + 5, ("5", "15")),
        (np.arange(20) % 2 * -3.0, ("-3", "0")),
        (np.array(["dog", "cat"] * 10), ("cat", "dog")),
        (np.array([True, False] * 10), ("False", "True")),
    ],
)
def test_classes_are_sorted(labels, classes):
    splits = splits_from_arrays(numbered(20), labels)
    assert splits.classes == classes
    for part in (splits.train, splits.valid):
        assert [splits.classes[code] for code in part.y.tolist()] == [
            str(labels[n].astype(int) if labels.dtype.kind == "f" else labels[n]) for n in numbers_of(part)
        ]


def test_test_labels_are_indices_of_the_same_classes(tmp_path):
    labels = np.array([7, 3, 5] * 10)
    splits = load_splits(saved(tmp_path, x=numbered(30), y=labels, x_test=numbered(4), y_test=np.array([5, 3, 3, 7])))
    assert (splits.classes, splits.test.y.tolist()) == (("3", "5", "7"), [1, 0, 0, 2])


@pytest.mark.parametrize(("n_labels", "counts"), [(4, [1, 1, 1, 1]), (40, [10] * 4), (42, [10, 11, 11, 10])])
def test_labels_are_balanced(n_labels, counts):
    y = torch.cat([torch.arange(4).repeat(30), torch.tensor([1, 2])])[torch.randperm(122, generator=stream(0, "mix"))]
    drawn = draw_labels(y, n_labels, 4, stream(3, "labels"))
    assert len(set(drawn.tolist())) == n_labels
    assert torch.bincount(y[drawn]).tolist() == counts
    assert drawn.tolist() == draw_labels(y, n_labels, 4, stream(3, "labels")).tolist()
    assert drawn.tolist() != draw_labels(y, n_labels, 4, stream(4, "labels")).tolist()
    assert set(drawn.tolist()) <= set(draw_labels(y, n_labels + 9, 4, stream(3, "labels")).tolist())


@pytest.mark.parametrize(
    ("n_labels", "counts"),
    [(4, [1, 1, 1, 1]), (10, [5, 3, 1, 1]), (20, [11, 6, 2, 1]), (21, [12, 6, 2, 1]), (50, [30, 15, 4, 1])],
)
def test_labels_in_the_proportions_of_the_data(n_labels, counts):
    """Of 60, 30, 9 and 1 rows, each class gets one first; the next is of the class with the least (2n + 1) / size."""
    y = torch.repeat_interleave(torch.arange(4), torch.tensor([60, 30, 9, 1]))[torch.randperm(100)]
    drawn = draw_labels(y, n_labels, 4, stream(3, "labels"), balanced=False)
    assert torch.bincount(y[drawn]).tolist() == counts
    for more in range(n_labels, 101):
        assert set(drawn.tolist()) <= set(draw_labels(y, more, 4, stream(3, "labels"), balanced=False).tolist())


def test_every_example_is_drawn_equally_often():
    y = torch.tensor([0, 0, 0, 0, 1, 1, 1, 1])
    draws = 2000
    counts = torch.zeros(8)
    for seed in range(draws):
        counts[draw_labels(y, 2, 2, stream(seed, "labels"))] += 1
    deviation = (draws * 0.25 * 0.75) ** 0.5
    assert (counts - draws / 4).abs().max() < 4.5 * deviation


@pytest.mark.parametrize(
    ("n_labels", "words"),
    [
        (1, "1 is fewer than the 2 classes"),
        (10, "needs 5 examples of class 1 .* which has 3"),
        (99, "class 0 .* has 20"),
    ],
)
def test_labels_that_cannot_be_drawn(n_labels, words):
    with pytest.raises(InputError, match=words):
        draw_labels(torch.tensor([0] * 20 + [1] * 3), n_labels, 2, stream(0, "labels"))


def splits_of(train, divisor=1.0):
    part = Examples(torch.as_tensor(train), None)
    return Splits("made up", part, part, None, (), None, divisor)


@pytest.mark.parametrize("train", [[[0.0, 1.0]], [[0.5]], [[0.25, 0.75]]])
def test_values_for_bernoulli_units(train):
    check_range(splits_of(train), Bernoulli(1))


def test_bytes_for_bernoulli_units():
    check_range(splits_of(torch.tensor([[0, 255]], dtype=torch.uint8), 255.0), Bernoulli(1))
    with pytest.raises(InputError, match="from 0 to 2,"):
        check_range(splits_of(torch.tensor([[0, 2]], dtype=torch.uint8)), Bernoulli(1))


@pytest.mark.parametrize("train", [[[-0.5, 1.0]], [[0.0, 1.5]]])
def test_values_that_bernoulli_units_cannot_take(train):
    with pytest.raises(InputError, match=r"training values go from .*\(x \+ 1\)/2|--divisor 1.5.*--visible gaussian"):
        check_range(splits_of(train), Bernoulli(1))


@pytest.mark.parametrize("divisor", [255.0, 1.0])
def test_standardization(divisor):
    x = RNG.integers(0, 200, (10_000, 4)).astype(np.uint8)
    shift, scale = standardization(torch.from_numpy(x), divisor)
    values = x.astype(np.float64) / divisor
    assert torch.allclose(shift.double(), torch.from_numpy(values.mean(0)), rtol=1e-6)
    assert torch.allclose(scale.double(), torch.from_numpy(values.std(0)), rtol=1e-6)


@pytest.mark.parametrize(
    ("constant", "names", "words"),
    [
        ([2], "", "x: 1 column is constant in the training data and is 0 to the model: 3 (counted from 1)"),
        ([0, 7], "abcdefgh", "x: 2 columns are constant in the training data and are 0 to the model: 'a', 'h'"),
        (range(7), "", "x: 7 columns are constant in the training data and are 0 to the model: 1, 2, 3, 4, 5 and "
         "2 more (counted from 1)"),
    ],
)  # fmt: skip
def test_constant_columns_have_spread_1(constant, names, words):
    x = torch.rand(5000, 8, generator=stream(0, "values"))
    x[:, list(constant)] = 0.1
    scaling = Scaling.fitted(x, 1.0, tuple(names), standardized=True)
    assert scaling.constants("x") == words
    assert (scaling.spread[list(constant)] == 1).all()
    assert (scaling(x)[:, list(constant)] == 0).all()
    assert torch.allclose(scaling(x).std(0)[-1], torch.tensor(float(7 not in constant)), atol=1e-3)


def test_columns_that_are_all_constant_teach_nothing():
    with pytest.raises(InputError, match="every column is constant"):
        Scaling.fitted(torch.ones(20, 4), 1.0, standardized=True)


def test_binarize():
    x = torch.tensor([[0.0, 0.2, 0.5, 0.6, 1.0]])
    assert binarize(x, "none") is x
    assert binarize(x, "threshold").tolist() == [[0, 0, 0, 1, 1]]
    n = 20_000
    for how in ("sample", "fixed"):
        drawn = binarize(x.expand(n, 5), how, stream(0, how))
        assert set(drawn.unique().tolist()) == {0.0, 1.0}
        deviation = (x * (1 - x) / n).sqrt().squeeze()
        assert ((drawn.mean(0) - x[0]).abs() <= 4.5 * deviation).all()
    with pytest.raises(InputError, match="--binarize grey"):
        binarize(x, "grey")
