"""Numbers in memory, of whatever library, as numpy arrays and dense tensors."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dbn.errors import InputError

Array = Tensor | NDArray


def as_array(values: Any, name: str = "x") -> NDArray:
    """The values in numpy, on the CPU; sparse tensors filled with zeros, short floats as float32.

    InputError for rows of different lengths, and for tensors without values; `name` is what it calls them.
    """
    if isinstance(values, Tensor):
        if values.is_meta or values.is_nested:
            kind = "nested" if values.is_nested else f"of {values.dtype} on {values.device}"
            raise InputError(f"{name} is a tensor {kind}, whose values cannot be read: give floats, integers or bytes")
        return dense(values.detach()).cpu().numpy()
    try:
        return np.asarray(values)
    except (ValueError, TypeError, RuntimeError) as error:
        raise InputError(f"{name} is no array of numbers: give rows of equal length") from error


def as_tensor(values: Any, name: str = "x") -> Tensor:
    """Numbers as a dense tensor: tensors stay on their device and in their graph, all else is read by `as_array`."""
    if isinstance(values, Tensor) and not values.is_nested:
        return dense(values)
    array = as_array(values, name)
    if array.dtype.kind not in "biuf":
        raise InputError(f"{name} holds {array.dtype}, but numbers are needed (bytes, integers or floats)")
    # Types that torch computes with.
    kept = array.dtype in (np.bool_, np.uint8, np.float32, np.float64)
    kind = array.dtype.newbyteorder("=") if kept else np.float32 if array.dtype.kind == "f" else np.int64
    return torch.from_numpy(np.require(array, kind, ["C", "W"]))


def dense(x: Tensor) -> Tensor:
    """Without a sparse layout or float16, bfloat16 and shorter, which numpy or a CPU lack."""
    x = x if x.layout == torch.strided else x.to_dense()
    return x.float() if x.is_floating_point() and x.itemsize < 4 else x
