"""Readers of the user's own files."""

from pathlib import Path

from dbn.data.readers.csv import read_csv
from dbn.data.readers.numpy_files import read_numpy
from dbn.data.readers.shards import is_shards, read_shards
from dbn.data.splits import Splits
from dbn.errors import InputError

SUFFIXES = (".npz", ".npy", ".csv")


def read_table(path: Path, label_column: str | None = None) -> Splits:
    """The rows in a `.npz` (`x`, and `y`, `x_test`, `y_test` where there are), `.npy` or `.csv` file, not cut.

    Raises:
        InputError: the file is not there, cannot be read, is damaged, or holds what `unsplit` refuses.
    """
    name = str(path)
    if is_shards(path):
        return read_shards(path, label_column)
    if path.exists() and not path.is_file():  # a pipe may never end
        raise InputError(f"{name} is {'a folder' if path.is_dir() else 'no file'}, but a file is needed")
    try:
        with path.open("rb") as file:
            if path.suffix.lower() == ".csv":
                return read_csv(file, name, label_column)
            return read_numpy(file, name)
    except FileNotFoundError:
        raise InputError(f"{name} does not exist, check the path given to --dataset") from None
    except OSError as error:
        raise InputError(f"{name} cannot be read: {error.strerror or error}") from error
