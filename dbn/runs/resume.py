"""Start or resume a run: which options and data must be the same, and which may have changed."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from dbn.config.common import TrainingOptions
from dbn.config.defaults import left_out
from dbn.errors import InputError
from dbn.runs.folder import CONFIG, RUN_FORMAT, VERSIONS, RunFolder, remove_partial_writes
from dbn.runs.lock import acquire, release

Harmless = Callable[[Mapping[str, Any]], Collection[str]]
Training = TypeVar("Training", bound=TrainingOptions)


def begin(
    path: Path,
    config: Mapping[str, Any],
    *,
    resume: bool,
    overwrite: bool,
    data: str | None = None,
    harmless: Harmless = lambda before: (),
) -> RunFolder:
    """A new run folder with `config`, or with `resume` the folder of an existing run that has the same options.

    No other process may write there until it is closed. `data`: the fingerprint of the run's data. `harmless`: given
    the options of the existing run, it names those that may have changed, besides the machine's; config.yaml is
    brought up to date.

    InputError when the folder exists (see `RunFolder.create`), is in use, is of a format that cannot be resumed, or
    when options or data differ from the existing run's.
    """
    run = RunFolder.open(path) if resume else RunFolder.create(path, overwrite=overwrite)
    if resume:
        acquire(path)
    try:
        if resume:
            _check_same(run, config, data, harmless)
            remove_partial_writes(path)
        else:
            run.write_config(config, data)
    except BaseException:
        release(path)
        raise
    return run


def started_with(path: Path, training: Training) -> Training:
    """The options, of which those that are left to the size of the data are as in the run folder, where there is one.

    An older dbn may have chosen otherwise, and a run is resumed as it was started.
    """
    if not (path / CONFIG).is_file():
        return training
    before = RunFolder(path).read_config()
    kept = {name: before[name] for name in left_out(training) if before.get(name) is not None}
    try:
        return replace(training, **kept)
    except InputError:  # they do not go with other options, and `begin` says which differ
        return training


def _check_same(run: RunFolder, config: Mapping[str, Any], data: str | None, harmless: Harmless) -> None:
    before, made_with = run.read_config(), run.read_json(VERSIONS)
    version = made_with.get("format", 1)
    if version != RUN_FORMAT:
        raise InputError(
            f"{run.path} is a run of format {version!r}, and this dbn resumes format {RUN_FORMAT} alone: finish it "
            f"with the dbn it was started with ({made_with.get('git_commit') or made_with.get('dbn')}), or start again "
            "with --overwrite"
        )
    free = {"run", "device", "data_dir"}
    differ = [name for name in {**before, **config} if name not in free and before.get(name) != config.get(name)]
    grown = harmless(before) if differ else ()
    changes = [f"{name} {before.get(name)} -> {config.get(name)}" for name in differ if name not in grown]
    if made_with.get("data") != data:
        changes.append(f"the examples themselves (fingerprint {made_with.get('data')} -> {data})")
    if changes:
        raise InputError(f"--resume needs the options and data of {run.path}, but these differ: {', '.join(changes)}")
    if differ:
        run.write_config(config, data)
