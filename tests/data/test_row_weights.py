"""Weights of rows in files and beside arrays: read, checked, and no column of the data."""

import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pyarrow
import pytest
import torch
from pyarrow import parquet
from safetensors.numpy import save_file

from dbn.data.cut import splits_from_arrays
from dbn.data.datasets import load_splits
from dbn.data.readers import read_table
from dbn.data.splits import Splits, checked, unsplit
from dbn.data.table import joined, table_of
from dbn.errors import InputError

N = 12
WEIGHTS = np.array([0.5, 2, 1, 3, 1, 1, 4, 1, 1, 7, 1, 1.25])
FRAME = pandas.DataFrame({"a": np.arange(N) % 3 + 0.5, "w": WEIGHTS, "b": np.arange(N) % 2, "y": np.arange(N) % 2 > 0})
ARRAYS = {"x": FRAME[["a", "b"]].to_numpy(np.float32), "y": np.arange(N) % 2, "w": WEIGHTS}


def save(folder: Path, kind: str, frame: pandas.DataFrame = FRAME, name: str = "t") -> Path:
    path = folder / f"{name}{kind}"
    if kind in (".csv", ".tsv"):
        frame.to_csv(path, index=False, sep="\t" if kind == ".tsv" else ",")
    elif kind in (".parquet", "shards"):
        path = path / "1.parquet" if kind == "shards" else path
        path.parent.mkdir(exist_ok=True)
        parquet.write_table(pyarrow.Table.from_pandas(frame), path)
        path = path.parent if kind == "shards" else path
    elif kind == ".npz":
        np.savez(path, **ARRAYS)  # type: ignore[arg-type]
    elif kind == ".pt":
        torch.save({key: torch.from_numpy(each) for key, each in ARRAYS.items()}, path)
    else:
        save_file({key: np.ascontiguousarray(each) for key, each in ARRAYS.items()}, path)
    return path


@pytest.mark.parametrize("kind", [".csv", ".tsv", ".parquet", "shards", ".npz", ".pt", ".safetensors"])
def test_files_hold_weights_beside_rows_and_labels(kind: str, tmp_path: Path) -> None:
    named = kind in (".csv", ".tsv", ".parquet", "shards")
    columns = {"label_column": "y"} if named else {}
    found = read_table(save(tmp_path, kind), weight_column="w", **columns)  # type: ignore[arg-type]
    assert found.train.weights is not None
    assert found.train.weights.equal(torch.from_numpy(WEIGHTS))
    assert found.train.tensor.float().tolist() == ARRAYS["x"].tolist()
    assert found.train.y is not None
    assert found.train.y.tolist() == ARRAYS["y"].tolist()
    assert found.columns == (("a", "b") if named else ())
    assert found.weight_column == "w"


def test_arrays_of_other_parts_have_weights_of_their_own(tmp_path: Path) -> None:
    more = {"x_valid": ARRAYS["x"][:3], "w_valid": WEIGHTS[:3], "x_test": ARRAYS["x"], "test_w": WEIGHTS + 1}
    np.savez(tmp_path / "t.npz", x=ARRAYS["x"], w=WEIGHTS, **more)
    found = read_table(tmp_path / "t.npz", weight_column="w")
    assert [None if part.weights is None else part.weights.tolist() for part in found.parts.values()] == [
        WEIGHTS.tolist(), WEIGHTS[:3].tolist(), (WEIGHTS + 1).tolist()
    ]  # fmt: skip
    del more["w_valid"]
    np.savez(tmp_path / "t.npz", x=ARRAYS["x"], w=WEIGHTS, **more)
    with pytest.raises(InputError, match="there is no 'w_valid', but other rows have weights: give both or neither"):
        read_table(tmp_path / "t.npz", weight_column="w")


def test_test_files_may_lack_weights(tmp_path: Path) -> None:
    file, other = save(tmp_path, ".csv"), save(tmp_path, ".csv", FRAME.drop(columns=["w", "y"]), "other")
    found = read_table(file, "y", test_file=other, weight_column="w")
    assert found.test is not None
    assert found.test.weights is None
    with pytest.raises(InputError, match=r"other.csv: there is no column '[wy]', only 'a', 'b'"):
        read_table(file, "y", valid_file=other, weight_column="w")


def changed(row: int, cell: Any) -> pandas.DataFrame:
    return FRAME.assign(w=[cell if place == row else each for place, each in enumerate(WEIGHTS)])


BAD = {"-1": -1, "inf": np.inf, "nothing": None, "'many'": "many"}


@pytest.mark.parametrize("shown", BAD)
def test_a_weight_that_is_none_is_named_with_its_row(shown: str, tmp_path: Path) -> None:
    wrong = changed(4, BAD[shown])
    sentence = f"holds {shown}, but weights are numbers of at least 0: correct it, or leave the row out"
    with pytest.raises(InputError, match=f"t.csv, line 6, column 'w' {sentence}$"):
        read_table(save(tmp_path, ".csv", wrong), "y", weight_column="w")
    with pytest.raises(InputError, match=rf"^sample_weight, row 4 \(counted from 0\), {sentence}$"):
        unsplit("x", ARRAYS["x"], sample_weight=wrong["w"].tolist())
    if shown != "'many'":
        with pytest.raises(InputError, match=rf"t.parquet, row 4 \(counted from 0\), column 'w' {sentence}$"):
            read_table(save(tmp_path, ".parquet", wrong), "y", weight_column="w")
        with pytest.raises(InputError, match=rf"^x: w, row 4 \(counted from 0\), {sentence}$"):
            unsplit("x", wrong, "y", sample_weight="w")


@pytest.mark.parametrize(
    ("weights", "sentence"),
    [
        (WEIGHTS[1:], r"sample_weight has shape \(11,\), but one weight a row is needed, which is \(12,\)"),
        (0 * WEIGHTS, "sample_weight is 0 in every row, so that none counts: give some rows a weight above 0"),
        ("w", "sample_weight='w' names a column, but x is no frame: give the weights themselves"),
    ],
)
def test_weights_that_cannot_be_used(weights: Any, sentence: str) -> None:
    with pytest.raises(InputError, match=f"^{sentence}$"):
        unsplit("x", ARRAYS["x"], sample_weight=weights)


@pytest.mark.parametrize(
    ("kind", "options", "sentence"),
    [
        (".csv", {"weight_column": "v"}, "t.csv: there is no column 'v', only 'a', 'w', 'b', 'y'"),
        (".csv", {"weight_column": "y", "label_column": "y"}, "the column 'y' cannot hold labels and weights"),
        (".parquet", {"weight_column": "v"}, "t.parquet: there is no column 'v'"),
        ("shards", {"weight_column": "v"}, "there is no column 'v'"),
        (".npz", {"weight_column": "v"}, "t.npz: there is no array 'v' of weights, only 'x', 'y', 'w'"),
    ],
)
def test_columns_that_are_not_there(kind: str, options: dict[str, Any], sentence: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=sentence):
        read_table(save(tmp_path, kind), **options)


def test_data_without_columns_take_none(tmp_path: Path) -> None:
    np.save(tmp_path / "t.npy", ARRAYS["x"])
    with pytest.raises(InputError, match=r"--weight-column is for files of several arrays, and .*t.npy holds one"):
        read_table(tmp_path / "t.npy", weight_column="w")
    with pytest.raises(InputError, match="--weight-column is for files only, leave it out with mnist-10k"):
        load_splits("mnist-10k", weight_column="w")


def all_weights(splits: Splits) -> dict[float, float]:
    """By the first value of the row."""
    pairs: dict[float, float] = {}
    for part in splits.parts.values():
        assert part.weights is not None
        pairs |= dict(zip(part.tensor[:, 0].tolist(), part.weights.tolist(), strict=True))
    return pairs


def test_a_cut_keeps_each_weight_with_its_row() -> None:
    x = np.arange(40.0).reshape(40, 1)
    splits = splits_from_arrays(x, np.arange(40) % 2, cut_test=True, sample_weight=np.arange(40))
    assert all_weights(splits) == {float(row): float(row) for row in range(1, 40)}  # without that of weight 0
    assert sorted(map(len, splits.parts.values())) == [3, 8, 28]


@pytest.mark.parametrize("scale", [1e300, 1e-300])
def test_weights_of_any_scale_have_finite_sums(scale: float) -> None:
    weights = unsplit("x", ARRAYS["x"], sample_weight=WEIGHTS * scale).train.weights
    assert weights is not None
    assert (weights / weights.mean()).numpy() == pytest.approx(WEIGHTS / WEIGHTS.mean())


def test_examples_keep_their_weights_on_the_cpu() -> None:
    train = unsplit("x", ARRAYS["x"], sample_weight=WEIGHTS).train
    moved = train.to("meta")
    assert moved.x.device.type == "meta"
    assert moved.weights is train.weights
    assert moved.weights is not None
    some = train[torch.tensor([3, 1])].weights
    assert some is not None
    assert some.tolist() == WEIGHTS[[3, 1]].tolist()


def test_weights_are_part_of_the_fingerprint() -> None:
    plain, one, other = (
        splits_from_arrays(ARRAYS["x"], sample_weight=weights).fingerprint for weights in (None, WEIGHTS, WEIGHTS[::-1])
    )
    assert len({plain, one, other}) == 3


@pytest.mark.parametrize("join", [False, True])
def test_places_for_errors_do_not_keep_the_rows_as_they_were_read(join: bool) -> None:
    x = np.eye(12)
    table, gone = table_of("file", {"x": x, "w": np.ones(12)}), weakref.ref(x)
    splits = checked(joined({"": table, "_test": table_of("other", {"x": np.eye(12)})}) if join else table)
    del table, x
    assert gone() is None
    assert splits.train.where(3, 1).startswith("file: x, row 3")
