"""Readers of the user's own files."""

from pathlib import Path

from dbn.data.readers.csv import read_csv
from dbn.data.readers.numpy_files import read_numpy
from dbn.data.splits import Divisor, Splits, with_divisor
from dbn.errors import InputError

SUFFIXES = (".npz", ".npy", ".csv")


def read_table(path: Path, label_column: str | None = None, divisor: Divisor = None) -> Splits:
    """The rows in a `.npz` (`x`, and `y`, `x_test`, `y_test` where there are), `.npy` or `.csv` file, not cut.

    divisor: of the values, a number or "max", the greatest of the training values; by default see `Splits`.

    Raises:
        InputError: the file is not there, cannot be read, is damaged, or holds what `unsplit` refuses.
    """
    name = str(path)
    if path.exists() and not path.is_file():  # a pipe may never end
        raise InputError(f"{name} is {'a folder' if path.is_dir() else 'no file'}, but a file is needed")
    try:
        with path.open("rb") as file:
            is_csv = path.suffix.lower() == ".csv"
            splits = read_csv(file, name, label_column) if is_csv else read_numpy(file, name)
    except FileNotFoundError:
        raise InputError(f"{name} does not exist, check the path given to --dataset") from None
    except OSError as error:
        raise InputError(f"{name} cannot be read: {error.strerror or error}") from error
    return splits if divisor is None else with_divisor(splits, divisor)
