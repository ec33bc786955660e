"""The weights of a stack as files of their own, to be loaded here and elsewhere."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dbn.errors import InputError, parsing
from dbn.models.dbn import DBN
from dbn.runs.folder import CONFIG, RunFolder
from dbn.storage.files import as_path, corrupt_file
from dbn.storage.tensors import read_tensors, write_tensors

STACK = "dbn.safetensors"
ENCODER = "encoder.safetensors"
LABEL_MODEL = "label_model.safetensors"


def save_stack(folder: Path, stack: DBN) -> None:
    """dbn.safetensors, the whole stack, and encoder.safetensors, the weights of `stack.encoder()` alone.

    The encoder's metadata name the modules it fits into, and its input's `Scaling`.
    """
    write_tensors(folder / STACK, stack.state_dict(), stack.description())
    encoder = stack.encoder()
    description = {"modules": [str(module) for module in encoder], **stack.scaling.description()}
    write_tensors(folder / ENCODER, encoder.state_dict(), description)


def load(path: Path | str) -> DBN:
    """The stack in a run folder or a dbn.safetensors file, on the CPU, in eval mode, and without gradients.

    InputError when there is none, or the file is damaged, describes other weights than it holds, or is too new.

    >>> import dbn, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     trained = dbn.pretrain(torch.eye(20), hidden=[8, 4], epochs=1, run=folder + "/run")
    ...     stack = dbn.load(folder + "/run")
    >>> stack.sizes, torch.equal(stack.rbms[0].weight, trained.rbms[0].weight)
    ([20, 8, 4], True)
    """
    path = as_path(path, "path")
    file = path / STACK if path.is_dir() else path
    if not file.is_file():
        check_ended(path)
        raise InputError(f"{path} holds no stack: name a run of pretrain, whose folder has {STACK} in it, or that file")
    tensors, description = read_tensors(file)
    with parsing(corrupt_file(file, "its weights are not those of the stack that it describes")):
        check_number(description["units"], tensors)
        with torch.device("meta"):  # sizes that lie cost no memory
            stack = DBN.from_description(description)
        stack.load_state_dict(tensors, assign=True)
        is_stack = bool(stack.layers) and stack.description() == description and _is_sound(stack)
    if not is_stack:
        raise corrupt_file(file, "its description is not that of a stack")
    check_finite(file, tensors)
    return stack.requires_grad_(False).eval()


def check_ended(path: Path) -> None:
    """InputError for the folder of a run of pretrain or label-model that has no model yet."""
    before = RunFolder(path).read_config() if (path / CONFIG).is_file() else {}
    if "estimator" in before and not any((path / name).is_file() for name in (STACK, LABEL_MODEL)):
        model, command = ("label model", "label-model") if "generative_weight" in before else ("stack", "pretrain")
        raise InputError(f"{path} holds no whole {model} yet: go on with its training, {command} --resume --run {path}")


def _is_sound(stack: DBN) -> bool:
    """Whether its divisor and the shape of its images can be used."""
    shape = stack.image_shape
    is_image = shape is None or (
        [type(side) for side in shape] == [int] * 3 and min(shape) > 0 and math.prod(shape) == stack.width
    )
    named = len(stack.scaling.columns) in (0, stack.width) and stack.scaling.width(stack.width) == stack.sizes[0]
    return 0 < stack.scaling.divisor < math.inf and is_image and named


def check_number(sizes: Any, tensors: Mapping[str, Any]) -> None:
    """ValueError where there are more sizes than tensors, before all these layers are made."""
    if len(sizes) > len(tensors) + 1:
        raise ValueError(f"{len(sizes)} sizes for {len(tensors)} tensors")


def check_finite(file: Path, tensors: Mapping[str, Tensor]) -> None:
    """InputError for weights that are not finite floats."""
    for name, tensor in tensors.items():
        if not tensor.is_floating_point() and name.endswith(("weight", "bias")):
            raise corrupt_file(file, f"{name} holds {tensor.dtype}")
        if not tensor.isfinite().all():
            raise InputError(f"{file}: {name} holds values that are not finite: train it again")
