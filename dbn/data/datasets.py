"""Data sets by name, and files.

Splits depend on the data alone, never on a run's seed: pre-training and fine-tuning cut the same rows. Bytes stay
bytes until a batch of them is used.
"""

from dataclasses import replace
from importlib.resources import files
from os.path import expanduser
from pathlib import Path

from dbn.data import DATASETS
from dbn.data.cut import cut
from dbn.data.readers import SUFFIXES, read_table
from dbn.data.readers.numpy_files import read_numpy
from dbn.data.readers.shards import is_shards
from dbn.data.splits import Splits
from dbn.errors import InputError
from dbn.registry import suggestion


def load_splits(dataset: str, *, data_dir: Path | None = None, label_column: str | None = None) -> Splits:
    """The splits of a named data set (`DATASETS`), of a `.npz`, `.npy` or `.csv` file, or of a folder of shards.

    What they lack is `cut`.

    Raises:
        InputError: nothing of that name, no way to fetch it, or a file that cannot be used.

    >>> splits = load_splits("mnist-10k")
    >>> len(splits.train), len(splits.valid), len(splits.test)
    (9000, 1000, 2000)
    """
    suffix = Path(dataset).suffix.lower()
    folder = dataset not in DATASETS and is_shards(Path(expanduser(dataset)))
    if dataset not in DATASETS and suffix not in SUFFIXES and not folder:
        raise _unknown(dataset)
    if label_column is not None and not folder and (dataset in DATASETS or suffix != ".csv"):
        raise InputError(f"--label-column is for .csv files only, leave it out with {dataset}")
    if dataset in DATASETS:
        splits = DATASETS[dataset](dataset, data_dir)
    else:
        splits = read_table(Path(expanduser(dataset)), label_column)  # as it is, where there is no such user
    return cut(replace(splits, name=dataset), test=True)


def load_shipped(name: str, data_dir: Path | None = None) -> Splits:
    """A data set that is part of the package."""
    with files("dbn").joinpath("data", f"{name}.npz").open("rb") as file:
        return read_numpy(file, name)


def _unknown(dataset: str) -> InputError:
    path, suffixes = Path(dataset), ", ".join(SUFFIXES)
    if path.suffix or path.exists() or path.name != dataset:
        return InputError(f"{dataset}: files must end in {suffixes}, and data sets are {', '.join(DATASETS)}")
    return InputError(f"there is no data set {dataset!r}, nor is it a {suffixes} file{suggestion(dataset, DATASETS)}")
