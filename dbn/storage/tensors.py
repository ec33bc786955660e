"""Tensors in safetensors files, without pickle.

A file has one metadata key, `dbn`, of sorted JSON with the number of the format and a checksum of all else in it: the
same content gives the same bytes, and other bytes are noticed. Nothing in a file is executed, and no path is followed.
"""

import json
import math
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from dbn.errors import InputError, parsing
from dbn.storage.files import atomic_write, corrupt_file, read_file
from dbn.storage.schema import Mismatch, in_words

BOUND = 1e30
"""Of the numbers of a state that training takes products of."""
FORMAT = 2
"""Raised when an older dbn could no longer read what a newer one writes. Format 1 had no checksum."""


def write_tensors(path: Path, tensors: Mapping[str, Tensor], description: Mapping[str, Any]) -> None:
    """Write one safetensors file atomically; `description` is anything that JSON holds."""
    atomic_write(path, tensor_bytes(tensors, description))


def tensor_bytes(tensors: Mapping[str, Tensor], description: Mapping[str, Any]) -> bytes:
    """The content of the file that `write_tensors` writes."""
    # safetensors takes neither views nor shared memory.
    own = {name: t.detach().cpu().clone(memory_format=torch.contiguous_format) for name, t in tensors.items()}
    about = {"format": FORMAT, "sum": _checksum(own, description), **description}
    return safetensors.torch.save(own, {"dbn": json.dumps(about, sort_keys=True, allow_nan=False)})


def _checksum(tensors: Mapping[str, Tensor], description: Mapping[str, Any]) -> int:
    """CRC-32 of the description, and of every tensor's name, type, shape and bytes."""
    found = zlib.crc32(json.dumps(description, sort_keys=True).encode())
    for name, tensor in sorted(tensors.items()):
        found = zlib.crc32(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode(), found)
        found = zlib.crc32(tensor.flatten().view(torch.uint8).numpy().data, found)
    return found


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors, on the CPU, and the description that `write_tensors` was given.

    InputError when the file cannot be read, is damaged, is not dbn's, or comes from a newer dbn.
    """
    data = read_file(path)
    with parsing(corrupt_file(path, "it is no safetensors file of dbn")):
        # Compares sizes in the header with the file's length before it allocates anything.
        tensors = safetensors.torch.load(data)
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        description = json.loads(header["__metadata__"]["dbn"])
        version = description.pop("format")
        expected = description.pop("sum", None)
        del data
        is_whole = version == 1 or expected == _checksum(tensors, description)
    if version not in (1, FORMAT):
        raise InputError(f"{path} has format {version!r}, and this dbn reads formats 1 to {FORMAT}: update dbn")
    if not is_whole:
        raise corrupt_file(path, "its checksum is that of other content")
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
    atomic_write(path, state_bytes(state))


def state_bytes(state: Any) -> bytes:
    """The content of the file that `save_state` writes."""
    tensors, skeleton = pack(state)
    return tensor_bytes(tensors, {"state": skeleton})


def load_state(path: Path, device: torch.device | str = "cpu") -> Any:
    """What `save_state` wrote, tensors on `device`; InputError when the file is damaged."""
    tensors, description = read_tensors(path)
    moved = {name: tensor.to(device) for name, tensor in tensors.items()}
    try:
        return unpack(moved, description["state"])
    except (LookupError, TypeError, ValueError, RecursionError) as error:
        raise corrupt_file(path, "it holds no state that can be restored") from error


def check_structure(found: Any, wanted: Any, where: str = "") -> None:
    """`Mismatch` unless `found` has the keys, lengths, types and shapes of `wanted`, whatever the values are."""
    place = where or "the state"
    if isinstance(wanted, Tensor):
        if not isinstance(found, Tensor) or (found.dtype, found.shape) != (wanted.dtype, wanted.shape):
            raise Mismatch(f"{place} is {_described(found)}, not {_described(wanted)}")
    elif not (isinstance(found, dict) if isinstance(wanted, dict) else type(found) is type(wanted)):
        raise Mismatch(f"{place} is {_described(found)}, not {_described(wanted)}")
    elif isinstance(wanted, dict):
        for key in (*wanted, *found):
            if key not in found or key not in wanted:
                raise Mismatch(f"{where}.{key}".lstrip(".") + (" is missing" if key in wanted else " is no part of it"))
            check_structure(found[key], wanted[key], f"{where}.{key}".lstrip("."))
    elif isinstance(wanted, list | tuple):
        if len(found) != len(wanted):
            raise Mismatch(f"{place} is a list of {len(found)}, not of {len(wanted)}")
        for number, value in enumerate(wanted):
            check_structure(found[number], value, f"{where}[{number}]")


def check_bounded(found: Any, where: str) -> None:
    """`Mismatch` for a tensor of a state with numbers that are not finite, or so large that products are not."""
    if isinstance(found, Tensor) and found.is_floating_point() and not (found.abs() <= BOUND).all():
        raise Mismatch(f"{where} holds numbers that are not finite, or beyond {BOUND:g}")
    if isinstance(found, dict | list | tuple):
        for key, value in found.items() if isinstance(found, dict) else enumerate(found):
            check_bounded(value, f"{where}.{key}")


def _described(value: Any) -> str:
    return f"{str(value.dtype)[6:]} {tuple(value.shape)}" if isinstance(value, Tensor) else in_words(value)
