"""NumPy files, `.npz` and `.npy`."""

from typing import IO

from dbn.data.splits import Splits, unsplit
from dbn.errors import InputError, is_out_of_memory, listed
from dbn.storage.npz import HoldsObjects, read_arrays


def read_numpy(file: IO[bytes], name: str) -> Splits:
    """The arrays of an open `.npz` or `.npy` file."""
    try:
        arrays, keys = read_arrays(file, ("x", "y", "x_test", "y_test"))
    except HoldsObjects as error:
        raise InputError(
            f"{name} holds Python objects, which are never unpickled: save plain arrays of numbers (for labels, also "
            "of strings)"
        ) from error
    except InputError as error:
        raise InputError(f"{name}: {error}") from error
    except Exception as error:  # a damaged byte ends in zipfile, zlib, ast, a wrong length, …: many types
        if is_out_of_memory(error):
            raise
        raise InputError(
            f"{name} is damaged or not a NumPy file, save it anew with numpy.save or numpy.savez"
        ) from error
    if "x" not in arrays:
        raise InputError(f"{name}: there is no array 'x', only {listed(keys) or 'nothing at all'}")
    return unsplit(name, **arrays)
