"""The data that a saved stack was trained on."""

from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any

from dbn.columns import read_kinds
from dbn.config.common import OLDER, DataConfig
from dbn.data.datasets import load_splits
from dbn.data.splits import Splits
from dbn.errors import InputError, parsing
from dbn.models.dbn import DBN
from dbn.runs.folder import CONFIG, RunFolder
from dbn.runs.resume import split_of
from dbn.storage.files import corrupt_file

PATHS = ("data_dir", "test_file", "valid_file")


def splits_for(dataset: str | None, runs: Sequence[Path], **reading: Any) -> Splits:
    """The splits of a data set, or else of the first run; the data set of that run is cut as the run cut it.

    InputError as for `load_splits` and `splits_of`.
    """
    if dataset is None:
        return splits_of(runs[0], **reading)
    if reading["split"] is None and runs and (runs[0] / CONFIG).is_file():
        is_same = RunFolder(runs[0]).read_config().get("dataset") == dataset
        reading["split"] = split_of(runs[0]) if is_same else None
    return load_splits(dataset, **reading)


def splits_of(run: Path, **given: Any) -> Splits:
    """The splits that the stack in a run folder was pre-trained on; options of `load_splits` replace the run's own.

    InputError as for `load_splits`, for a stack that was trained on arrays from Python, and for a file that has
    changed since: pre-training may have learned from rows that would count as test rows.
    """
    folder = RunFolder.open(run)
    before, data = folder.read_config(), folder.data
    if before.get("dataset") is None and isinstance(stack := before.get("pretrained"), str):  # data of its stack
        own = {name: before[name] for name in DataConfig().reading() if before.get(name) is not None}
        paths = {name: Path(own[name]) for name in PATHS if name in own}
        return splits_of(Path(stack), **own | paths | {name: value for name, value in given.items() if value})
    if not isinstance(before.get("dataset"), str):
        raise InputError(
            f"{run} was trained on arrays in memory, which it does not keep: name the data with --dataset, or draw "
            "samples with --start noise"
        )
    known = {name: before.get(name, OLDER.get(name)) for name in DataConfig().reading()}
    for name in PATHS:
        value = known[name]
        known[name] = Path(value) if isinstance(value, str) and value else value or None
    numbers = ("image_size", "divisor")
    if not all(isinstance(value, str | Path | None) or name in numbers for name, value in known.items()):
        raise corrupt_file(run / CONFIG, "it does not say how its data are read")
    own = {name: value for name, value in given.items() if value is not None}
    with parsing(corrupt_file(run / CONFIG, "it does not say how its data are read")):
        stored = DataConfig(dataset=before["dataset"], **known)
        kinds = read_kinds(before["column_kinds"]) if "column_kinds" in before else None
    reading = {"kinds": kinds} | stored.reading() | own
    splits = load_splits(stored.dataset, **reading)
    same = all(reading[name] == value for name, value in stored.reading().items() if name != "data_dir")
    if data not in (None, splits.fingerprint) and same:
        raise InputError(
            f"{before['dataset']} holds other examples than {run} was pre-trained on: name the data with --dataset, or "
            "pre-train again"
        )
    return splits


def fingerprint(splits: Splits, stacks: Sequence[DBN]) -> str:
    """That of the splits without stacks; otherwise a hash of it and all weights."""
    if not stacks:
        return splits.fingerprint
    digest = blake2b(splits.fingerprint.encode(), digest_size=8)
    for stack in stacks:
        for name, tensor in stack.state_dict().items():
            digest.update(f"{name} {tuple(tensor.shape)}".encode())
            digest.update(tensor.detach().cpu().flatten().numpy().data)
    return digest.hexdigest()
