"""Models to evaluate: a stack of ours, or an RBM in a file of other software, three plain arrays by name.

Nothing is unpickled, and no other array in such a file is looked at.
"""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from numpy.typing import NDArray

from dbn.errors import InputError, parsing
from dbn.models import DBN, RBM, Bernoulli, Scaling
from dbn.runs.weights import load
from dbn.storage import npz
from dbn.storage.files import read_file

KEYS = ("weight", "visible_bias", "hidden_bias")


def read_model(path: Path) -> DBN:
    """What `dbn.load` reads, or `read_rbm` does, on the CPU and in eval mode.

    InputError as for these, and for a path that is not there.
    """
    if not path.exists():
        raise InputError(f"there is no run folder or model file {path}: check the name")
    return load(path) if path.is_dir() or (path.is_file() and _is_ours(path)) else read_rbm(path)


def _is_ours(path: Path) -> bool:
    try:
        with safetensors.safe_open(path, "pt") as file:
            return "dbn" in (file.metadata() or {})
    except (OSError, ValueError, safetensors.SafetensorError):
        return False  # the reader says what is wrong with it


def read_rbm(path: Path) -> DBN:
    """The RBM of Bernoulli units in a `.npz` or `.safetensors` file, as a stack of one layer on the CPU.

    `weight` (H, V), `visible_bias` (V,), `hidden_bias` (H,), any real numbers; its data are 0 and 1, undivided.
    InputError when the file cannot be read, an array is missing, has another shape or type, or is not finite.
    """
    found = read_arrays(path, KEYS)
    for name in KEYS:
        if name not in found:
            raise InputError(f"{path} holds no array {name!r}: an RBM is {', '.join(KEYS)}, save it under these names")
        shape = found[name].shape
        if name != "weight" and (len(shape) != 1 or 0 in shape):
            raise InputError(f"{path}: {name} has shape {shape}, but one number a unit is needed: save it flat")
    shape, visible, hidden = (found[name].shape for name in KEYS)
    if shape != hidden + visible:
        advice = "transpose it" if shape == visible + hidden else "save the three arrays of one model"
        raise InputError(
            f"{path}: weight has shape {shape}, but by the biases (hidden, visible) is {hidden + visible}: {advice}"
        )
    weight, visible_bias, hidden_bias = (_floats(path, name, found[name]) for name in KEYS)
    with torch.device("meta"):
        rbm = RBM(Bernoulli(len(visible_bias)), Bernoulli(len(hidden_bias)))
    rbm.load_state_dict({"weight": weight, "visible.bias": visible_bias, "hidden.bias": hidden_bias}, assign=True)
    return DBN([rbm], Scaling(1.0)).eval()


def _floats(path: Path, name: str, array: NDArray) -> torch.Tensor:
    if array.dtype.kind not in "iuf":
        raise InputError(f"{path}: {name} holds {array.dtype}, but real numbers are needed: save them as floats")
    with np.errstate(over="ignore"):
        floats = np.array(array, np.float32, order="C")
    if not np.isfinite(floats).all():
        place = tuple(np.argwhere(~np.isfinite(floats))[0].tolist())
        raise InputError(
            f"{path}: {name} holds {floats[place]} at {place} as a 32-bit float, but only finite numbers make a model: "
            "take another copy"
        )
    return torch.from_numpy(floats)


def read_arrays(path: Path, names: Sequence[str]) -> dict[str, NDArray]:
    """Those of the named arrays that a `.npz` or `.safetensors` file holds, of any type that is no Python object.

    InputError when the file cannot be read, is damaged or of another kind.
    """
    match path.suffix.lower():
        case ".npz":
            return npz.read_arrays(io.BytesIO(read_file(path)), names, str(path))[0]
        case ".safetensors":
            data = read_file(path)
            with parsing(InputError(f"{path} is damaged or no safetensors file: take another copy or save it again")):
                loaded = safetensors.torch.load(data)
                found = {name: loaded[name] for name in names if name in loaded}
                # numpy has no bfloat16 and nothing shorter.
                is_short = {name: t.is_floating_point() and t.itemsize < 4 for name, t in found.items()}
                return {name: (t.float() if is_short[name] else t).numpy() for name, t in found.items()}
    raise InputError(f"{path}: a file of named arrays ends in .npz or .safetensors, so save it as one of these")
