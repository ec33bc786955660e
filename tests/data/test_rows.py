"""Rows that are not one tensor: what a tensor would give, without a copy of the rest."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny import Items
from torch.utils.data import IterableDataset, TensorDataset

from dbn.data import rows
from dbn.data.cut import splits_from_arrays
from dbn.data.dataset_rows import DatasetRows
from dbn.data.datasets import load_splits
from dbn.data.readers import read_table
from dbn.data.row_sources import ArrayRows, BitRows, JoinedRows
from dbn.data.rows import Rows
from dbn.data.splits import unsplit
from dbn.errors import InputError
from dbn.storage.row_file import RowFile

X = np.random.default_rng(0).normal(size=(60, 3, 4))
AS_TENSOR = torch.from_numpy(X.astype(np.float32)).flatten(1)


@pytest.fixture
def nothing_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "RESIDENT", 100)
    monkeypatch.setattr(rows, "PIECE", 500)
    monkeypatch.setattr("dbn.storage.npz.MAPPED", 100)
    monkeypatch.setattr("dbn.storage.row_file.ROOM", 0)


def test_rows_are_like_a_tensor() -> None:
    found = Rows(JoinedRows([ArrayRows(X[:10]), ArrayRows(X[10:11]), ArrayRows(np.asfortranarray(X[11:]))]))
    assert (found.shape, found.dtype, len(found), found.nbytes) == ((60, 12), torch.float32, 60, 60 * 12 * 4)
    some, mask = torch.tensor([59, 0, 10, 10]), AS_TENSOR[:, 0] > 0
    assert torch.equal(found[some], AS_TENSOR[some])
    assert torch.equal(found[mask], AS_TENSOR[mask])
    assert torch.equal(found[5:40:7], AS_TENSOR[5:40:7])
    assert found[:0].shape == (0, 12)
    chosen = found.choose(mask.nonzero().squeeze(1)).choose(torch.tensor([4, 2, 3]))
    assert torch.equal(chosen[:], AS_TENSOR[mask][[4, 2, 3]])
    parts = found.split(25)
    assert [len(part) for part in parts] == [25, 25, 10] == [len(part) for part in parts]
    assert torch.equal(torch.cat(list(parts)), AS_TENSOR)
    assert [end.item() for end in found.aminmax()] == [AS_TENSOR.min().item(), AS_TENSOR.max().item()]
    assert all(map(torch.equal, found.aminmax(dim=0), AS_TENSOR.aminmax(dim=0)))
    assert (found.aminmax().min, found.aminmax().max) == tuple(found.aminmax())


def test_bits() -> None:
    bits = X.reshape(60, 12) > 0
    found = Rows(BitRows(ArrayRows(np.packbits(bits, axis=1)), 12, 255))
    assert torch.equal(found[:], torch.from_numpy(bits * np.uint8(255)))


def test_large_rows_are_cut_without_a_copy(nothing_fits: None) -> None:
    x = np.zeros((600, 4), np.uint8)
    splits = splits_from_arrays(x, cut_test=True)
    assert isinstance(splits.train.x, Rows)
    x[:] = 9
    assert int(splits.train.x[:].sum()) == 9 * 4 * len(splits.train)
    assert splits.train.x.chosen is not None
    assert splits.train.x.chosen.dtype == torch.int32


def test_cuts_and_fingerprint_are_those_of_small_data(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = np.random.default_rng(1).random((400, 3), np.float32), np.arange(400) % 3
    for labels in (None, y):
        small = splits_from_arrays(x, labels, cut_test=True)
        with monkeypatch.context() as patch:
            patch.setattr(rows, "RESIDENT", 100)
            large = splits_from_arrays(x, labels, cut_test=True)
            assert small.fingerprint == large.fingerprint
            for part in ("train", "valid", *(["test"] if labels is not None else [])):
                assert torch.equal(getattr(small, part).x, getattr(large, part).tensor)


class Endless(IterableDataset):
    def __iter__(self) -> Any:
        return iter([1.0])


def test_a_data_set_gives_its_rows_without_labels() -> None:
    y = torch.arange(60)
    assert torch.equal(unsplit("x", TensorDataset(torch.from_numpy(X), y)).train.tensor, AS_TENSOR)
    images = unsplit("x", Items([(row.astype(np.uint8), 1) for row in X]))
    assert images.image_shape == (1, 3, 4)
    assert images.train.x.dtype == torch.uint8
    half = unsplit("x", Items(list(torch.from_numpy(X).bfloat16()))).train.tensor
    assert torch.equal(half, AS_TENSOR.bfloat16().float())


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (Endless(), "a data set without places, give one with __len__ and __getitem__"),
        (Items([]), "x is an empty data set"),
        (Items([{"image": 1}] * 20), "x, row 0 is a dict"),
        (Items([np.zeros(3)] * 5 + [np.zeros(4)] * 15), r"row 5 .* shape \(4,\) but row 0 \(3,\)"),
        (Items([np.zeros(3)] * 5 + [np.full(3, np.nan)] * 15), r"x, row 5, column 0 \(counted from 0\) is nan"),
    ],
)
def test_data_sets_that_are_refused(data: Any, words: str) -> None:
    with pytest.raises(InputError, match=words):
        unsplit("x", data)


def test_images_with_channels_last_and_columns_in_another_order_are_read_as_in_memory(nothing_fits: None) -> None:
    images = np.random.default_rng(2).integers(0, 256, (40, 6, 5, 3), dtype=np.uint8)
    images.flags.writeable = False  # which torch does not take, so that the rows stay where they are
    splits = unsplit("x", images)
    assert isinstance(splits.train.x, Rows)
    assert splits.image_shape == (3, 6, 5)
    assert splits.train.tensor.equal(torch.from_numpy(images.transpose(0, 3, 1, 2).reshape(40, -1)))
    order = [7, 0, 3]
    table = unsplit("x", np.asfortranarray(AS_TENSOR.numpy())).train
    assert isinstance(table.x, Rows)
    assert table.with_columns(order).tensor.equal(AS_TENSOR[:, order])


def test_a_large_data_set_stays_where_it_is_and_keeps_its_labels(nothing_fits: None) -> None:
    pairs = Items([(row, place % 3) for place, row in enumerate(X)])
    train = unsplit("x", pairs).train
    assert isinstance(train.x, Rows)
    assert isinstance(train.x.source, DatasetRows)
    assert train.y is not None
    assert (train.y.tolist(), train.tensor.equal(AS_TENSOR)) == ([place % 3 for place in range(60)], True)


def test_items_of_a_large_data_set_are_those_of_a_small_one(nothing_fits: None) -> None:
    read = unsplit("x", Items([[x, int(x[0, 0] > 0)] for x in X])).train
    assert isinstance(read.x, Rows)
    assert torch.equal(read.tensor, AS_TENSOR)
    assert read.y is not None
    with pytest.raises(InputError, match="the items of x have 3 parts"):
        unsplit("x", Items([(x, 0, 0) for x in X]))


def test_a_bad_value_on_the_disk_is_found(tmp_path: Path, nothing_fits: None) -> None:
    bad = X.copy()
    bad[57, 2, 1] = np.inf
    np.save(tmp_path / "x.npy", bad)
    with pytest.raises(InputError, match=r"x, row 57, column 9 \(counted from 0\) is inf"):
        load_splits(str(tmp_path / "x.npy"))


@pytest.mark.parametrize("view", [lambda x: x, lambda x: x[5:50:3], lambda x: x[:, 1:], lambda x: x[::-1]])
def test_views_of_a_mapped_file(tmp_path: Path, nothing_fits: None, view: Callable[[np.ndarray], np.ndarray]) -> None:
    np.save(tmp_path / "x.npy", X)
    mapped = view(np.load(tmp_path / "x.npy", mmap_mode="r"))
    found = unsplit("x", mapped).train.x
    assert isinstance(found, Rows)
    assert torch.equal(found[:], torch.from_numpy(view(X).astype(np.float32)).flatten(1))
    assert found.streamed is (mapped.strides[0] > 0)


def test_a_mapped_file_whose_name_is_another_file_by_now(tmp_path: Path, nothing_fits: None) -> None:
    np.save(tmp_path / "x.npy", X)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    np.save(tmp_path / "other.npy", X + 1)
    (tmp_path / "other.npy").replace(tmp_path / "x.npy")
    assert torch.equal(unsplit("x", mapped).train.tensor, AS_TENSOR)


def save(folder: Path, **arrays: Any) -> str:
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)
    return str(folder)


@pytest.mark.parametrize("large", [False, True])
def test_shards_are_joined_in_the_order_of_their_names(
    tmp_path: Path, large: bool, request: pytest.FixtureRequest
) -> None:
    if large:
        request.getfixturevalue("nothing_fits")
    name = save(tmp_path, c=X[40:], a=X[:10], b=X[10:40])
    (tmp_path / "README.txt").write_text("not rows")
    splits = load_splits(name)
    np.save(tmp_path.parent / "whole.npy", X)
    assert splits.fingerprint == load_splits(str(tmp_path.parent / "whole.npy")).fingerprint
    assert splits.image_shape == (1, 3, 4)
    assert isinstance(splits.train.x, Rows) is large


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"a": X, "b": X[:, :2]}, r"b.npy holds rows of shape \(2, 4\) and type float64, but .*a.npy of \(3, 4\)"),
        ({"a": X, "b": X.astype(np.uint8)}, r"b.npy holds rows of .* type uint8, but .*a.npy .* float64"),
        ({"a": X[:, 0, 0]}, r"a.npy has shape \(60,\), but a shard is an array of rows"),
        ({"a": X[:0]}, "is empty"),
        ({"a": np.array([{}, {}])}, "Python objects"),
    ],
)
def test_shards_that_are_refused(tmp_path: Path, arrays: dict[str, Any], words: str) -> None:
    if arrays["a"].dtype == object:
        np.save(tmp_path / "a.npy", arrays["a"], allow_pickle=True)
    else:
        save(tmp_path, **arrays)
    with pytest.raises(InputError, match=words):
        load_splits(str(tmp_path))


def test_shards_of_two_kinds_or_with_a_label_column(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = save(tmp_path, a=X, b=X)
    with pytest.raises(InputError, match=r"--label-column is for tables, and .* holds .npy files"):
        load_splits(name, label_column="y")
    monkeypatch.setattr("dbn.data.readers.shards.MOST_FILES", 1)
    with pytest.raises(InputError, match="holds 2 files, but at most 1 are read"):
        load_splits(name)
    (tmp_path / "c.parquet").touch()
    with pytest.raises(InputError, match=r"holds '.npy', '.parquet' files"):
        load_splits(name)


def test_parquet_shards_have_names_and_labels(tmp_path: Path) -> None:
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    kinds = np.array(["cat", "dog"])[np.arange(60) % 2]
    columns = {"kind": kinds, **{f"v{n}": AS_TENSOR[:, n].numpy() for n in range(12)}}
    for number, part in enumerate((slice(0, 35), slice(35, 60))):
        table = pyarrow.table({name: values[part] for name, values in columns.items()})
        parquet.write_table(table, tmp_path / f"{number}.parquet")
    found, expected = (
        load_splits(str(tmp_path), label_column="kind"),
        splits_from_arrays(AS_TENSOR, kinds, cut_test=True),
    )
    assert found.fingerprint == expected.fingerprint
    assert found.columns == tuple(f"v{n}" for n in range(12))
    with pytest.raises(InputError, match="column 'kind' holds string, but numbers are needed"):
        load_splits(str(tmp_path))
    with pytest.raises(InputError, match="there is no column 'class', only 'kind', 'v0'"):
        load_splits(str(tmp_path), label_column="class")
    parquet.write_table(
        pyarrow.table({"kind": ["cat"], **{f"v{n}": [None] for n in range(12)}}), tmp_path / "2.parquet"
    )
    with pytest.raises(InputError, match=r"2.parquet, column 'v0' has empty cells"):
        load_splits(str(tmp_path), label_column="kind")
    (tmp_path / "2.parquet").write_bytes(b"no table")
    with pytest.raises(InputError, match="cannot be read as Parquet"):
        load_splits(str(tmp_path), label_column="kind")


def test_parquet_shards_of_bytes_and_then_of_larger_numbers_are_refused(tmp_path: Path) -> None:
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    parquet.write_table(pyarrow.table({"a": pyarrow.array([1, 2], "uint8")}), tmp_path / "0.parquet")
    for kind in ("int64", "float32"):
        parquet.write_table(pyarrow.table({"a": pyarrow.array([300, 0], kind)}), tmp_path / "1.parquet")
        with pytest.raises(InputError, match=r"1.parquet, column 'a' holds (int64|float), but the first file bytes"):
            read_table(tmp_path)
    parquet.write_table(pyarrow.table({"a": pyarrow.array([True, False])}), tmp_path / "1.parquet")
    assert read_table(tmp_path).train.tensor.flatten().tolist() == [1, 2, 1, 0]


def test_parquet_without_its_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.parquet").touch()
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(InputError, match=r"pip install 'torch-dbn\[tables\]'"):
        load_splits(str(tmp_path))


def test_row_files_are_sources(tmp_path: Path) -> None:
    file = RowFile.temporary(X.shape, np.float64, tmp_path, "x")
    file.put(0, X)
    assert torch.equal(unsplit("x", file).train.tensor, AS_TENSOR)
