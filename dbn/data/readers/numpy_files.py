"""NumPy files, `.npz` and `.npy`."""

from pathlib import Path

from dbn.data.table import Table, table_of
from dbn.errors import InputError, listed
from dbn.storage.npz import read_arrays


def read_numpy(path: Path) -> Table:
    """The arrays of a `.npz` or `.npy` file."""
    with path.open("rb") as file:
        arrays, keys = read_arrays(file, ("x", "y", "x_test", "y_test"), str(path))
    if "x" not in arrays:
        raise InputError(f"{path}: there is no array 'x', only {listed(keys) or 'nothing at all'}")
    return table_of(str(path), arrays)
