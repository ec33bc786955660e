"""Folders of `.npy` or Parquet files whose rows, in the order of the files' names, are one data set."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dbn.data.objects import as_labels
from dbn.data.row_sources import ArrayRows, JoinedRows, Source
from dbn.data.rows import in_place
from dbn.data.table import Table, beside, label_places, table_of, weight_places
from dbn.errors import InputError, listed
from dbn.storage.files import io_error
from dbn.storage.npz import read_arrays
from dbn.storage.row_file import RowFile

MOST_FILES = 500
"""Shards that are open at once."""


def read_shards(path: Path, label_column: str | Sequence[str] | None = None, weight_column: str | None = None) -> Table:
    """The rows of all shards of a folder; large ones stay on the disk.

    `.npy` shards are arrays of rows. Parquet shards are tables of numbers, of which `label_column` holds the labels and
    `weight_column` the weights; they are written to a temporary file once, since a table cannot be read row by row.

    InputError for shards of two kinds, of different shapes or types, or too many, and for tables with empty cells.
    """
    name = str(path)
    files = sorted(each for each in path.iterdir() if each.suffix.lower() in READERS)
    suffixes = sorted({each.suffix.lower() for each in files})
    if len(suffixes) > 1:
        raise InputError(f"{name} holds {listed(suffixes)} files: keep those of one kind in a folder")
    if len(files) > MOST_FILES:
        raise InputError(f"{name} holds {len(files):,} files, but at most {MOST_FILES} are read: join some of them")
    return READERS[suffixes[0]](name, files, label_column, weight_column)


def _read_npy(
    name: str, files: Sequence[Path], label_column: str | Sequence[str] | None, weight_column: str | None
) -> Table:
    for option, given in (("label", label_column), ("weight", weight_column)):
        if given is not None:
            raise InputError(f"--{option}-column is for tables, and {name} holds .npy files: leave it out")
    parts: list[Source] = []
    for path in files:
        try:
            with path.open("rb") as file:
                array = read_arrays(file, ("x",), str(path))[0]["x"]
        except OSError as error:
            raise io_error(path, "read", error) from error
        _check_like(path, array, files[0], parts)
        parts.append(in_place(array) or ArrayRows(array))
    return table_of(name, {"x": JoinedRows(parts)})


def _check_like(path: Path, array: NDArray, first: Path, parts: Sequence[Source]) -> None:
    if array.ndim < 2:
        raise InputError(f"{path} has shape {array.shape}, but a shard is an array of rows: (rows, columns)")
    if parts and (array.shape[1:], array.dtype) != (parts[0].shape[1:], parts[0].dtype):
        raise InputError(
            f"{path} holds rows of shape {array.shape[1:]} and type {array.dtype}, but {first} of "
            f"{parts[0].shape[1:]} and {parts[0].dtype}: save all alike"
        )


def _read_parquet(
    name: str, files: Sequence[Path], label_column: str | Sequence[str] | None, weight_column: str | None
) -> Table:
    try:
        from pyarrow import ArrowException, parquet
    except ImportError:
        raise InputError(f"{name} holds Parquet files, which pyarrow reads: pip install 'torch-dbn[tables]'") from None
    try:
        schema = parquet.read_schema(files[0])
        places = label_places(name, schema.names, label_column)
        weight_places(name, schema.names, weight_column, places)
        targets = [schema.names[place] for place in places]
        columns = [column for column in schema.names if column not in (*targets, weight_column)]
        n = sum(parquet.read_metadata(file).num_rows for file in files)
        as_bytes = all(str(schema.field(column).type) in ("uint8", "bool") for column in columns)
        rows = RowFile.temporary((n, len(columns)), np.uint8 if as_bytes else np.float32, None, f"the rows of {name}")
        labels: list[NDArray] = []
        weights: list[NDArray] = []
        start = 0
        for file in files:
            table = parquet.ParquetFile(file)
            if table.schema_arrow.names != schema.names:
                raise InputError(f"{file} has other columns than {files[0]}: save all alike")
            for batch in table.iter_batches():
                rows.put(start, _numbers(file, batch, columns, rows.dtype))
                if targets:
                    found = [batch.column(each).to_numpy(zero_copy_only=False) for each in targets]
                    labels.append(beside(found))
                if weight_column:
                    weights.append(batch.column(weight_column).to_numpy(zero_copy_only=False))
                start += len(batch)
    except (ArrowException, OSError) as error:
        raise InputError(f"{name} cannot be read as Parquet ({str(error).splitlines()[0]}): save it again") from error
    y = as_labels(np.concatenate(labels), f"{name}: y") if labels else None
    w = np.concatenate(weights) if weights else None
    called = {"columns": tuple(columns), "targets": tuple(targets), "weight_column": weight_column or ""}
    return table_of(name, {"x": rows, "y": y, "w": w}, **called)


def _numbers(file: Path, batch: Any, columns: Sequence[str], dtype: np.dtype) -> NDArray:
    """The columns of a part of a table, (n, V)."""
    out = np.empty((len(batch), len(columns)), dtype)
    for place, column in enumerate(columns):
        values = batch.column(column)
        if values.null_count:
            raise InputError(f"{file}, column {column!r} has empty cells: fill them in or leave out their rows")
        found = values.to_numpy(zero_copy_only=False)
        if found.dtype.kind not in "biuf":
            raise InputError(f"{file}, column {column!r} holds {values.type}, but numbers are needed")
        if dtype == np.uint8 and found.dtype not in (np.bool_, np.uint8):
            raise InputError(
                f"{file}, column {column!r} holds {values.type}, but the first file bytes: save all as the same type"
            )
        out[:, place] = found
    return out


READERS: dict[str, Callable[[str, Sequence[Path], str | Sequence[str] | None, str | None], Table]] = {
    ".npy": _read_npy,
    ".parquet": _read_parquet,
}
"""The kinds of shards."""
