"""Values by row, written as CSV or NumPy files."""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dbn.storage.files import atomic_write


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[Any]], digits: str) -> None:
    """A header and rows of text and floats, these in the format `digits`; atomically."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows([format(cell, digits) if isinstance(cell, float) else cell for cell in row] for row in rows)
    atomic_write(path, text.getvalue().encode())


def write_rows(path: Path, arrays: Mapping[str, NDArray]) -> None:
    """Arrays (N,) or (N, D) by name: as columns of a .csv file, a .npz file, or the one array of a .npy file.

    Columns of an array (N, D) are called NAME_1, …, NAME_D.
    """
    if path.suffix.lower() == ".csv":
        header = [
            each
            for name, array in arrays.items()
            for each in ([name] if array.ndim == 1 else [f"{name}_{n}" for n in range(1, array.shape[1] + 1)])
        ]
        columns = np.column_stack([array.astype(np.float64) for array in arrays.values()])
        write_csv(path, header, (row.tolist() for row in columns), ".9g")
        return
    content = io.BytesIO()
    if path.suffix.lower() == ".npy":
        (array,) = arrays.values()
        np.save(content, array)
    else:
        named: dict[str, Any] = dict(arrays)
        np.savez(content, **named)
    atomic_write(path, content.getvalue())
