"""The data that a saved stack was trained on."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from hashlib import blake2b
from pathlib import Path
from typing import Any

from dbn.columns import read_kinds
from dbn.config.common import OLDER, DataConfig
from dbn.data.datasets import load_splits
from dbn.data.examples import Examples
from dbn.data.splits import Splits
from dbn.errors import InputError, parsing
from dbn.models.dbn import DBN
from dbn.models.impute import as_given, filled_values, holes_of
from dbn.runs.folder import CONFIG, RunFolder
from dbn.runs.resume import split_of
from dbn.runs.weights import load
from dbn.storage.files import corrupt_file
from dbn.tasks import TASKS

PATHS = ("data_dir", "test_file", "valid_file")


def splits_for(dataset: str | None, runs: Sequence[Path], *, task: str | None = None, **reading: Any) -> Splits:
    """The splits of a data set, or else of the first run; the data set of that run is cut as the run cut it.

    task: what the labels are for, of `TASKS`; by default as in the run.

    InputError as for `load_splits` and `splits_of`.
    """
    if dataset is None:
        return splits_of(runs[0], task, **reading)
    before = RunFolder(runs[0]).read_config() if runs and (runs[0] / CONFIG).is_file() else {}
    is_same = bool(before) and before.get("dataset") == dataset
    if reading["split"] is None and is_same:
        reading["split"] = split_of(runs[0])
    if reading.get("weight_column") is None and is_same:
        reading["weight_column"] = before.get("weight_column")
    task = task or (str(before.get("task", "classify")) if is_same else "classify")
    return load_splits(dataset, read_labels=TASKS[task].read, **reading)


def splits_of(run: Path, task: str | None = None, **given: Any) -> Splits:
    """The splits that the stack in a run folder was pre-trained on; options of `load_splits` replace the run's own.

    Values that were missing in pre-training are filled in by the stack, with their means given the others.

    InputError as for `load_splits`, for a stack that was trained on arrays from Python, for a task that would set aside
    other rows, and for a file that has
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
    for_task = str(before.get("task", "classify"))
    if TASKS[task or for_task].read is not TASKS[for_task].read:
        raise InputError(
            f"{run} was pre-trained with --task {for_task}, on rows that may be test rows of --task {task}: pre-train "
            f"with --task {task}, or name other data with --dataset"
        )
    known = {name: before.get(name, OLDER.get(name)) for name in DataConfig().reading()}
    for name in PATHS:
        value = known[name]
        known[name] = Path(value) if isinstance(value, str) and value else value or None
    numbers = ("image_size", "divisor", "label_column")
    if not all(isinstance(value, str | Path | None) or name in numbers for name, value in known.items()):
        raise corrupt_file(run / CONFIG, "it does not say how its data are read")
    own = {name: value for name, value in given.items() if value is not None}
    with parsing(corrupt_file(run / CONFIG, "it does not say how its data are read")):
        stored = DataConfig(dataset=before["dataset"], **known)
        kinds = read_kinds(before["column_kinds"]) if "column_kinds" in before else None
    has_holes = before.get("missing", "refuse") != "refuse"
    reading = {"kinds": kinds} | ({"missing": True} if has_holes else {}) | stored.reading() | own
    splits = load_splits(stored.dataset, read_labels=TASKS[for_task].read, **reading)
    same = all(reading[name] == value for name, value in stored.reading().items() if name != "data_dir")
    if same and data is not None and _fingerprint_as_begun(before, splits) not in (None, data):
        raise InputError(
            f"{before['dataset']} holds other examples than {run} was pre-trained on: name the data with --dataset, or "
            "pre-train again"
        )
    return filled_in(splits, load(run)) if has_holes else splits


def _fingerprint_as_begun(before: Mapping[str, Any], splits: Splits) -> str | None:
    """With the weights of the stack that a label model stands on; None when that stack is no longer there."""
    below = before.get("pretrained")
    if not isinstance(below, str):
        return splits.fingerprint
    return fingerprint(splits, [load(Path(below))]) if Path(below).exists() else None


def filled_in(splits: Splits, stack: DBN) -> Splits:
    """The same with their missing values filled in by the stack, with means given the others."""
    divisor, filled, count = splits.divisor if splits.divisor_given else None, dict[str, Examples](), 0
    for name, part in (("train", splits.train), ("valid", splits.valid), ("test", splits.test)):
        if part is None or not (x := part.tensor).is_floating_point() or not x.isnan().any():
            continue
        holes = holes_of(stack, x, divisor=divisor, name=splits.name, columns=splits.columns, table=splits.table)
        count += int(x.isnan().sum())
        filled[name] = replace(part, x=as_given(stack, holes, filled_values(stack, holes)).cpu())
    note = f"Missing values are filled in by the stack with means given the others: {count:,}."
    parts: dict[str, Any] = dict(filled)
    return replace(splits, **parts, notes=(*splits.notes, note)) if filled else splits


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
