"""Files that appear whole or not at all, and tensors in them without pickle.

A file of tensors is a safetensors file with one metadata key, `dbn`, of sorted JSON with the number of the format in
it: the same content gives the same bytes. Nothing in a file is executed, no path in it is followed.
"""

import contextlib
import json
import math
import os
import secrets
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from dbn.errors import InputError

FORMAT = 1
"""Raised when an older dbn could no longer read what a newer one writes."""


def write_whole(path: Path, write: Callable[[Path], object] | bytes) -> None:
    """Write beside `path`, flush to the disk, rename: a reader sees the old file or the new one, never a part.

    `write` is the content, or is called with the path of the file to fill. InputError when the file system refuses.
    """
    # The name carries nothing of the target's: TensorBoard reads whatever has "tfevents" in its name.
    beside = path.with_name(f".writing-{secrets.token_hex(8)}")
    try:
        try:
            if isinstance(write, bytes):
                beside.write_bytes(write)
            else:
                write(beside)
            with beside.open("rb+") as file:
                os.fsync(file.fileno())
            os.replace(beside, path)
        finally:
            with contextlib.suppress(OSError):
                beside.unlink()
    except OSError as error:
        raise refused(path, "written", error) from error


def refused(path: Path, what: str, error: OSError) -> InputError:
    """The sentence for a file system that does not let `path` be `what`."""
    reason = error.strerror or str(error) or type(error).__name__
    advice = "check the name" if what == "read" else "make room, permit it or choose another place"
    return InputError(f"{path} cannot be {what} ({reason}): {advice}")


def damaged(path: Path, why: str) -> InputError:
    """The sentence for a file whose content cannot be used."""
    return InputError(f"{path} is damaged or of another kind, {why}: take another copy or train again")


def write_tensors(path: Path, tensors: Mapping[str, Tensor], description: Mapping[str, Any]) -> None:
    """One safetensors file, written whole; `description` is anything that JSON holds."""
    metadata = {"dbn": json.dumps({"format": FORMAT, **description}, sort_keys=True, allow_nan=False)}
    # safetensors takes neither views nor shared memory.
    own = {name: t.detach().cpu().clone(memory_format=torch.contiguous_format) for name, t in tensors.items()}
    write_whole(path, safetensors.torch.save(own, metadata))


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors, on the CPU, and the description that `write_tensors` was given.

    InputError when the file cannot be read, is damaged, is not dbn's, or comes from a newer dbn.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise refused(path, "read", error) from error
    try:
        # Compares sizes in the header with the file's length before it allocates anything.
        tensors = safetensors.torch.load(data)
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        description = json.loads(header["__metadata__"]["dbn"])
        version = description.pop("format")
    except Exception as error:  # a stranger's bytes can fail a parser in any way, and all mean the same
        raise damaged(path, "it is no safetensors file of dbn") from error
    if version != FORMAT:
        raise InputError(f"{path} has format {version!r}, and this dbn reads format {FORMAT}: update dbn")
    return tensors, description


def pack(state: Any) -> tuple[dict[str, Tensor], Any]:
    """Take the tensors out of nested dicts (keys str or int), lists and tuples; the rest becomes plain JSON.

    Leaves are tensors, str, int, float, bool and None; TypeError for others. `unpack` is the inverse, bit for bit.
    """
    tensors: dict[str, Tensor] = {}

    def skeleton(value: Any, where: str) -> Any:
        match value:
            case None | bool() | int() | str():
                return value
            case float():
                return value if math.isfinite(value) else {"float": str(value)}
            case Tensor():
                # Numbered, since the int 0 and the string "0" lead to the same path.
                name = f"{len(tensors)}{where}"
                tensors[name] = value
                return {"tensor": name}
            case list():
                return [skeleton(item, f"{where}/{i}") for i, item in enumerate(value)]
            case tuple():
                return {"tuple": [skeleton(item, f"{where}/{i}") for i, item in enumerate(value)]}
            case dict() if all(isinstance(key, str | int) for key in value):
                return {"dict": [[key, skeleton(item, f"{where}/{key}")] for key, item in value.items()]}
        raise TypeError(f"a state cannot hold {type(value).__name__} ({where or 'at the top'})")

    return tensors, skeleton(state, "")


def unpack(tensors: Mapping[str, Tensor], skeleton: Any) -> Any:
    """The state that `pack` took apart."""
    match skeleton:
        case {"tensor": name}:
            return tensors[name]
        case {"float": text}:
            return float(text)
        case {"tuple": items}:
            return tuple(unpack(tensors, item) for item in items)
        case {"dict": pairs}:
            return {key: unpack(tensors, item) for key, item in pairs}
        case list():
            return [unpack(tensors, item) for item in skeleton]
    return skeleton


def save_state(path: Path, state: Any) -> None:
    """Write what `pack` takes as one file."""
    tensors, skeleton = pack(state)
    write_tensors(path, tensors, {"state": skeleton})


def load_state(path: Path, device: torch.device | str = "cpu") -> Any:
    """What `save_state` wrote, tensors on `device`; InputError when the file is damaged."""
    tensors, description = read_tensors(path)
    moved = {name: tensor.to(device) for name, tensor in tensors.items()}
    try:
        return unpack(moved, description["state"])
    except (LookupError, TypeError, ValueError, RecursionError) as error:
        raise damaged(path, "it holds no state that can be restored") from error
