"""Tables with typed columns, by pyarrow: Parquet, Feather and Arrow files, and folders of Hugging Face's `datasets`."""

import json
from collections.abc import Sequence
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from dbn.arrays import as_array, as_cells, columns_of
from dbn.data.objects import as_labels
from dbn.data.readers.array_names import PARTS
from dbn.data.readers.pictures import pixels
from dbn.data.table import Table, beside, in_order, label_places, table_of, weight_places
from dbn.errors import InputError, listed, parsing

DICT, STATE, INFO = "dataset_dict.json", "state.json", "dataset_info.json"

SMALL = 1 << 30
"""Bytes of a file that memory cannot lack for, unless it is damaged."""


def read_frame(
    path: Path,
    label_column: str | Sequence[str] | None = None,
    needs_label: bool = True,
    cells: bool = False,
    weight_column: str | None = None,
) -> Table:
    """The columns of a Parquet, Feather or Arrow file; all but `label_column` hold numbers or booleans.

    With `cells` they may hold text too.
    """
    return _table(str(path), _read(path), label_column, needs_label, weight_column, cells=cells)


def _read(path: Path) -> Any:
    """An Arrow table, without the row labels that pandas adds."""
    pyarrow = import_pyarrow()
    path.open("rb").close()  # OSError where it cannot be read
    refusal = InputError(f"{path} is damaged or no {path.suffix} file: take another copy or save it again")
    try:
        with parsing(refusal):
            if path.suffix.lower() == ".parquet":
                table = pyarrow.parquet.ParquetFile(path).read()
            else:
                with pyarrow.memory_map(str(path)) as source:
                    is_file = source.read(6) == b"ARROW1"
                    source.seek(0)
                    table = (pyarrow.ipc.open_file if is_file else pyarrow.ipc.open_stream)(source).read_all()
            table.validate(full=True)  # Arrow trusts the places within a file
    except pyarrow.ArrowMemoryError as error:
        if path.stat().st_size > SMALL:
            raise
        raise refusal from error
    return table.drop_columns([name for name in table.column_names if name.startswith("__index_level_")])


def _table(
    name: str,
    frame: Any,
    label_column: str | Sequence[str] | None,
    needs_label: bool = True,
    weight_column: str | None = None,
    *,
    cells: bool = False,
) -> Table:
    places = label_places(name, frame.column_names, label_column, needs_label)
    targets = tuple(frame.column_names[place] for place in places)
    arrays = {}
    if weight_places(name, frame.column_names, weight_column, places, needs_label):
        arrays["w"] = as_labels(frame.column(weight_column), f"{name}, column {weight_column!r}")
        frame = frame.drop_columns([weight_column])
    if places:
        found = [as_labels(frame.column(each), f"{name}, column {each!r}") for each in targets]
        arrays["y"] = beside(found)
        frame = frame.drop_columns(list(targets))
    called: dict[str, Any] = {"weight_column": weight_column or ""}
    if frame.num_columns == 1 and import_pyarrow().types.is_nested(frame.schema.types[0]):  # a list a row
        return table_of(name, arrays | {"x": as_array(frame.column(0).to_pylist(), name)}, targets=targets, **called)
    columns = columns_of(frame)
    arrays["x"] = as_cells(frame, name) if cells else as_array(frame, name)
    return table_of(
        name,
        arrays,
        columns=columns,
        targets=targets,
        place=lambda part, row: f"{name}, row {row} (counted from 0)",
        **called,
    )


def import_pyarrow() -> Any:
    """pyarrow; InputError where it is missing."""
    try:
        import pyarrow
        import pyarrow.ipc
        import pyarrow.parquet
    except ImportError as error:
        raise InputError("this kind of file needs pyarrow: pip install 'torch-dbn[tables]'") from error
    return pyarrow


def read_datasets(
    path: Path,
    label_column: str | Sequence[str] | None = None,
    image_size: Sequence[int] | None = None,
    colors: str | None = None,
    weight_column: str | None = None,
) -> Table:
    """A folder that `Dataset.save_to_disk` or `DatasetDict.save_to_disk` wrote.

    It holds a column of pictures, one of equal lists of numbers, or columns of numbers. Labels are the column of
    classes, unless `label_column` names another.
    """
    splits = _json(path / DICT)["splits"] if (path / DICT).is_file() else [""]
    if "" not in splits and "train" not in splits:
        raise InputError(f"{path} has no split 'train', only {', '.join(splits)}: name the folder of one of them")
    arrays: dict[str, Any] = {}
    columns, first = None, path
    for split in splits:
        if split and split not in PARTS:
            raise InputError(f"{path} has a split {split!r}, but train, validation and test are known: remove it")
        part = PARTS.get(split, "")
        table = _split(path / split, label_column, image_size, colors, weight_column)
        columns, first = (table.columns, path / split) if columns is None else (columns, first)
        targets = table.targets
        arrays[f"x{part}"] = in_order(table.x[""], table.columns, table.name, str(first), columns)
        arrays |= {f"y{part}": y for y in table.y.values()} | {f"w{part}": w for w in table.weights.values()}
    called = {"targets": targets, "weight_column": weight_column or ""}
    return table_of(str(path), arrays, columns=columns or (), divisor=table.divisor, **called)


def _split(
    folder: Path,
    label_column: str | Sequence[str] | None,
    size: Sequence[int] | None,
    colors: str | None,
    weight_column: str | None,
) -> Table:
    name = str(folder)
    pyarrow = import_pyarrow()
    with parsing(InputError(f"{name} is damaged or no folder of datasets.save_to_disk: save it again")):
        features = _json(folder / INFO)["features"]
        files = [folder / Path(each["filename"]).name for each in _json(folder / STATE)["_data_files"]]
    frame = pyarrow.concat_tables([_read(file) for file in files])
    classes = [each for each, about in features.items() if about.get("_type") == "ClassLabel"]
    if label_column is None and len(classes) == 1:
        label_column = classes[0]
    images = [each for each, about in features.items() if about.get("_type") == "Image"]
    if images:
        kept = [images[0], *([label_column] if isinstance(label_column, str) else label_column or ())]
        kept += [weight_column] if weight_column else []
        if set(frame.column_names) != set(kept):
            raise InputError(
                f"{name} has the columns {listed(frame.column_names)}: keep one of pictures and the labels"
            )
        cells = frame.column(images[0]).to_pylist()
        places = [f"{name}, row {row} (counted from 0)" for row in range(len(cells))]
        sources = [BytesIO(each["bytes"]) if each and each["bytes"] else (each or {}).get("path") for each in cells]
        pictures = pixels(zip(places, sources, strict=True), size, colors)
        rest = frame.drop_columns(images[:1]).append_column("0", [list(range(len(cells)))])
        table = _table(name, rest, label_column, weight_column=weight_column)
        table = replace(table, x={"": pictures}, columns=(), divisor=255.0)
    else:
        table = _table(name, frame, label_column, weight_column=weight_column)
    names = features.get(label_column, {}).get("names") if isinstance(label_column, str) else None
    if not names:
        return table
    return replace(table, y={"": np.array([names[int(each)] if each >= 0 else None for each in table.y[""]], object)})


def _json(path: Path) -> Any:
    with parsing(InputError(f"{path} is damaged: save the data set again")):
        return json.loads(path.read_bytes())
