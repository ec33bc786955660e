"""NumPy files, `.npz` and `.npy`."""

from typing import IO

from dbn.data.splits import Splits, unsplit
from dbn.errors import InputError, listed
from dbn.storage.npz import read_arrays


def read_numpy(file: IO[bytes], name: str) -> Splits:
    """The arrays of an open `.npz` or `.npy` file."""
    arrays, keys = read_arrays(file, ("x", "y", "x_test", "y_test"), name)
    if "x" not in arrays:
        raise InputError(f"{name}: there is no array 'x', only {listed(keys) or 'nothing at all'}")
    return unsplit(name, *map(arrays.get, ("x", "y", "x_test", "y_test")))  # type: ignore[arg-type]
