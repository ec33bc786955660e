"""Start or resume a run: which options and data must be the same, and which may have changed."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from dbn.config.common import OLDER, TrainingOptions
from dbn.config.defaults import left_out
from dbn.config.validation import option_name
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
    longer: str = "",
) -> RunFolder:
    """A new run folder with `config`, or with `resume` the folder of an existing run that has the same options.

    No other process may write there until it is closed. `data`: the fingerprint of the run's data. `harmless`: given
    the options of the existing run, it names those that may have changed, besides the machine's; config.yaml is
    brought up to date. `longer`: what an error advises where the epochs differ.

    InputError when the folder exists (see `RunFolder.create`), is in use, is of a format that cannot be resumed, or
    when options or data differ from the existing run's.
    """
    run = RunFolder.open(path) if resume else RunFolder.create(path, overwrite=overwrite)
    if resume:
        acquire(path)
    try:
        if resume:
            _check_same(run, config, data, harmless, longer)
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


def split_of(path: Path) -> Any:
    """How the run in a folder cut its data; None for the default, and where there is no run."""
    return RunFolder(path).read_config().get("split", OLDER["split"]) if (path / CONFIG).is_file() else None


def cut_as_begun(config: Any) -> Any:
    """The configuration; to resume a run, with the run's own way to cut the data where it names none."""
    data = getattr(config, "data", config)
    if not config.resume or data.split is not None:
        return config
    data = replace(data, split=split_of(config.run))
    return replace(config, data=data) if hasattr(config, "data") else data


def _shown(value: Any) -> str:
    """A value as it is written on the command line."""
    if value is None or isinstance(value, bool):
        return str(value).lower()
    return " ".join(map(str, value)) or "none" if isinstance(value, list) else str(value)


def differing(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """The options of `before` that are others now, with both values, as an error names them."""
    return [
        f"{option_name(name)} {_shown(value)} (now {_shown(now.get(name))})"
        for name, value in before.items()
        if value != now.get(name)
    ]


def _check_same(run: RunFolder, config: Mapping[str, Any], data: str | None, harmless: Harmless, longer: str) -> None:
    before, made_with = run.read_config(), run.read_json(VERSIONS)
    before = {name: value for name, value in OLDER.items() if name in config} | before
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
    changed = [name for name in differ if name not in grown]
    if changed:
        options = differing({name: before.get(name) for name in changed}, config)
        advice = f", {longer}" if "epochs" in changed and longer else ""
        raise InputError(
            f"{run.path} was started with {', '.join(options)}: resume it with the same{advice}, or start again with "
            "--overwrite or another --run"
        )
    if made_with.get("data") != data:
        raise InputError(
            f"{run.path} was started on other examples (fingerprint {made_with.get('data')}, not {data}): restore the "
            "data to resume it, or start again with --overwrite or another --run"
        )
    if differ:
        run.write_config(config, data)
