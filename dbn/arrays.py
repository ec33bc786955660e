"""Numbers in memory, of whatever library, as numpy arrays and dense tensors.

Every kind of object is known or refused: `numpy.asarray` of one that it does not know drops masks, glues the tensors of
a data set together, and makes objects of frames.
"""

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import wraps
from typing import Any, ParamSpec, Protocol, TypeVar

import narwhals as nw
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dbn.errors import InputError, MissingValue

P = ParamSpec("P")
T = TypeVar("T")


class LazyRows(Protocol):
    """Rows (N, V) that are not one tensor, as `dbn.data.rows.Rows` are."""

    shape: torch.Size
    dtype: torch.dtype
    device: torch.device

    def __len__(self) -> int: ...

    def __getitem__(self, rows: slice | Tensor, /) -> Tensor: ...

    def split(self, n: int) -> Iterable[Tensor]:
        """All rows, `n` at a time."""

    def aminmax(self) -> Any:
        """The least and the greatest value."""

    def with_columns(self, columns: Sequence[int]) -> "LazyRows":
        """These columns, in this order."""


AnyRows = Tensor | LazyRows
Array = Tensor | NDArray | LazyRows | Any
"""Rows of any kind: an array, a tensor, a frame, a sparse array, a list of rows, a torch data set."""

TOP = 127
"""Bytes above it are of 0 … 255: nothing else sets the highest of eight bits."""
LARGEST_DENSE = 1 << 33
"""Bytes that a sparse array may take when its zeros are filled in."""
KINDS = "an array, a tensor, a frame, a sparse array or a list of rows"


def as_array(values: Any, name: str = "x") -> NDArray:
    """The values in numpy, on the CPU: sparse ones filled with zeros, short floats as float32, frames column by column.

    Missing values of frames are NaN, or None beside text. InputError for masked entries, rows of different lengths,
    tensors without values, and any other kind of object; `name` is what it calls them.
    """
    if isinstance(values, Tensor):
        if values.is_meta or values.is_nested:
            kind = "nested" if values.is_nested else f"of {values.dtype} on {values.device}"
            raise InputError(f"{name} is a tensor {kind}, whose values cannot be read: give floats, integers or bytes")
        return dense(values.detach(), name).cpu().numpy()
    if isinstance(values, np.ma.MaskedArray):
        return _unmasked(values, name)
    if _is_sparse(values):
        return _filled(values, name)
    frame = frame_of(values, name)
    if isinstance(frame, nw.Series):
        return _column(frame)
    if frame is not None:
        return _stacked([_column(column) for column in frame.iter_columns()], len(frame))
    if isinstance(values, list | tuple) and any(isinstance(each, Tensor | np.ma.MaskedArray) for each in values):
        values = [as_array(each, name) for each in values]
    if not isinstance(values, np.ndarray | np.generic | list | tuple | int | float) and not (
        hasattr(values, "__array__") or hasattr(values, "__array_interface__")
    ):
        raise InputError(f"{name} is a {type(values).__name__}, but {KINDS} is needed")
    try:
        return np.asarray(values)
    except (ValueError, TypeError, RuntimeError) as error:
        raise InputError(f"{name} is no array of numbers: give rows of equal length") from error


def as_cells(values: Any, name: str = "x") -> NDArray:
    """As `as_array`, but the values of frames and lists stay what they are, each an object: 1, True, "red", None."""
    frame = frame_of(values, name)
    if not isinstance(frame, nw.DataFrame):
        is_list = isinstance(values, list | tuple)
        return as_array(np.array(values, object) if is_list else values, name)
    cells = np.empty((len(frame), len(frame.columns)), object)
    for place, column in enumerate(frame.iter_columns()):
        cells[:, place] = column.to_list()
    return cells


def frame_of(values: Any, name: str = "x") -> Any:
    """The pandas, polars or Arrow frame or series as one of narwhals; None for any other object."""
    try:
        frame = nw.from_native(values, pass_through=True, allow_series=True)
    except nw.exceptions.DuplicateError as error:
        twice = next(iter(str(error).partition("'")[2].split("'")))
        raise InputError(f"{name} has two columns called {twice!r}, rename one of them") from error
    if isinstance(frame, nw.LazyFrame):
        raise InputError(f"{name} is a lazy frame, give the collected one: {name}.collect()")
    return frame if isinstance(frame, nw.DataFrame | nw.Series) else None


def columns_of(values: Any) -> tuple[str, ...]:
    """The names of a frame's columns; () for anything else, and for a frame whose columns are numbered."""
    if isinstance(values, Tensor | np.ndarray):
        return ()
    frame = frame_of(values)
    names = frame.columns if isinstance(frame, nw.DataFrame) else []
    return tuple(map(str, names)) if any(isinstance(each, str) for each in names) else ()


def _column(series: "nw.Series[Any]") -> NDArray:
    """(N,): numbers and booleans as such, with NaN where one is missing; all else as objects, with None."""
    missing = series.is_null().to_numpy()
    values = series.to_numpy()
    if not missing.any():
        return values
    if series.dtype.is_numeric() or series.dtype == nw.Boolean:
        return np.where(missing, np.nan, np.where(missing, 0, values).astype(np.float64))
    values = values.astype(object)
    values[missing] = None
    return values


def _stacked(columns: list[NDArray], rows: int) -> NDArray:
    """(N, V): of one type if all are, float32 for several types of numbers, else objects."""
    kinds = {column.dtype for column in columns}
    numbers = all(kind.kind in "biuf" for kind in kinds)
    kind = kinds.pop() if len(kinds) == 1 else np.dtype(np.float32 if numbers else object)
    stacked = np.empty((rows, len(columns)), kind)
    for place, column in enumerate(columns):
        with np.errstate(over="ignore"):  # infinity is refused where it is checked
            stacked[:, place] = column
    return stacked


def _unmasked(values: "np.ma.MaskedArray[Any, Any]", name: str) -> NDArray:
    """The array under a mask that hides nothing."""
    mask = np.ma.getmaskarray(values)
    if mask.any():
        place = ", ".join(
            f"{axis} {index}" for axis, index in zip(_axes(mask.ndim), np.argwhere(mask)[0].tolist(), strict=True)
        )
        raise MissingValue(
            f"{name}, {place} (counted from 0) is masked, as {int(mask.sum()):,} of {mask.size:,} entries are, but "
            "missing values cannot be learned: fill them in, as with .filled(0.5), or remove their rows"
        )
    return values.data


def with_holes(values: Any) -> Any:
    """A masked array as floats with NaN where the mask is, any other object as it is."""
    if not isinstance(values, np.ma.MaskedArray):
        return values
    hole: Any = None if values.dtype == object else np.nan
    kind = object if values.dtype == object else np.float64
    return np.where(np.ma.getmaskarray(values), hole, values.data.astype(kind))


def tensor_with_holes(values: Any, name: str = "x") -> Tensor:
    """As `as_tensor`, with NaN for masked entries and for None."""
    values = with_holes(values)
    if isinstance(values, Tensor):
        return as_tensor(values, name)
    array = as_array(values, name)
    if array.dtype == object:
        with suppress(TypeError, ValueError):
            array = array.astype(np.float64)
    return as_tensor(array, name)


def _axes(n: int) -> list[str]:
    return ["row", "column"][:n] if n <= 2 else ["row", *(f"index of axis {axis}" for axis in range(1, n))]


def _is_sparse(values: Any) -> bool:
    """Whether the object is a sparse array or matrix of scipy, without importing it."""
    return type(values).__module__.startswith("scipy.sparse") and hasattr(values, "toarray")


def _filled(values: Any, name: str) -> NDArray:
    """(N, V) of a sparse array: bytes and bool as they are, all else as float32."""
    if values.dtype not in (np.bool_, np.uint8) and values.dtype.kind in "biuf":
        with np.errstate(over="ignore"):
            values = values.astype(np.float32)
    check_dense(values.shape, values.dtype.itemsize, name)
    return np.asarray(values.toarray())


def check_dense(shape: tuple[int, ...], itemsize: int, name: str) -> None:
    """InputError where the zeros of a sparse array of that shape take too much memory."""
    needed = float(np.prod([float(n) for n in shape])) * itemsize
    if needed > LARGEST_DENSE:
        raise InputError(
            f"{name} is sparse and would take {needed / 2**30:.1f} GiB with its zeros filled in, more than "
            f"{LARGEST_DENSE >> 30} GiB: choose fewer rows or columns"
        )


def as_tensor(values: Any, name: str = "x") -> Tensor:
    """Numbers as a dense tensor: tensors stay on their device and in their graph, all else is read by `as_array`."""
    if isinstance(values, Tensor) and not values.is_nested:
        return dense(values, name)
    array = as_array(values, name)
    if array.dtype.kind not in "biuf":
        raise InputError(f"{name} holds {array.dtype}, but numbers are needed (bytes, integers or floats)")
    # Types that torch computes with.
    kept = array.dtype in (np.bool_, np.uint8, np.float32, np.float64)
    kind = array.dtype.newbyteorder("=") if kept else np.float32 if array.dtype.kind == "f" else np.int64
    return torch.from_numpy(np.require(array, kind, ["C", "W"]))


def observed_ends(x: AnyRows) -> Any:
    """The least and the greatest value, of those that are not NaN, as `torch.aminmax`."""
    ends = x.aminmax()
    if isinstance(x, Tensor) and bool(ends.min.isnan()) and len(there := x[~x.isnan()]):
        return there.aminmax()
    return ends


def as_values(x: Array, dtype: torch.dtype, name: str = "x") -> Tensor:
    """Numbers of any type and library as a dense tensor of a floating type, itself where it is one; see `as_tensor`."""
    if isinstance(x, Tensor) and x.dtype == dtype and x.layout == torch.strided:
        return x
    return as_tensor(x, name).to(dtype)


def in_type(x: Tensor, dtype: torch.dtype) -> Tensor:
    """`x.to(dtype)`, without asking torch where there is nothing to do: that takes as long as a small operation."""
    return x if x.dtype == dtype else x.to(dtype)


def without_gradients(function: Callable[P, T]) -> Callable[P, T]:
    """`torch.no_grad()` as a decorator, which costs nothing where gradients are off already, as within a step."""

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        if not torch.is_grad_enabled():
            return function(*args, **kwargs)
        with torch.no_grad():
            return function(*args, **kwargs)

    return call


def floats(x: Tensor) -> Tensor:
    """float32 and float64 as they are, every other type as float32."""
    return x if x.dtype in (torch.float32, torch.float64) else as_values(x, torch.float32)


def dense(x: Tensor, name: str = "x") -> Tensor:
    """Without a sparse layout or float16, bfloat16 and shorter, which numpy or a CPU lack.

    InputError for complex numbers, and for sparse ones that take too much memory.
    """
    if x.is_complex():
        raise InputError(f"{name} holds complex numbers, but real ones are needed: give two columns for each")
    if x.layout != torch.strided:
        check_dense(tuple(x.shape), x.itemsize, name)
        x = x.to_dense()
    return x.float() if x.is_floating_point() and x.itemsize < 4 else x
