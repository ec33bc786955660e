"""The data that a saved stack was trained on."""

from pathlib import Path

from dbn.data.datasets import load_splits
from dbn.data.splits import Splits
from dbn.errors import InputError
from dbn.runs.folder import CONFIG, RunFolder
from dbn.storage.files import corrupt_file


def splits_of(run: Path, *, data_dir: Path | None = None, label_column: str | None = None) -> Splits:
    """The splits that the stack in a run folder was pre-trained on; the options replace the run's own.

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
    places = {name: before.get(name) for name in ("data_dir", "label_column")}
    if not all(isinstance(place, str | None) for place in places.values()):
        raise corrupt_file(run / CONFIG, "its data_dir or label_column is no text")
    splits = load_splits(
        before["dataset"],
        data_dir=data_dir or (Path(places["data_dir"]) if places["data_dir"] else None),
        label_column=label_column or places["label_column"],
    )
    if data not in (None, splits.fingerprint) and label_column in (None, places["label_column"]):
        raise InputError(
            f"{before['dataset']} holds other examples than {run} was pre-trained on: name the data with --dataset, or "
            "pre-train again"
        )
    return splits
