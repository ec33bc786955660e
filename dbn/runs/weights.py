"""The weights of stacks and classifiers as files of their own, to be loaded here and elsewhere."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dbn.errors import InputError, is_out_of_memory
from dbn.models.dbn import DBN
from dbn.models.mlp import meta_mlp
from dbn.models.scaling import Scaling
from dbn.storage.files import corrupt_file
from dbn.storage.tensors import read_tensors, write_tensors

STACK = "dbn.safetensors"

ENCODER = "encoder.safetensors"


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
        _check_number(description["units"], tensors)
        with torch.device("meta"):  # sizes that lie cost no memory
            stack = DBN.from_description(description)
        stack.load_state_dict(tensors, assign=True)
        is_stack = _describes(description, stack)
    except Exception as error:  # a description may lie in any way, and all mean the same
        if is_out_of_memory(error):
            raise
        raise corrupt_file(file, "its weights are not those of the stack that it describes") from error
    if not is_stack:
        raise corrupt_file(file, "its description is not that of a stack")
    _check_finite(file, tensors)
    return stack.eval()


def _check_number(sizes: Any, tensors: Mapping[str, Any]) -> None:
    """ValueError before so many layers are made that it takes for ever."""
    if len(sizes) > len(tensors) + 1:
        raise ValueError(f"{len(sizes)} sizes for {len(tensors)} tensors")


def _check_finite(file: Path, tensors: Mapping[str, Tensor]) -> None:
    for name, tensor in tensors.items():
        if not tensor.is_floating_point() and name.endswith(("weight", "bias")):
            raise corrupt_file(file, f"{name} holds {tensor.dtype}")
        if not tensor.isfinite().all():
            raise InputError(f"{file}: {name} holds values that are not finite: train it again")


def _describes(description: dict[str, Any], stack: DBN) -> bool:
    shape = stack.image_shape
    is_picture = shape is None or (
        [type(side) for side in shape] == [int] * 3 and min(shape) > 0 and math.prod(shape) == stack.sizes[0]
    )
    return (
        bool(stack.layers)
        and stack.description() == description
        and 0 < stack.scaling.divisor < math.inf
        and is_picture
    )


def save_classifier(path: Path, network: nn.Sequential, description: Mapping[str, Any]) -> None:
    """The weights of a network that `dbn.models.mlp.mlp` built, with `description` in the file's metadata.

    The description names what `meta_mlp` takes (ValueError when it gives another network), the classes, and what
    the input is divided by, shifted and spread with, as `Scaling` tells it; it may hold more.
    """
    if str(meta_mlp(description)) != str(network):
        raise ValueError("the description's sizes and activation do not give this network")
    write_tensors(path, network.state_dict(), description)


def load_classifier(path: Path | str) -> tuple[nn.Sequential, dict[str, Any]]:
    """The network, on the CPU and in eval mode, and the description it was saved with.

    InputError when the file is missing or damaged, or describes other weights than it holds.
    """
    path = Path(path)
    tensors, description = read_tensors(path)
    try:
        sizes = description["sizes"]
        _check_number(sizes, tensors)
        network = meta_mlp(description)
        network.load_state_dict(tensors, assign=True)
        classes = description["classes"]
        is_fit = isinstance(classes, list) and len(classes) == sizes[-1] and all(type(name) is str for name in classes)
        "".join(classes).encode()
        scaling = Scaling.from_description(description)
        scaled = scaling(torch.zeros(1, sizes[0]))
        is_scaling = 0 < scaling.divisor < math.inf and (scaling.shift is None) == (scaling.spread is None)
        is_fit = is_fit and is_scaling and scaled.shape == (1, sizes[0]) and bool(scaled.isfinite().all())
    except Exception as error:  # as in `load`
        if is_out_of_memory(error):
            raise
        raise corrupt_file(path, "its weights are not those of the network that it describes") from error
    if not is_fit:
        raise corrupt_file(path, "its description is not that of a classifier")
    _check_finite(path, tensors)
    return network.eval(), description
