"""Tensors in `.pt` and `.safetensors` files."""

from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from dbn.arrays import as_array
from dbn.data.readers.array_names import by_role, roles, weight_roles
from dbn.data.table import Table, table_of
from dbn.errors import InputError, parsing


def read_torch(path: Path, weight_column: str | None = None) -> Table:
    """One tensor, the rows, or a dict of tensors by their usual names, that `torch.save` wrote.

    Only tensors and plain containers are built from the file (`weights_only`), whatever else stands in it.
    """
    name = str(path)
    path.open("rb").close()  # OSError where it cannot be read
    refusal = InputError(
        f"{name} is damaged or holds other objects than tensors, which are never unpickled: save a tensor or a dict of "
        "tensors with torch.save"
    )
    with parsing(refusal):
        loaded = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    tensors = {"x": loaded} if isinstance(loaded, Tensor) else loaded
    if not isinstance(tensors, dict) or not all(isinstance(each, str) for each in tensors):
        raise InputError(f"{name} holds a {type(loaded).__name__}, but a tensor or a dict of tensors is needed")
    return _table(name, tensors, list(tensors), weight_column)


def read_safetensors(path: Path, weight_column: str | None = None) -> Table:
    """The tensors of a `.safetensors` file by their usual names."""
    name = str(path)
    path.open("rb").close()
    refusal = InputError(f"{name} is damaged or no safetensors file: take another copy or save it again")
    with parsing(refusal), safe_open(name, "pt") as file:
        keys = list(file.keys())
        tensors = {key: file.get_tensor(key) for key in roles(keys) | weight_roles(keys, weight_column, name)}
    return _table(name, tensors, keys, weight_column)


def _table(name: str, tensors: dict[str, Any], keys: list[str], weights: str | None) -> Table:
    found = by_role(tensors, keys, name, weights)
    for role, each in found.items():
        if not isinstance(each, Tensor):
            raise InputError(f"{name}: {role} is a {type(each).__name__}, but a tensor is needed")
    arrays = {role: as_array(each, f"{name}: {role}") for role, each in found.items()}
    return table_of(name, arrays, weight_column=weights or "")
