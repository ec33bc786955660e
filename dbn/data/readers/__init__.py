"""Readers of the user's own files."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from dbn.data.splits import Splits, checked
from dbn.data.table import Table
from dbn.errors import InputError
from dbn.registry import Registry

READERS: "Registry[Callable[..., Table]]" = Registry(
    "kind of file",
    {
        ".npz": "dbn.data.readers.numpy_files:read_numpy",
        ".npy": "dbn.data.readers.numpy_files:read_numpy",
        ".csv": "dbn.data.readers.csv:read_csv",
    },
)
"""Functions of a path, and of those options that they take by name, that read the kind of file into a table."""


def kind_of(path: Path) -> str:
    """The entry of `READERS` for a file."""
    return path.suffix.lower()


def options_of(path: Path) -> set[str]:
    """The names of the options that the reader of the file takes."""
    kind = kind_of(path)
    return set(READERS.parameters(kind)) - {"path"} if kind in READERS else set()


def read_table(path: Path, label_column: str | None = None, **options: Any) -> Splits:
    """The rows in a file, checked and not cut; InputError as for `read` and `checked`."""
    return checked(read(path, label_column=label_column, **options))


def read(path: Path, **options: Any) -> Table:
    """The rows in a file; options that are None are left out.

    Raises:
        InputError: the file is not there, cannot be read or is damaged, or its reader does not take an option.
    """
    kind, given = kind_of(path), {name: value for name, value in options.items() if value is not None}
    if path.exists() and not path.is_file():  # a pipe may never end
        raise InputError(f"{path} is {'a folder' if path.is_dir() else 'no file'}, but a file is needed")
    if kind not in READERS:
        raise InputError(f"{path}: files must end in {', '.join(READERS)}")
    for name in given:
        if name not in options_of(path):
            kinds = [each for each in READERS if name in READERS.parameters(each)]
            raise InputError(
                f"--{name.replace('_', '-')} is for {', '.join(kinds)} files only, leave it out with {path}"
            )
    try:
        return READERS[kind](path, **given)
    except FileNotFoundError:
        raise InputError(f"{path} does not exist, check the path given to --dataset") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from error
