"""The user's own files: what is read, and a sentence for everything that cannot be used."""

import pickle

import numpy as np
import pytest

from dbn.data.datasets import load_splits
from dbn.errors import InputError

RNG = np.random.default_rng(0)


def csv_file(folder, text, name="data.csv"):
    path = folder / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return str(path)


ROWS = "".join(f"{n},{'ab'[n % 2]},{n / 8}\n" for n in range(20))


@pytest.mark.parametrize(
    "text",
    [
        "n,kind,part\n" + ROWS,
        "\ufeff" + ("n,kind,part\n" + ROWS).replace("\n", "\r\n"),
        '"n", "kind", "part"\n' + ROWS.replace(",", ", ") + "\n\n",
    ],
)
def test_csv(tmp_path, text):
    splits = load_splits(csv_file(tmp_path, text, "data.CSV"), label_column="kind")
    assert splits.classes == ("a", "b")
    assert [len(part) for part in (splits.train, splits.valid, splits.test)] == [14, 2, 4]
    for part in (splits.train, splits.valid, splits.test):
        for row, code in zip(part.x.tolist(), part.y.tolist(), strict=True):
            assert row[1] == row[0] / 8
            assert code == row[0] % 2


def test_csv_of_numbers_alone(tmp_path):
    path = csv_file(tmp_path, "0,1\n" + "".join(f"{n},{n % 2}.0\n" for n in range(20)))
    assert load_splits(path).train.x.shape == (18, 2)
    labeled = load_splits(path, label_column="1")
    assert labeled.classes == ("0", "1")
    assert labeled.train.y.tolist() == [n % 2 for n in labeled.train.x[:, 0].tolist()]


@pytest.mark.parametrize(("labels", "missing"), [("ab", ""), ("ab", " "), ("12", ""), ("12", "nan"), ("12", "-1")])
def test_csv_with_cells_of_labels_that_are_missing(tmp_path, labels, missing):
    rows = "".join(f"{n},{labels[n % 2] if n < 12 else missing}\n" for n in range(40))
    splits = load_splits(
        csv_file(tmp_path, "n,kind\n" + rows), label_column="kind", unlabeled="-1" if missing == "-1" else None
    )
    assert splits.classes == tuple(labels)
    for part in (splits.train, splits.valid, splits.test):
        assert part.y.tolist() == [n % 2 if n < 12 else -1 for n in part.x[:, 0].tolist()]
    assert [len(part.labeled()) for part in (splits.train, splits.valid, splits.test)] == [8, 2, 2]


GOOD = RNG.random((20, 3))
HALVES = np.arange(20) % 2


def with_value(value, row=3, column=2):
    x = GOOD.copy()
    x[row, column] = value
    return x


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"pictures": GOOD, "y": HALVES}, r"no array 'x', only 'pictures', 'y'"),
        ({"x": GOOD[:9]}, r"9 rows are too few"),
        ({"x": GOOD[:0]}, r"empty.*\(0, 3\)"),
        ({"x": GOOD[:, :0]}, r"empty.*\(20, 0\)"),
        ({"x": GOOD[:, 0]}, r"shape \(20,\), but \(rows, columns\)"),
        ({"x": np.float32(3)}, r"shape \(\)"),
        ({"x": np.zeros((20, 1, 1, 1, 1))}, r"shape \(20, 1, 1, 1, 1\)"),
        ({"x": GOOD.astype(str)}, r"<U\d+, but numbers"),
        ({"x": GOOD + 1j}, r"complex128, but numbers"),
        ({"x": GOOD.astype(object)}, r"Python objects.*never unpickled"),
        ({"x": with_value(np.nan)}, r"row 3, column 2 .* nan"),
        ({"x": with_value(-np.inf)}, r"row 3, column 2 .* -inf"),
        ({"x": with_value(1e39)}, r"row 3, column 2 .* inf as a 32-bit float"),
        ({"x": GOOD, "x_test": GOOD[:, :2]}, r"x_test has 2 columns but x has 3"),
        ({"x": GOOD, "x_test": GOOD[:0]}, r"x_test is empty"),
        ({"x": GOOD, "x_test": with_value(np.nan)}, r"x_test, row 3, column 2"),
        ({"x": GOOD.astype(np.uint8), "x_test": GOOD}, r"uint8 but x_test as float32"),
    ],
)
def test_arrays_that_cannot_be_used(tmp_path, arrays, words):
    path = str(tmp_path / "data.npz")
    np.savez(path, **arrays)
    with pytest.raises(InputError, match=words) as caught:
        load_splits(path)
    assert path in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "label_column", "words"),
    [
        ("", None, "is empty"),
        ("a,b\n", None, "no row below"),
        ("a,b\n1,2\n1,2,3\n", None, "line 3 has 3 cells but the header line has 2"),
        ("a,b\n1,2\n1\n", None, "line 3 has 1 cells"),
        ("a,b\n1,2\n\n1,2\n", None, "line 3 is empty"),
        ("a,b\n1,2\n1,x\n", None, "line 3, column 'b': 'x' is not a number: .*--label-column"),
        ("a,b\n1,2\n,2\n", None, "line 3, column 'a': the cell is empty: fill it in"),
        ("a,b\n1,2\n1_0,2\n", None, "line 3, column 'a': '1_0' is not a number"),
        ("a,b\nx,2\ny,z\n", "a", "line 3, column 'b': 'z' is not a number: .* leave the row or the column out$"),
        ("a,b\n1,2\n1,nan\n", None, "line 3, column 'b' is nan"),
        ("a,b\n1,2\n1,1e99\n", None, "line 3, column 'b' is inf"),
        ("a,b\n1,2\n", None, "1 rows are too few"),
        ("a,b\n1,2\n", "c", "no column 'c', only 'a', 'b'"),
        ("a\n1\n", "a", "no column beside"),
        ("a,b,a\n1,2,3\n", None, "two columns .* called 'a'"),
        (",a\n0,1\n", None, "column 1 has no name"),
        ("0.5,0.25\n1,2\n", None, "first line holds only numbers"),
        (b"a,b\n1,\xff\n", None, "not UTF-8"),
        (b"a,b\r1,2\r", None, "1 rows are too few"),
        ("a,b\n1," + "2" * 140_000 + "\n", None, "field larger than"),
    ],
)
def test_csv_that_cannot_be_used(tmp_path, text, label_column, words):
    path = csv_file(tmp_path, text)
    with pytest.raises(InputError, match=words) as caught:
        load_splits(path, label_column=label_column)
    assert path in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("suffix", ["npz", "npy"])
@pytest.mark.parametrize("kept", [0, 3, 200, 900])
def test_truncated_files(tmp_path, suffix, kept):
    path = tmp_path / f"data.{suffix}"
    (np.save if suffix == "npy" else np.savez)(path, np.zeros((20, 10)))
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(InputError, match="damaged"):
        load_splits(str(path))


def test_a_pickle_is_not_read(tmp_path):
    path = tmp_path / "data.npy"
    path.write_bytes(pickle.dumps({"x": 1}))
    with pytest.raises(InputError, match="damaged or not a NumPy file"):
        load_splits(str(path))


@pytest.mark.parametrize(
    ("dataset", "options", "words"),
    [
        ("nowhere.npz", {}, "nowhere.npz does not exist"),
        ("folder.csv", {}, "is a folder without pictures"),
        ("data.txt", {}, r"data.txt: files must end in .npz, .npy, .csv"),
        ("mnits", {}, "no data set 'mnits'.*did you mean 'mnist'"),
        ("CIFAR10", {}, "did you mean 'cifar10'"),
        ("zzz", {}, r"no data set 'zzz', nor .* file: choose from mnist-10k, .*"),
        ("mnist-10k", {"label_column": "y"}, "--label-column is for files"),
        ("x.npz", {"label_column": "y"}, "--label-column is for .csv, .tsv"),
    ],
)
def test_names_that_mean_nothing(tmp_path, monkeypatch, dataset, options, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(InputError, match=words):
        load_splits(dataset, **options)
