"""Data sets by name, and files.

Splits depend on the data alone, never on a run's seed: pre-training and fine-tuning cut the same rows. Bytes stay
bytes until a batch of them is used.
"""

from dataclasses import replace
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

from dbn.columns import Kinds
from dbn.data import DATASETS
from dbn.data.cut import Split, cut
from dbn.data.labels import coded
from dbn.data.readers import READERS, SUFFIXES, kind_of, own_path, read_table
from dbn.data.splits import Reader, Splits
from dbn.errors import InputError
from dbn.registry import suggestion


def load_splits(
    dataset: str,
    *,
    data_dir: Path | None = None,
    unlabeled: str | float | None = None,
    split: Split | None = None,
    read_labels: Reader = coded,
    kinds: Kinds | None = None,
    missing: bool = False,
    **reading: Any,
) -> Splits:
    """The splits of a named data set (`DATASETS`), or of a file (`READERS`); what it lacks is `cut`.

    `reading` are options of readers, such as `label_column`. `read_labels`, `kinds` (of the columns of a table) and
    `missing`: as for `unsplit`.

    Named sets of images are balanced by default.

    Raises:
        InputError: nothing of that name, no way to fetch it, or a file that cannot be used.

    >>> splits = load_splits("mnist-10k")
    >>> len(splits.train), len(splits.valid), len(splits.test)
    (9000, 1000, 2000)
    """
    if dataset in DATASETS:
        if kinds is not None:
            raise InputError(f"--visible auto is for files of tables, name the type of unit with {dataset}")
        if missing:
            raise InputError(f"--missing is for files and arrays, and {dataset} has no holes: leave it out")
        for option in (name for name, value in reading.items() if value is not None):
            raise InputError(f"--{option.replace('_', '-')} is for files only, leave it out with {dataset}")
        splits = DATASETS[dataset](dataset, data_dir)
    else:
        path = own_path(dataset)
        if kind_of(path) not in READERS:
            raise _unknown(dataset)
        splits = read_table(path, read_labels=read_labels, kinds=kinds, missing=missing, **reading)
    if split is None and dataset in DATASETS and splits.image_shape:
        split = "balanced"
    return cut(replace(splits, name=dataset), test=True, unlabeled=unlabeled, split=split)


def load_shipped(name: str, data_dir: Path | None = None) -> Splits:
    """A data set that is part of the package."""
    with as_file(files("dbn").joinpath("data", f"{name}.npz")) as path:
        return replace(read_table(path), name=name)


def _unknown(dataset: str) -> InputError:
    path = Path(dataset)
    if path.suffix or path.exists() or path.name != dataset:
        return InputError(f"{dataset}: files must end in {SUFFIXES}, and data sets are {', '.join(DATASETS)}")
    return InputError(f"there is no data set {dataset!r}, nor is it a {SUFFIXES} file{suggestion(dataset, DATASETS)}")
