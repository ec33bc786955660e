"""Objects in memory: each kind gives its rows, or a sentence; none is guessed at."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import scipy.sparse
import torch
from tiny import Items
from torch.utils.data import DataLoader, IterableDataset, Subset, TensorDataset

from dbn.data.cut import splits_from_arrays
from dbn.data.splits import unsplit
from dbn.errors import InputError

RNG = np.random.default_rng(0)
X = RNG.random((20, 3)).astype(np.float32)
Y = np.arange(20) % 2
T = torch.from_numpy(X)


class Stream(IterableDataset[Any]):
    def __iter__(self) -> Iterator[Any]:
        return iter(X)


ROWS = {
    "array": X,
    "float64": X.astype(np.float64),
    "big-endian": X.astype(">f4"),
    "columns first": np.asfortranarray(X),
    "tensor": T,
    "with gradient": T.clone().requires_grad_(),
    "list": X.tolist(),
    "tuple of lists": tuple(map(tuple, X.tolist())),
    "list of arrays": list(X),
    "list of tensors": list(T),
    "objects": X.astype(object),
    "masked without a mask": np.ma.MaskedArray(X),
    "csr": scipy.sparse.csr_array(X),
    "coo matrix": scipy.sparse.coo_matrix(X),
    "sparse tensor": T.to_sparse(),
    "data set of tensors": TensorDataset(T),
    "data set of rows": Items(list(X)),
    "loader": DataLoader(TensorDataset(T), batch_size=7, shuffle=True),
}


@pytest.mark.parametrize("kind", ROWS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rows_of_every_kind(kind: str, dtype: torch.dtype) -> None:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        read = unsplit("x", ROWS[kind])
    finally:
        torch.set_default_dtype(before)
    assert read.train.x.dtype == torch.float32
    assert np.array_equal(read.train.x, X)
    assert (read.train.y, read.columns) == (None, ())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_short_floats(dtype: torch.dtype) -> None:
    assert torch.equal(unsplit("x", T.to(dtype)).train.x, T.to(dtype).float())


LABELED = {
    "data set of tensors": TensorDataset(T, torch.from_numpy(Y)),
    "subset": Subset(TensorDataset(torch.cat([T, T]), torch.from_numpy(np.r_[Y, Y])), range(20)),
    "pairs": Items(list(zip(X, Y.tolist(), strict=True))),
    "loader": DataLoader(Items(list(zip(T, Y, strict=True))), batch_size=3),
}


@pytest.mark.parametrize("kind", LABELED)
def test_data_sets_of_pairs_give_rows_and_labels(kind: str) -> None:
    read = unsplit("x", LABELED[kind])
    assert read.train.y is not None
    assert np.array_equal(read.train.x, X)
    assert read.train.y.tolist() == Y.tolist()
    with pytest.raises(InputError, match="x is a data set with labels of its own, leave y out"):
        unsplit("x", LABELED[kind], Y)


@pytest.mark.parametrize(
    ("x", "words"),
    [
        (None, "x is missing"),
        ([[1.0, 2.0], [3.0]], "rows of equal length"),
        ([[1.0, None]] * 12, r"row 0, column 1 \(counted from 0\) is missing"),
        ([[1.0, "red"]] * 12, "holds <U"),
        ({"a": X}, "x is a dict, but an array"),
        ("data.csv", "x is a str, but an array"),
        ((row for row in X), "x is a generator"),
        (Stream(), "a data set without places"),
        (DataLoader(Stream()), "a data set without places|chooses rows"),
        (TensorDataset(T, T, T), "items of x have 3 parts"),
        (Items([{"a": 1}] * 12), "x, row 0 is a dict"),
        (Items([X[0], X[1, :2]] * 9), r"x, row 1 \(counted from 0\) has shape \(2,\) but row 0 \(3,\)"),
        (Items([(X[0], 1), (X[1], 1, 2)]), "different lengths"),
        (Items([]), "empty data set"),
        (DataLoader(TensorDataset(T), collate_fn=list), "collate_fn of its own"),
        (DataLoader(TensorDataset(T), sampler=torch.utils.data.SubsetRandomSampler(range(5))), "chooses rows"),
        (scipy.sparse.csr_array((10**6, 10**6)), r"would take 3725\.3 GiB"),
        (torch.sparse_coo_tensor(size=(10**6, 10**6), check_invariants=True), r"would take 3725\.3 GiB"),
        (torch.empty(20, 3, device="meta"), "values cannot be read"),
        (torch.nested.nested_tensor([T[0], T[1, :2]], layout=torch.jagged), "nested"),
        (X + 1j, "complex64, but numbers"),
    ],
)
def test_what_is_no_rows_of_numbers(x: Any, words: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        splits_from_arrays(x)
    assert "\n" not in str(caught.value)


def test_masked_entries_are_missing_values() -> None:
    mask = np.zeros((20, 3), bool)
    mask[4, 1] = mask[7, 2] = True
    with pytest.raises(InputError, match=r"x, row 4, column 1 .* is masked, as 2 of 60 entries are.*filled"):
        unsplit("x", np.ma.MaskedArray(X, mask))
    with pytest.raises(InputError, match=r"y, row 4 .* is masked"):
        unsplit("x", X, np.ma.MaskedArray(Y, mask[:, 1]))


def test_channels_last_are_brought_first() -> None:
    images = RNG.integers(0, 256, (20, 5, 4, 3), dtype=np.uint8)
    last, first = splits_from_arrays(images, x_test=images), splits_from_arrays(images.transpose(0, 3, 1, 2))
    assert last.image_shape == first.image_shape == (3, 5, 4)
    assert last.test is not None
    assert torch.equal(last.test.x, torch.from_numpy(images.transpose(0, 3, 1, 2).reshape(20, -1)))
    assert "were brought to channels first" in last.describe()
    assert "channels" not in first.describe()
    assert splits_from_arrays(images[..., :1]).image_shape == (1, 5, 4)
    assert splits_from_arrays(images[..., :2]).image_shape is None


def frames() -> dict[str, Any]:
    columns = {"a": X[:, 0], "b": X[:, 1] > 0.5, "c": Y, "kind": ["u", "v"] * 10}
    made: dict[str, Any] = {}
    for library in ("pandas", "polars", "pyarrow"):
        module = pytest.importorskip(library)
        made[library] = module.table(columns) if library == "pyarrow" else module.DataFrame(columns)
    pandas = pytest.importorskip("pandas")
    made["nullable"] = made["pandas"].astype({"b": "boolean", "c": "Int64", "kind": "string"})
    made["categories"] = made["pandas"].astype({"kind": "category"})
    assert isinstance(made["nullable"], pandas.DataFrame)
    return made


@pytest.mark.parametrize("kind", ["pandas", "polars", "pyarrow", "nullable", "categories"])
def test_frames(kind: str) -> None:
    frame = frames()[kind]
    read = unsplit("x", frame, "kind", frame)
    assert read.test is not None
    assert read.columns == ("a", "b", "c")
    assert read.classes == ("u", "v")
    for part in (read.train, read.test):
        assert part.y is not None
        assert np.array_equal(part.x, np.stack([X[:, 0], X[:, 1] > 0.5, Y], 1).astype(np.float32))
        assert part.y.tolist() == Y.tolist()


def test_columns_of_test_frames_are_matched_by_name() -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(X, columns=["a", "b", "c"])
    read = unsplit("x", frame, None, frame[["c", "a", "b"]])
    assert read.test is not None
    assert np.array_equal(read.test.x, X)
    with pytest.raises(InputError, match="x_test lacks the column 'b' that x has"):
        unsplit("x", frame, None, frame[["c", "a"]])
    with pytest.raises(InputError, match="x lacks the column 'd' that x_test has"):
        unsplit("x", frame, None, frame.assign(d=1))
    assert unsplit("x", pandas.DataFrame(X)).columns == ()
    assert unsplit("x", frame > 0.5).train.x.dtype == torch.uint8


def test_frames_that_cannot_be_used() -> None:
    pandas, polars = pytest.importorskip("pandas"), pytest.importorskip("polars")
    frame = pandas.DataFrame(X, columns=["a", "b", "c"])
    missing = pandas.array([True, None] * 10, dtype="boolean")
    for x, y, words in (
        (pandas.DataFrame(X, columns=["a", "b", "a"]), None, "x has two columns called 'a'"),
        (polars.DataFrame(X).lazy(), None, "x is a lazy frame.*collect"),
        (frame.assign(b=missing), None, r"row 1 .*, column 'b' is nan"),
        (polars.DataFrame({"a": [1, None] * 10, "b": [1] * 20}), None, r"row 1 .*, column 'a' is nan"),
        (frame.assign(b=["x"] * 20), None, r"column 'b' is 'x', which is not a number.*labels"),
        (frame.assign(b=pandas.Timestamp("2020-01-01")), None, r"column 'b' is '2020-01-01 00:00:00', which"),
        (frame, "kind", "x has no column 'kind', only 'a', 'b', 'c'"),
        (X, "kind", "y='kind' names a column, but x is no frame"),
        (frame["a"], None, r"shape \(20,\)"),
    ):
        with pytest.raises(InputError, match=words):
            unsplit("x", x, y)


def test_missing_labels_are_none_or_nan() -> None:
    from dbn.data.objects import as_labels

    pandas = pytest.importorskip("pandas")
    assert as_labels(["a", None], "y").tolist() == ["a", None]
    assert as_labels(pandas.Series(["a", None]), "y").tolist() == ["a", None]
    assert as_labels(pandas.Series(["a", None], dtype="string").to_numpy(object), "y").tolist() == ["a", None]
    assert as_labels([1, None], "y").tolist() == [1, None]
    for values in (pandas.array([1, None], dtype="Int64"), pandas.Series([1, None])):
        found = unsplit("x", X[:2], values)
        assert (found.classes, found.train.y.tolist()) == (("1",), [0, -1])
    assert as_labels(["a", "b"], "y").dtype.kind == "U"
