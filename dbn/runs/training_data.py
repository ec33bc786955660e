"""The data that a saved stack was trained on."""

from pathlib import Path
from typing import Any

from dbn.config.common import DataConfig
from dbn.data.datasets import load_splits
from dbn.data.splits import Splits
from dbn.errors import InputError
from dbn.runs.folder import CONFIG, RunFolder
from dbn.storage.files import corrupt_file


def splits_of(run: Path, **given: Any) -> Splits:
    """The splits that the stack in a run folder was pre-trained on; options of `load_splits` replace the run's own.

    InputError as for `load_splits`, for a stack that was trained on arrays from Python, and for a file that has
    changed since: pre-training may have learned from rows that would count as test rows.
    """
    folder = RunFolder.open(run)
    before, data = folder.read_config(), folder.data
    if not isinstance(before.get("dataset"), str):
        raise InputError(
            f"{run} was trained on arrays in memory, which it does not keep: name the data with --dataset, or draw "
            "samples with --start noise"
        )
    known = {name: before.get(name) for name in DataConfig().reading()}
    if not all(isinstance(known[name], str | None) for name in known if name != "divisor"):
        raise corrupt_file(run / CONFIG, "it does not say how the data are read")
    known["data_dir"] = Path(known["data_dir"]) if known["data_dir"] else None
    stored = DataConfig(dataset=before["dataset"], **known)
    own = {name: value for name, value in given.items() if value is not None}
    reading = stored.reading() | own
    splits = load_splits(stored.dataset, **reading)
    same = all(reading[name] == value for name, value in stored.reading().items() if name != "data_dir")
    if data not in (None, splits.fingerprint) and same:
        raise InputError(
            f"{before['dataset']} holds other examples than {run} was pre-trained on: name the data with --dataset, or "
            "pre-train again"
        )
    return splits
