"""From a name or a file to training, validation and test examples.

Splits depend on the data alone, never on a run's seed: pre-training and fine-tuning cut the same rows. Bytes stay
bytes until a batch of them is used.
"""

from difflib import get_close_matches
from importlib.resources import files
from os.path import expanduser
from pathlib import Path

from dbn.data.larochelle import MADE, make_named
from dbn.data.mnist_lab import FAULTS
from dbn.data.readers import SUFFIXES, read_table
from dbn.data.readers.numpy_files import read_numpy
from dbn.data.splits import Splits, split_table
from dbn.data.torchvision_datasets import SOURCES, load_named
from dbn.errors import InputError

SHIPPED = "mnist-10k"


NAMES = (SHIPPED, *SOURCES, *MADE, *FAULTS)


def load_splits(dataset: str, *, data_dir: Path | None = None, label_column: str | None = None) -> Splits:
    """The splits of a named data set (`NAMES`), or of a `.npz`, `.npy` or `.csv` file.

    One tenth of the training rows, at most 5,000, is cut for validation, with equal numbers a class as far as half
    of each class goes; those of `made_data` have validation rows of their own. From a file without test rows, a fifth
    of every class is cut for testing before that.

    Raises:
        InputError: nothing of that name, no way to fetch it, or a file that cannot be used.
    """
    suffix = Path(dataset).suffix.lower()
    if dataset not in NAMES and suffix not in SUFFIXES:
        raise _unknown(dataset)
    if label_column is not None and (dataset in NAMES or suffix != ".csv"):
        raise InputError(f"--label-column is for .csv files only, leave it out with {dataset}")
    if dataset == SHIPPED:
        with files("dbn").joinpath("data", f"{SHIPPED}.npz").open("rb") as file:
            table = read_numpy(file, SHIPPED)
    elif dataset in SOURCES:
        table = load_named(dataset, data_dir)
    elif dataset in MADE:
        table = make_named(dataset, data_dir)
    elif dataset in FAULTS:
        table = FAULTS[dataset](load_named("mnist", data_dir))
    else:
        table = read_table(Path(expanduser(dataset)), label_column)  # as it is, where there is no such user
    return split_table(dataset, table, cut_test=True)


def _unknown(dataset: str) -> InputError:
    path = Path(dataset)
    if path.suffix or path.exists() or path.name != dataset:
        return InputError(f"{dataset}: files must end in {', '.join(SUFFIXES)}, and data sets are {', '.join(NAMES)}")
    near = get_close_matches(dataset.lower(), NAMES, n=1)
    hint = f", did you mean {near[0]}?" if near else ""
    return InputError(
        f"there is no data set {dataset!r} among {', '.join(NAMES)}, nor is it a {', '.join(SUFFIXES)} file{hint}"
    )
