"""Rows of a data set that are not one tensor: some rows of an array, or rows on the disk."""

import math
import mmap
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from typing import Any, NamedTuple, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dbn.data.row_sources import ArrayRows, ChosenColumns, Source
from dbn.errors import InputError
from dbn.storage.row_file import RowFile

RESIDENT = 1 << 26
"""Bytes of rows that are copied into memory at once; beyond it rows of arrays are used in place, and those on the disk
are read when they are needed."""
CPU = torch.device("cpu")
PIECE = 1 << 23
"""Bytes that are looked at together."""


class Ends(NamedTuple):
    """As `torch.aminmax` returns them."""

    min: Tensor
    max: Tensor


@final
class Rows:
    """Rows (N, V) of a source, or some of them: bytes and bool as uint8, all else as float32.

    Does what a tensor of rows does for training: `len`, `shape`, `dtype`, `device`, indexing and `index_select`, which
    read the rows and give tensors on `device`; `split`, `aminmax`, `to`.

    >>> rows = Rows(ArrayRows(np.arange(6.0).reshape(3, 2)), torch.tensor([2, 0]))
    >>> rows[:1], rows.shape
    (tensor([[4., 5.]]), torch.Size([2, 2]))
    """

    def __init__(self, source: Source, chosen: Tensor | None = None, device: torch.device | str = "cpu") -> None:
        """chosen: (N,) numbers of rows of the source, all by default."""
        self.source, self.chosen, self.device = source, chosen, torch.device(device)
        self.shape = torch.Size(
            [source.shape[0] if chosen is None else len(chosen), math.prod(source.shape[1:])],
        )
        self.dtype = torch.uint8 if source.dtype in (np.bool_, np.uint8) else torch.float32

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice | Tensor) -> Tensor:
        if isinstance(rows, slice):
            return self.index_select(0, torch.arange(*rows.indices(len(self)), device="cpu"))
        return self.index_select(0, rows.nonzero().squeeze(1) if rows.dtype == torch.bool else rows)

    def index_select(self, dim: int, index: Tensor) -> Tensor:
        """The rows of these numbers, in memory that torch has allocated: its alignment may decide on the last bit."""
        if dim != 0:
            raise ValueError("rows are chosen along dimension 0")
        index = index.cpu() if self.chosen is None else self.chosen[index.cpu()]
        found = self.source.take(index.numpy())
        tensor = torch.empty(len(found), self.shape[1], dtype=self.dtype, pin_memory=self.device.type == "cuda")
        with np.errstate(over="ignore"):
            np.copyto(tensor.numpy(), found.reshape(tensor.shape), casting="unsafe")
        return tensor.to(self.device, non_blocking=True)

    @property
    def nbytes(self) -> int:
        """As a tensor."""
        return self.shape.numel() * self.dtype.itemsize

    @property
    def streamed(self) -> bool:
        """Whether rows come from the disk."""
        return not self.source.resident

    def choose(self, rows: Tensor) -> "Rows":
        """The rows of these numbers, without reading them."""
        chosen = rows if self.chosen is None else self.chosen[rows]
        return Rows(self.source, chosen.int() if self.source.shape[0] < 2**31 else chosen, self.device)

    def split(self, n: int) -> "Slices":
        """All rows, `n` at a time, as often as it is asked for."""
        return Slices(self, n)

    def with_columns(self, columns: Sequence[int]) -> "Rows":
        """These columns, in this order."""
        return Rows(ChosenColumns(self.source, columns), self.chosen, self.device)

    def aminmax(self, *, dim: int | None = None) -> "Ends":
        """Least and greatest value, of all or (`dim` 0) of each column."""
        least, greatest = self._range
        return Ends(least, greatest) if dim == 0 else Ends(least.min(), greatest.max())

    @cached_property
    def _range(self) -> tuple[Tensor, Tensor]:
        least, greatest = self[:1][0], self[:1][0]
        for part in pieces(self):
            torch.minimum(least, part.amin(0), out=least)
            torch.maximum(greatest, part.amax(0), out=greatest)
        return least, greatest

    def to(self, device: torch.device | str) -> "Tensor | Rows":
        """On a device: a tensor where it fits there, else rows that are moved as they are read."""
        moved = Rows(self.source, self.chosen, device)
        stays = moved.device.type != "cpu" and (self.source.resident or fits(self.nbytes, moved.device))
        return in_memory(moved) if stays else moved


@final
class Slices:
    """Rows, some at a time."""

    def __init__(self, rows: Rows, n: int) -> None:
        self.rows, self.n = rows, n

    def __iter__(self) -> Iterator[Tensor]:
        return (self.rows[start : start + self.n] for start in range(0, len(self.rows), self.n))


def nbytes_of(source: Source) -> int:
    """As a tensor."""
    return math.prod(source.shape) * (1 if source.dtype in (np.bool_, np.uint8) else 4)


def fits(nbytes: int, device: torch.device = CPU) -> bool:
    """Whether rows from elsewhere may stay on the device: at most `RESIDENT`, on a GPU half of its free memory."""
    return nbytes <= (torch.cuda.mem_get_info(device)[0] // 2 if device.type == "cuda" else RESIDENT)


def in_memory(x: Tensor | Rows) -> Tensor:
    """All rows as a tensor on their device."""
    if isinstance(x, Tensor):
        return x
    out = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    start = 0
    for part in pieces(x):
        out[start : start + len(part)] = part
        start += len(part)
    return out


def pieces(x: Tensor | Rows) -> Iterable[Tensor]:
    """All rows, (N, V) or (N,), about `PIECE` bytes at a time."""
    parts: Iterable[Tensor] = x.split(max(1, PIECE // max(1, math.prod(x.shape[1:]) * x.dtype.itemsize)))
    return parts


def select(x: Tensor | Rows, mask: Tensor) -> Tensor | Rows:
    """The rows of a mask (N,): a copy where it is small or `x` not in the host's memory, else the rows in place."""
    n = int(mask.sum())
    if fits(n * x.shape[1] * x.dtype.itemsize) or (isinstance(x, Tensor) and x.device.type != "cpu"):
        return x[mask]
    return (Rows(ArrayRows(x.numpy())) if isinstance(x, Tensor) else x).choose(mask.nonzero().squeeze(1))


def in_place(x: Any) -> Source | None:
    """The rows of a source, or of a large array, perhaps mapped; None for an array that is small or fit for torch."""
    if not isinstance(x, np.ndarray):
        return x  # type: ignore[no-any-return]
    if fits(nbytes_of(x)):  # type: ignore[arg-type]
        return None
    mapped = _mapped_file(x)
    as_it_is = x.flags.c_contiguous and x.flags.writeable and x.dtype in (np.bool_, np.uint8, np.float32)
    return mapped or (None if as_it_is else ArrayRows(x))


def _mapped_file(x: NDArray) -> RowFile | None:
    """The file behind an array that `np.memmap` or `np.load(…, mmap_mode="r")` gave, or a view of such."""
    root: Any = x
    while isinstance(root.base, np.ndarray):
        root = root.base
    if not (isinstance(root, np.memmap) and isinstance(root.base, mmap.mmap) and root.filename):
        return None
    if root.mode not in ("r", "r+") or not x[0].flags.c_contiguous or x.strides[0] <= 0:
        return None
    offset = root.offset + x.__array_interface__["data"][0] - root.__array_interface__["data"][0]
    try:
        file = RowFile.open(root.filename, x.shape, x.dtype, offset, x.strides[0])
        ends = np.array([0, len(x) - 1])
        # The file of that name may be another by now.
        return file if file.take(ends).tobytes() == x[ends].tobytes() else None
    except InputError:
        return None
