"""Well-formed files of the wrong kind: every field and tensor of a file of dbn's, replaced by each kind of value."""

import copy
import json
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from dbn.storage.tensors import FORMAT, _checksum

VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 3, 10**30, 10**400, 0.0, 0.5, -1.5, 1e38, 1e308, math.nan, math.inf,
    "", "x", "\ud800", "x" * 5000, "<script>", [], [None], [[]], {}, {"kind": "x"}, [1, 2, 3], ["a", "a"], [10**400],
)  # fmt: skip
"""Of fields."""
TYPES = (
    torch.float64, torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.complex64, torch.bool, torch.int64,
    torch.uint8,
)  # fmt: skip
NUMBERS = (0.0, -1.0, 1e-44, 1e9, 1e38, -1e38, math.nan, math.inf, -math.inf)
"""That all numbers of a tensor become, or the last of them alone."""
SHAPES: tuple[Callable[[Tensor], Tensor], ...] = (
    lambda tensor: tensor[:0],
    lambda tensor: tensor[None],
    lambda tensor: tensor.flatten()[0],
    lambda tensor: torch.cat([tensor, tensor]),
    lambda tensor: tensor.mT if tensor.ndim > 1 else tensor[:-1],
)


def places(value: Any, where: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The paths of all that is in plain data; of lists the first entry and the last."""
    if where:
        yield where
    if isinstance(value, dict):
        for name in value:
            yield from places(value[name], (*where, name))
    elif isinstance(value, list) and value:
        for place in sorted({0, len(value) - 1}):
            yield from places(value[place], (*where, place))


def wrong_data(data: Any, values: tuple[Any, ...] = VALUES) -> Iterator[tuple[str, Any]]:
    """The data with one field replaced, left out or added."""
    for where in places(data):
        *path, last = where
        for value in (*values, "left out", "twice"):
            changed = copy.deepcopy(data)
            inner = changed
            for name in path:
                inner = inner[name]
            if value == "left out":
                del inner[last]
            elif value == "twice":
                if isinstance(inner, dict):
                    inner[f"{last}_"] = inner[last]
                else:
                    inner.append(inner[last])
            else:
                inner[last] = value
            yield f"{where} {str(value)[:30]!r}", changed


def wrong_tensors(tensors: Mapping[str, Tensor]) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """The tensors with one of another type, shape or value, left out or called otherwise."""
    for name, tensor in tensors.items():
        for kind in TYPES:
            if kind != tensor.dtype:
                yield f"{name} {kind}", {**tensors, name: tensor.to(kind)}
        for number in NUMBERS if tensor.is_floating_point() else ():
            yield f"{name} all {number}", {**tensors, name: torch.full_like(tensor, number)}
            last = tensor.clone()
            last.view(-1)[-1] = number
            yield f"{name} last {number}", {**tensors, name: last}
        for place, change in enumerate(SHAPES if tensor.ndim else ()):
            yield f"{name} shape {place}", {**tensors, name: change(tensor).contiguous()}
        yield f"{name} left out", {other: value for other, value in tensors.items() if other != name}
        yield f"{name} twice", {**tensors, f"{name}_": tensor}
    yield "all float64", {name: t.double() if t.is_floating_point() else t for name, t in tensors.items()}
    yield "no tensors", {}


def tensor_file(tensors: Mapping[str, Tensor], description: Mapping[str, Any]) -> bytes:
    """A file with a checksum that fits, whatever its description is, as another program may write it."""
    own = {name: t.detach().clone(memory_format=torch.contiguous_format) for name, t in tensors.items()}
    about = {"format": FORMAT, "sum": _checksum(own, description), **description}
    return safetensors.torch.save(own, {"dbn": json.dumps(about)})
