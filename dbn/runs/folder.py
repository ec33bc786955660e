"""Run folders: configuration, metrics, checkpoint and results."""

import contextlib
import json
import math
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import torch
import yaml

from dbn.config.common import ALIASES
from dbn.errors import InputError
from dbn.runs.checkpoint import Checkpoint
from dbn.runs.lock import LOCK, acquire, release
from dbn.runs.versions import versions
from dbn.storage.files import WRITING, atomic_write, corrupt_file, io_error, make_folder, read_file
from dbn.storage.owned import check_owned
from dbn.storage.yaml_limits import check_plain

CONFIG = "config.yaml"
VERSIONS = "versions.json"
RESULT = "result.json"
"""Written last: a run that has it is complete."""

RUN_FORMAT = 2
"""Raised when older runs can no longer be resumed. Format 1 had no number."""


@dataclass(frozen=True)
class RunFolder:
    """The folder of one run. Its files are written atomically, but for metrics.jsonl and events, which grow.

    As a context it ends with `close`.
    """

    path: Path
    replaced: bool = field(default=False, repr=False, compare=False)
    """Whether it took the place of another run, which is gone."""
    checkpoint: Checkpoint = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "checkpoint", Checkpoint(self.path / "checkpoint" / "state.safetensors"))

    @classmethod
    def create(cls, path: Path, *, overwrite: bool) -> Self:
        """An empty folder that this process alone may write to, until `close`.

        InputError when something is there already, unless it is a run to `overwrite`, or another process uses it.
        """
        check_owned(path)
        try:
            if (path / LOCK).is_file():  # "in use" is said before "exists already"
                acquire(path)
                release(path)
            _check_replaceable(path, overwrite)
            replaced = (path / CONFIG).is_file()
            path.mkdir(parents=True, exist_ok=True)
            acquire(path)
            try:
                _check_replaceable(path, overwrite)  # again, now that no other process can write here
                _clear(path)
            except BaseException:
                release(path)
                raise
        except OSError as error:
            raise io_error(path, "made a run folder", error) from error
        return cls(path, replaced)

    def close(self) -> None:
        """Wait for the checkpoint, and release the lock."""
        try:
            self.checkpoint.wait()
        finally:
            release(self.path)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    @classmethod
    def open(cls, path: Path) -> Self:
        """The folder of an existing run; InputError when `path` is none."""
        if not path.is_dir():
            raise InputError(f"there is no run folder {path}: check the name")
        if not (path / CONFIG).is_file():
            raise InputError(f"{path} is not a run folder: it holds no {CONFIG}")
        return cls(path)

    def write_config(self, config: Mapping[str, Any], data: str | None = None) -> None:
        """config.yaml, of plain data only; versions.json, with the fingerprint of the data."""
        self.write_json(VERSIONS, {"format": RUN_FORMAT, "data": data, **versions()})
        atomic_write(self.path / CONFIG, yaml.safe_dump(dict(config), sort_keys=False).encode())

    def read_config(self) -> dict[str, Any]:
        """What `write_config` wrote, under today's names; InputError when it is no mapping."""
        path = self.path / CONFIG
        text = read_file(path)
        try:
            check_plain(text.decode())
            # A few nested aliases expand to endless text; we write none.
            aliases = any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, Loader=yaml.SafeLoader))
            config = yaml.safe_load(text)
        except (yaml.YAMLError, ValueError, RecursionError) as error:
            raise corrupt_file(path, "it is not YAML of options") from error
        if aliases or not isinstance(config, dict):
            raise corrupt_file(path, "it holds no options")
        return {ALIASES.get(str(name), str(name)): value for name, value in config.items()}

    @property
    def data(self) -> str | None:
        """The fingerprint of the run's data, where it is known."""
        return self.read_json(VERSIONS).get("data") if (self.path / VERSIONS).is_file() else None

    @property
    def _metrics(self) -> Path:
        return self.path / "metrics.jsonl"

    def log(self, record: Mapping[str, Any]) -> None:
        """Append one line to metrics.jsonl; numbers that are not finite become null, since JSON has none."""
        check_owned(self._metrics)
        try:
            with self._metrics.open("a", encoding="utf-8") as file:
                file.write(_json_line(record))
        except OSError as error:
            raise io_error(self._metrics, "written", error) from error

    def metrics(self) -> list[dict[str, Any]]:
        """The records of metrics.jsonl so far, without a last line that was cut off."""
        if not self._metrics.exists():
            return []
        lines = read_file(self._metrics).splitlines()
        records = []
        for number, line in enumerate(lines, start=1):
            try:
                records.append(dict(json.loads(line)))
            except (ValueError, TypeError, RecursionError) as error:
                if number < len(lines):
                    raise corrupt_file(self._metrics, f"line {number} is no record") from error
        return records

    def keep_metrics(self, keep: Callable[[dict[str, Any]], bool]) -> None:
        """Drop the other records, before the epochs after a checkpoint are repeated.

        InputError when `keep` misses something in a record, or cannot compare it.
        """
        try:
            lines = [_json_line(record) for record in self.metrics() if keep(record)]
        except (LookupError, TypeError) as error:
            raise corrupt_file(self._metrics, "a line is no record of this run") from error
        atomic_write(self._metrics, "".join(lines).encode())

    def write_json(self, name: str, data: Any, unfinished: Path | None = None) -> None:
        """`data` as indented JSON, in its own order; numbers that are not finite become null. See `atomic_write`."""
        text = json.dumps(_finite(data), indent=2, allow_nan=False) + "\n"
        atomic_write(self.path / name, text.encode(), unfinished)

    def read_json(self, name: str) -> dict[str, Any]:
        """What `write_json` wrote; InputError when it is missing or no object."""
        path = self.path / name
        text = read_file(path)
        try:
            data = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise corrupt_file(path, "it is not JSON") from error
        if not isinstance(data, dict):
            raise corrupt_file(path, "it holds no object")
        return data

    def save_checkpoint(self, state: Mapping[str, Any], *logs: Path) -> None:
        """Replace the checkpoint by `state`, once metrics.jsonl and `logs` are on the disk: see `Checkpoint`."""
        metrics = [self._metrics] if self._metrics.exists() else []
        self.checkpoint.save(state, *metrics, *logs)

    def load_checkpoint(self, device: torch.device | str = "cpu") -> dict[str, Any] | None:
        """The last checkpoint, or None where there is none yet."""
        return self.checkpoint.load(device)

    def subfolder(self, name: str) -> Path:
        """A folder inside this one, made if need be."""
        return make_folder(self.path / name)


def remove_partial_writes(path: Path) -> None:
    """Remove the unfinished files of processes that died while writing."""
    for left in path.rglob(f"{WRITING}*"):
        with contextlib.suppress(OSError):
            left.unlink()


def _check_replaceable(path: Path, overwrite: bool) -> None:
    """InputError unless there is nothing at `path`, or a run without a configuration yet, or a run to overwrite."""
    if not path.is_dir():
        return
    names = {each.name for each in path.iterdir() if not each.name.startswith(WRITING)}
    if names <= ({LOCK, VERSIONS} if LOCK in names else set()):
        return
    if not overwrite:
        raise InputError(
            f"{path} exists already: continue it with --resume, replace it with --overwrite, or name another --run"
        )
    # config.yaml alone is a common name, and what is deleted does not come back.
    if not {CONFIG, VERSIONS} <= names:
        raise InputError(f"{path} does not look like a run of dbn and is not overwritten: name another --run")
    if path.is_symlink():
        raise InputError(f"{path} cannot be made a run folder: it is a link to one, name that")


def _clear(path: Path) -> None:
    """Empty the folder, but for its lock; the files that mark it as a run last, should this be interrupted."""
    for each in sorted(path.iterdir(), key=lambda each: each.name in (CONFIG, VERSIONS)):
        if each.is_dir() and not each.is_symlink():
            shutil.rmtree(each)
        elif each.name != LOCK:
            each.unlink()


def _json_line(record: Mapping[str, Any]) -> str:
    return json.dumps(_finite(record), allow_nan=False) + "\n"


def _finite(data: Any) -> Any:
    if isinstance(data, float):
        return data if math.isfinite(data) else None
    if isinstance(data, Mapping):
        return {key: _finite(value) for key, value in data.items()}
    return [_finite(value) for value in data] if isinstance(data, list | tuple) else data
