"""Objects in memory as tables: arrays, frames, lists of rows, and torch's data sets."""

from collections.abc import Sequence
from typing import Any

import narwhals as nw
import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.utils import data as torch_data
from torch.utils.data._utils.collate import default_collate, default_convert

from dbn.arrays import as_array, as_cells, columns_of, frame_of, with_holes
from dbn.data.dataset_rows import DatasetRows
from dbn.data.row_sources import Source
from dbn.data.rows import Rows, fits
from dbn.data.table import Table, beside, in_order, table_of
from dbn.errors import InputError, listed


def as_table(
    name: str,
    x: Any,
    y: Any = None,
    x_test: Any = None,
    y_test: Any = None,
    *,
    cells: bool = False,
    sample_weight: Any = None,
    missing: bool = False,
) -> Table:
    """Rows and labels: arrays, tensors, frames, lists, and torch's data sets and loaders of those.

    Columns of frames keep their names, by which those of `x_test` are matched; `y` may be the name of one of them, or
    a list of names. A data set of rows, or of rows and targets, gives both. With `cells` the values stay what they are,
    text among them. `sample_weight` is (N,), or the name of a column of `x`, which the frame `x_test` may have too.

    missing: whether values may be; those of masked arrays become NaN.

    InputError for what `as_array` refuses, and for data sets of another kind.
    """
    if x is None:
        raise InputError(f"{name} is missing")
    if missing:
        x, x_test = with_holes(x), with_holes(x_test)
    arrays: dict[str, Any] = {}
    columns: dict[str, tuple[str, ...]] = {}
    targets: tuple[str, ...] = ()
    weight_column = sample_weight if isinstance(sample_weight, str) else ""
    if weight_column:
        x, arrays["w"] = without_weights(x, weight_column, "x")
        if columns_of(x_test) and weight_column in columns_of(x_test):
            x_test, arrays["w_test"] = without_weights(x_test, weight_column, "x_test")
    elif sample_weight is not None:
        arrays["w"] = as_labels(sample_weight, "sample_weight")
    named = _names_of_columns(x, y)
    for part, rows, labels in (("", x, named or y), ("_test", x_test, named or y_test)):
        key = f"x{part}"
        if rows is None:
            if labels is not None and not isinstance(labels, Names):
                arrays[f"y{part}"] = as_labels(labels, f"y{part}")
            continue
        rows, labels = _rows_and_labels(rows, labels, part)
        columns[key] = columns_of(rows)
        arrays[key] = as_cells(rows, key) if cells else as_numbers(rows, key)
        if labels is not None:
            names = _target_names(labels)
            targets = targets or names
            arrays[f"y{part}"] = as_labels(labels, f"y{part}")
            if len(targets) > 1:
                arrays[f"y{part}"] = in_order(arrays[f"y{part}"], names, f"y{part}", "y", targets)
    if "x_test" in arrays:
        arrays["x_test"] = in_order(arrays["x_test"], columns["x_test"], "x_test", "x", columns["x"])
    return table_of(name, arrays, columns=columns["x"], targets=targets, weight_column=weight_column)


def without_weights(x: Any, column: str, key: str) -> tuple[Any, NDArray]:
    """A frame without the column that holds the weights, and these."""
    frame = frame_of(x, key)
    if not isinstance(frame, nw.DataFrame):
        raise InputError(f"sample_weight={column!r} names a column, but {key} is no frame: give the weights themselves")
    if column not in frame.columns:
        raise InputError(f"{key} has no column {column!r}, only {listed(map(str, frame.columns))}")
    return frame.drop(column).to_native(), as_labels(frame[column].to_native(), column)


class Names(tuple[str, ...]):
    """The names of the columns of `x` that hold the labels."""


def _names_of_columns(x: Any, y: Any) -> Names | None:
    """Those that `y` gives, one or, where there are more rows than that, several of a frame's; None for labels."""
    if isinstance(y, str):
        return Names([y])
    if not isinstance(y, list | tuple) or not y or not all(isinstance(each, str) for each in y):
        return None
    frame = frame_of(x)
    is_named = isinstance(frame, nw.DataFrame) and len(frame) > len(y) and set(y) <= set(frame.columns)
    return Names(dict.fromkeys(y)) if is_named else None


def _target_names(labels: Any) -> tuple[str, ...]:
    """The names of the columns of a frame, or the name of a series; () for anything else."""
    frame = frame_of(labels)
    if isinstance(frame, nw.Series):
        return (frame.name,) if isinstance(frame.name, str) and frame.name else ()
    return columns_of(labels)


def as_numbers(values: Any, name: str = "x") -> Any:
    """As `as_array`; sources of rows, which may be on the disk, as they are."""
    return values if isinstance(values, Source | Rows) else as_array(values, name)


def as_labels(values: Any, name: str) -> NDArray:
    """As `as_array`; of objects, None for a missing one. `dbn.data.labels` says whether they are classes."""
    frame = frame_of(values, name)
    if isinstance(frame, nw.DataFrame) and len(frame.columns) > 1:  # without loss of digits
        return beside([as_labels(column.to_native(), name) for column in frame.iter_columns()])
    array = as_array(values, name)
    if array.dtype != object:
        return array
    cells = np.empty(array.size, object)
    cells[:] = [None if _is_missing(cell) else cell for cell in array.flat]
    return cells.reshape(array.shape)


def _is_missing(cell: Any) -> bool:
    return cell is None or type(cell).__name__ == "NAType" or (isinstance(cell, float) and cell != cell)


def _rows_and_labels(rows: Any, labels: Any, part: str) -> tuple[Any, Any]:
    """The rows of an object, and the labels that it holds or that were given beside it."""
    key = f"x{part}"
    if isinstance(rows, torch_data.DataLoader):
        rows = _data_set(rows, key)
    if isinstance(rows, torch_data.Dataset):
        rows, targets = _items(rows, key)
        if targets is not None and labels is not None:
            raise InputError(f"{key} is a data set with labels of its own, leave y{part} out")
        return rows, targets if labels is None else labels
    if not isinstance(labels, Names):
        return rows, labels
    frame = frame_of(rows, key)
    if not isinstance(frame, nw.DataFrame):
        raise InputError(f"y={labels[0]!r} names a column, but {key} is no frame: give the labels themselves")
    missing = [each for each in labels if each not in frame.columns]
    if missing:
        if part and len(missing) == len(labels):
            return rows, None
        raise InputError(f"{key} has no column {missing[0]!r}, only {listed(map(str, frame.columns))}")
    return frame.drop(list(labels)).to_native(), frame.select(list(labels)).to_native()


def _data_set(loader: "torch_data.DataLoader[Any]", key: str) -> Any:
    """The data set behind a loader that changes nothing but its order."""
    if loader.collate_fn not in (default_collate, default_convert):
        raise InputError(f"{key} is a DataLoader with a collate_fn of its own, give the arrays that it makes")
    if not isinstance(loader.sampler, torch_data.SequentialSampler | torch_data.RandomSampler):
        chosen = type(loader.sampler).__name__
        raise InputError(f"{key} is a DataLoader that chooses rows ({chosen}), give a torch.utils.data.Subset of them")
    return loader.dataset


def _items(dataset: Any, key: str) -> tuple[Any, Any]:
    """The rows of a torch data set with a length, and the targets where its items are pairs."""
    if isinstance(dataset, torch_data.IterableDataset) or not hasattr(dataset, "__len__"):
        raise InputError(f"{key} is a data set without places, give one with __len__ and __getitem__, or an array")
    if len(dataset) == 0:
        raise InputError(f"{key} is an empty data set")
    if type(dataset) is torch_data.TensorDataset:
        columns: Sequence[Any] = dataset.tensors
    elif _is_large(dataset, key):
        parts = len(dataset[0]) if isinstance(dataset[0], tuple | list) else 1
        _check_parts(parts, key)
        return DatasetRows(dataset), [dataset[place][1] for place in range(len(dataset))] if parts == 2 else None
    else:
        items = [dataset[place] for place in range(len(dataset))]
        if not isinstance(items[0], tuple | list):
            items = [(item,) for item in items]
        if len({len(item) if isinstance(item, tuple | list) else 0 for item in items}) > 1:
            raise InputError(
                f"the items of {key} are of different lengths, but rows, or pairs of row and target, are needed"
            )
        columns = list(zip(*items, strict=True))
    _check_parts(len(columns), key)
    x, y = columns[0], columns[1] if len(columns) == 2 else None
    return x if isinstance(x, Tensor) else _together(x, key), y if y is None or isinstance(y, Tensor) else list(y)


def _check_parts(parts: int, key: str) -> None:
    if parts > 2:
        raise InputError(f"the items of {key} have {parts} parts, but rows, or pairs of row and target, are needed")


def _is_large(dataset: Any, key: str) -> bool:
    """Whether the rows stay where they are, by the first of them."""
    first = dataset[0]
    row = as_array(first[0] if isinstance(first, tuple | list) and len(first) else first, f"{key}, row 0")
    return not fits(len(dataset) * row.size * (1 if row.dtype in (np.bool_, np.uint8) else 4))


def _together(rows: Sequence[Any], key: str) -> Any:
    """Rows of one shape as one array."""
    arrays = [as_array(row, f"{key}, row {place}") for place, row in enumerate(rows)]
    for place, array in enumerate(arrays):
        if array.shape != arrays[0].shape:
            raise InputError(
                f"{key}, row {place} (counted from 0) has shape {array.shape} but row 0 {arrays[0].shape}: bring all "
                "to one shape"
            )
    return np.stack(arrays)
