"""Rows of a map-style `torch.utils.data.Dataset`, an example at a time."""

import threading
from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from dbn.errors import InputError


@final
class DatasetRows:
    """The examples of a data set that has a length: x of each item, which is x or (x, label, …).

    InputError for a data set without length or examples, and for examples of another shape or type than the first.
    """

    resident = False

    def __init__(self, dataset: "Dataset[Any]") -> None:
        try:
            n = len(dataset)  # type: ignore[arg-type]
        except TypeError:
            raise InputError(
                f"{type(dataset).__name__} has no length, but examples are read in random order: give a data set with "
                "__len__ and __getitem__"
            ) from None
        if n == 0:
            raise InputError(f"{type(dataset).__name__} is empty: give a data set with examples")
        self.dataset = dataset
        self._lock = threading.Lock()  # not every data set may be read by two threads at once
        first = _example(dataset[0], 0)
        self.shape, self.dtype = (n, *(first.shape or (1,))), first.dtype

    def take(self, rows: NDArray) -> NDArray:
        """As `Source.take`."""
        numbers = rows.tolist()
        with self._lock:
            several = getattr(self.dataset, "__getitems__", None)
            items = several(numbers) if several else map(self.dataset.__getitem__, numbers)
            found = [_example(item, number) for number, item in zip(numbers, items, strict=True)]
        out = np.empty((len(rows), *self.shape[1:]), self.dtype)
        for place, x in enumerate(found):
            if (x.shape or (1,)) != self.shape[1:] or x.dtype != self.dtype:
                raise InputError(
                    f"example {numbers[place]} of the data set is {x.dtype} of shape {x.shape}, but the first is "
                    f"{self.dtype} of shape {self.shape[1:]}: make all alike"
                )
            out[place] = x
        return out


def _example(item: Any, number: int) -> NDArray:
    x = item[0] if isinstance(item, tuple | list) else item
    if isinstance(x, Tensor):
        x = x.detach().cpu()
        x = x.to(torch.float32) if x.is_floating_point() else x  # numpy has no bfloat16
    x = np.asarray(x)
    if x.dtype.kind not in "biuf":
        raise InputError(
            f"example {number} of the data set is {type(item).__name__} of {x.dtype}, but an array of numbers, or a "
            "tuple or list that begins with one, is needed"
        )
    return x
