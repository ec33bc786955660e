"""Readers of the user's own files and folders."""

from collections.abc import Callable, Sequence
from os.path import expanduser
from pathlib import Path
from typing import Any

from dbn.columns import Kinds
from dbn.data.labels import coded
from dbn.data.marks import marked
from dbn.data.splits import Divisor, Reader, Splits, checked
from dbn.data.table import Table, joined
from dbn.errors import InputError
from dbn.registry import Registry

READERS: "Registry[Callable[..., Table]]" = Registry(
    "kind of file",
    {
        ".npz": "dbn.data.readers.numpy_files:read_numpy",
        ".npy": "dbn.data.readers.numpy_files:read_numpy",
        ".csv": "dbn.data.readers.csv:read_csv",
        ".tsv": "dbn.data.readers.csv:read_csv",
        ".csv.gz": "dbn.data.readers.csv:read_csv",
        ".tsv.gz": "dbn.data.readers.csv:read_csv",
        ".parquet": "dbn.data.readers.frames:read_frame",
        ".feather": "dbn.data.readers.frames:read_frame",
        ".arrow": "dbn.data.readers.frames:read_frame",
        ".pt": "dbn.data.readers.torch_files:read_torch",
        ".safetensors": "dbn.data.readers.torch_files:read_safetensors",
        "folder of shards": "dbn.data.readers.shards:read_shards",
        "folder of pictures": "dbn.data.readers.pictures:read_pictures",
        "folder of datasets.save_to_disk": "dbn.data.readers.frames:read_datasets",
    },
)
"""Functions of a path, and of those options that they take by name, that read the kind of file into a table."""

SHARDS = (".npy", ".parquet")
"""Of the files in a folder that are one data set together."""
SUFFIXES = ", ".join(kind for kind in READERS if kind.startswith("."))


def kind_of(path: Path) -> str:
    """The entry of `READERS` for a file or folder; "" where there is none."""
    if path.is_dir():
        if any((path / name).is_file() for name in ("dataset_dict.json", "state.json")):
            return "folder of datasets.save_to_disk"
        return "folder of shards" if any(each.suffix in SHARDS for each in path.iterdir()) else "folder of pictures"
    fitting = [kind for kind in READERS if kind.startswith(".") and path.name.lower().endswith(kind)]
    return max(fitting, key=len, default="")


def options_of(kind: str) -> set[str]:
    """The names of the options that the reader of a kind of file takes."""
    return set(READERS.parameters(kind)) - {"path", "needs_label"} if kind in READERS else set()


def read_table(
    path: Path,
    label_column: str | Sequence[str] | None = None,
    *,
    test_file: Path | None = None,
    valid_file: Path | None = None,
    unlabeled: str | float | None = None,
    needs_mark: bool = True,
    divisor: Divisor = None,
    read_labels: Reader = coded,
    kinds: Kinds | None = None,
    missing: bool = False,
    **options: Any,
) -> Splits:
    """The rows in a file, checked and not cut, with test and validation rows from files of their own.

    These have the same columns in any order; the test file may lack that of the labels.

    needs_mark: whether some row must have the label `unlabeled`.
    divisor: of the values, a number or "max", the greatest of the training values; by default see `Splits`.
    read_labels, missing: as for `unsplit`. kinds: of the columns of a table, which may hold text then; see
    `dbn.columns`.

    InputError as for `read` and `checked`.
    """
    options["label_column"] = label_column
    takes = options_of(kind_of(path))
    options |= {
        name: True for name, asked in (("cells", kinds is not None), ("empty", missing)) if asked & (name in takes)
    }
    tables = {"": read(path, **options)}
    if valid_file is not None:
        tables["_valid"] = read(own_path(valid_file), **options)
    if test_file is not None:
        tables["_test"] = read(own_path(test_file), needs_label=False, **options)
    splits = checked(joined(tables) if len(tables) > 1 else tables[""], divisor, read_labels, kinds, missing=missing)
    return splits if unlabeled is None else marked(splits, unlabeled, needed=needs_mark)


def own_path(path: Path | str) -> Path:
    """The path with the user's folder for ~; as it is, where there is no such user."""
    return Path(expanduser(path))


def read(path: Path, *, needs_label: bool = True, **options: Any) -> Table:
    """The rows in a file; options that are None are left out.

    Raises:
        InputError: the file is not there, cannot be read or is damaged, or its reader does not take an option.
    """
    kind, given = kind_of(path), {name: value for name, value in options.items() if value is not None}
    if path.exists() and not path.is_file() and not path.is_dir():  # a pipe may never end
        raise InputError(f"{path} is neither a file nor a folder: name one")
    if kind not in READERS:
        raise InputError(f"{path}: files must end in {SUFFIXES}")
    for name in given:
        if name not in options_of(kind):
            kinds = [each for each in READERS if name in options_of(each)]
            raise InputError(f"--{name.replace('_', '-')} is for {', '.join(kinds)} only, leave it out with {path}")
    if not needs_label and "needs_label" in READERS.parameters(kind):
        given["needs_label"] = False
    try:
        return READERS[kind](path, **given)
    except FileNotFoundError:
        raise InputError(f"{path} does not exist, check the path") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from error
