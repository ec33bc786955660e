"""A run's folder: its configuration, metrics, checkpoint and results; and the weights of stacks and classifiers."""

import json
import math
import platform
import shutil
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Self

import torch
import yaml
from torch import nn

from dbn.belief_net import DBN
from dbn.errors import InputError
from dbn.mlp import unfilled_mlp
from dbn.storage import damaged, read_tensors, refused, write_tensors, write_whole
from dbn.storage import load_state as load_state
from dbn.storage import save_state as save_state

STACK = "dbn.safetensors"
ENCODER = "encoder.safetensors"
CONFIG = "config.yaml"
VERSIONS = "versions.json"


@dataclass(frozen=True)
class RunFolder:
    """One folder a run. Its files appear whole or not at all, metrics.jsonl aside, which grows by lines."""

    path: Path

    @classmethod
    def create(cls, path: Path, *, overwrite: bool) -> Self:
        """An empty folder; InputError when something is there already, unless it is a run to `overwrite`."""
        try:
            if path.is_dir() and any(path.iterdir()):
                _clear(path, overwrite)
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise refused(path, "made a run folder", error) from error
        return cls(path)

    @classmethod
    def open(cls, path: Path) -> Self:
        """The folder of a run that was begun before; InputError when `path` is none."""
        if not path.is_dir():
            raise InputError(f"there is no run folder {path}: check the name")
        if not (path / CONFIG).is_file():
            raise InputError(f"{path} is not a run folder: it holds no {CONFIG}")
        return cls(path)

    def write_config(self, config: Mapping[str, Any]) -> None:
        """config.yaml, of plain data only, and the versions that the run was made with beside it."""
        self.write_json(VERSIONS, versions())
        write_whole(self.path / CONFIG, yaml.safe_dump(dict(config), sort_keys=False).encode())

    def read_config(self) -> dict[str, Any]:
        """What `write_config` wrote; InputError when it is no mapping any more."""
        path = self.path / CONFIG
        try:
            config = yaml.safe_load(path.read_bytes())
        except OSError as error:
            raise refused(path, "read", error) from error
        except (yaml.YAMLError, ValueError) as error:
            raise damaged(path, "it is not YAML") from error
        if not isinstance(config, dict):
            raise damaged(path, "it holds no options")
        return config

    @property
    def _metrics(self) -> Path:
        return self.path / "metrics.jsonl"

    def log(self, record: Mapping[str, Any]) -> None:
        """Append one line to metrics.jsonl; a number that is not finite becomes null, since JSON has none."""
        try:
            with self._metrics.open("a", encoding="utf-8") as file:
                file.write(_json_line(record))
        except OSError as error:
            raise refused(self._metrics, "written", error) from error

    def metrics(self) -> list[dict[str, Any]]:
        """The records of metrics.jsonl so far, without a last line that was cut off."""
        try:
            lines = self._metrics.read_bytes().splitlines()
        except FileNotFoundError:
            return []
        records = []
        for number, line in enumerate(lines, start=1):
            try:
                records.append(dict(json.loads(line)))
            except (ValueError, TypeError) as error:
                if number < len(lines):
                    raise damaged(self._metrics, f"line {number} is no record") from error
        return records

    def keep_metrics(self, keep: Callable[[dict[str, Any]], bool]) -> None:
        """Drop the records that are not to be kept, before the epochs after a checkpoint come again."""
        lines = [_json_line(record) for record in self.metrics() if keep(record)]
        write_whole(self._metrics, "".join(lines).encode())

    def write_json(self, name: str, data: Any) -> None:
        """`data` as indented JSON, in its own order; numbers that are not finite become null."""
        write_whole(self.path / name, (json.dumps(_finite(data), indent=2, allow_nan=False) + "\n").encode())

    def read_json(self, name: str) -> dict[str, Any]:
        """What `write_json` wrote; InputError when it is not there or no object any more."""
        path = self.path / name
        try:
            data = json.loads(path.read_bytes())
        except OSError as error:
            raise refused(path, "read", error) from error
        except ValueError as error:
            raise damaged(path, "it is not JSON") from error
        if not isinstance(data, dict):
            raise damaged(path, "it holds no object")
        return data

    @property
    def _checkpoint(self) -> Path:
        return self.path / "checkpoint" / "state.safetensors"

    def save_checkpoint(self, state: Mapping[str, Any]) -> None:
        """Replace the checkpoint by `state`: nested dicts, lists and tuples of tensors and plain values."""
        self.subfolder("checkpoint")
        save_state(self._checkpoint, state)

    def load_checkpoint(self, device: torch.device | str = "cpu") -> dict[str, Any] | None:
        """The last checkpoint, or None when the run has not come to its first."""
        if not self._checkpoint.exists():
            return None
        state = load_state(self._checkpoint, device)
        if not isinstance(state, dict):
            raise damaged(self._checkpoint, "it holds no checkpoint")
        return state

    def subfolder(self, name: str) -> Path:
        """A folder inside this one, made where it is missing."""
        path = self.path / name
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise refused(path, "made", error) from error
        return path


def begin(path: Path, config: Mapping[str, Any], *, resume: bool, overwrite: bool) -> RunFolder:
    """A new run folder that holds `config`, or with `resume` the folder of a run that was begun with the same.

    InputError when the folder exists (see `RunFolder.create`), or the options differ from those it was begun with.
    """
    if not resume:
        run = RunFolder.create(path, overwrite=overwrite)
        run.write_config(config)
        return run
    run = RunFolder.open(path)
    before = run.read_config()
    free = ("run", "device", "data_dir")
    names = [name for name in {**before, **config} if name not in free and before.get(name) != config.get(name)]
    if names:
        changes = ", ".join(f"{name} {before.get(name)} -> {config.get(name)}" for name in names)
        raise InputError(f"--resume goes on with the options that {path} was begun with, but these differ: {changes}")
    return run


def _clear(path: Path, overwrite: bool) -> None:
    if not overwrite:
        raise InputError(
            f"{path} exists already: go on with --resume, replace it with --overwrite, or name another --run"
        )
    # config.yaml alone is a common name, and what goes here does not come back.
    if not (path / CONFIG).is_file() or not (path / VERSIONS).is_file():
        raise InputError(f"{path} does not look like a run of dbn and is not overwritten: name another --run")
    shutil.rmtree(path)


def versions() -> dict[str, str | None]:
    """What a result may depend on besides its configuration; None for what is not installed or not known."""
    packages = {"dbn": "torch-dbn", "torch": "torch", "torchvision": "torchvision"}
    return {
        **{name: _version(package) for name, package in packages.items()},
        "python": platform.python_version(),
        "platform": platform.platform(),
        "git_commit": _git_commit(Path(__file__).resolve().parents[1]),
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _git_commit(root: Path) -> str | None:
    """The commit of a checkout of dbn, `-dirty` behind it when files were changed."""
    if not (root / ".git").exists():  # installed: a repository further up would be someone else's
        return None
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return found.stdout.strip()


def _json_line(record: Mapping[str, Any]) -> str:
    return json.dumps(_finite(dict(record)), allow_nan=False) + "\n"


def _finite(data: Any) -> Any:
    match data:
        case float():
            return data if math.isfinite(data) else None
        case dict():
            return {key: _finite(value) for key, value in data.items()}
        case list() | tuple():
            return [_finite(value) for value in data]
    return data


def save_stack(folder: Path, stack: DBN) -> None:
    """dbn.safetensors, the whole stack, and encoder.safetensors, the weights of `stack.encoder()` alone.

    The encoder's metadata tell the modules it fits into and what its input is divided by, shifted and spread with.
    """
    write_tensors(folder / STACK, stack.state_dict(), stack.description())
    encoder, scaling = stack.encoder(), stack.scaling
    description = {
        "modules": [str(module) for module in encoder],
        "divisor": scaling.divisor,
        "shift": None if scaling.shift is None else scaling.shift.tolist(),
        "spread": None if scaling.spread is None else scaling.spread.tolist(),
    }
    write_tensors(folder / ENCODER, encoder.state_dict(), description)


def load(path: Path | str) -> DBN:
    """The stack in a run folder or a dbn.safetensors file, on the CPU and in eval mode.

    InputError when there is none, or the file is damaged, describes other weights than it holds, or is too new.
    """
    path = Path(path)
    file = path / STACK if path.is_dir() else path
    if not file.is_file():
        raise InputError(f"{path} holds no stack: name a run folder of pretrain.py with {STACK} in it, or that file")
    tensors, description = read_tensors(file)
    try:
        with torch.device("meta"):  # sizes that lie cost no memory
            stack = DBN.from_description(description)
        stack.load_state_dict(tensors, assign=True)
    except Exception as error:  # a description may lie in any way, and all mean the same
        raise damaged(file, "its weights are not those of the stack that it describes") from error
    if not _describes(description, stack):
        raise damaged(file, "its description is not that of a stack")
    return stack.eval()


def _describes(description: dict[str, Any], stack: DBN) -> bool:
    pixels = math.prod(stack.image_shape) if stack.image_shape else None
    return (
        bool(stack.layers)
        and stack.description() == description
        and 0 < stack.scaling.divisor < math.inf
        and pixels in (None, stack.sizes[0])
    )


def save_classifier(path: Path, network: nn.Sequential, description: Mapping[str, Any]) -> None:
    """The weights of a network that `dbn.mlp.mlp` built, with `description` in the file's metadata.

    The description names what `unfilled_mlp` takes (ValueError when it gives another network) and may hold more:
    classes, what the input is divided by, shifted and spread with.
    """
    if str(unfilled_mlp(description)) != str(network):
        raise ValueError("the description's sizes and activation do not give this network")
    write_tensors(path, network.state_dict(), description)


def load_classifier(path: Path | str) -> tuple[nn.Sequential, dict[str, Any]]:
    """The network, on the CPU and in eval mode, and the description it was saved with.

    InputError when the file is missing or damaged, or describes other weights than it holds.
    """
    path = Path(path)
    tensors, description = read_tensors(path)
    try:
        network = unfilled_mlp(description)
        network.load_state_dict(tensors, assign=True)
    except Exception as error:  # as in `load`
        raise damaged(path, "its weights are not those of the network that it describes") from error
    return network.eval(), description
