"""Rows of numbers in a file, read and written in place: nothing is mapped, so no page of the file counts as memory."""

import math
import os
import shutil
import tempfile
import threading
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Self, final

import numpy as np
from numpy.typing import DTypeLike, NDArray

from dbn.errors import InputError
from dbn.storage.files import io_error

DENSE = 2
"""Rows are read in one piece with those between them where that is at most so many times as much."""
ROOM = 1 << 30
"""Bytes that a temporary file leaves free on its disk."""


@final
class RowFile:
    """N rows of one shape and type in a file, from byte `offset` on, `stride` bytes apart."""

    resident = False
    """Whether the rows are in memory."""

    def __init__(
        self, descriptor: int, name: str, shape: Sequence[int], dtype: DTypeLike, offset: int = 0, stride: int = 0
    ) -> None:
        """descriptor: of the open file, closed with this object. name: what errors call the file."""
        weakref.finalize(self, os.close, descriptor)
        self.descriptor, self.name, self.offset = descriptor, name, offset
        self.shape, self.dtype = tuple(shape), np.dtype(dtype)
        self.row_bytes = math.prod(self.shape[1:]) * self.dtype.itemsize
        self.stride = stride or self.row_bytes
        self._lock = threading.Lock()

    @classmethod
    def open(cls, path: Path | str, shape: Sequence[int], dtype: DTypeLike, offset: int = 0, stride: int = 0) -> Self:
        """The rows of an existing file, for reading. InputError where it cannot be opened."""
        try:
            descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
        except OSError as error:
            raise io_error(Path(path), "read", error) from error
        return cls(descriptor, str(path), shape, dtype, offset, stride)

    @classmethod
    def temporary(cls, shape: Sequence[int], dtype: DTypeLike, folder: Path | None, what: str) -> Self:
        """Rows to be written, in a file without a name that goes with the process: in `folder`, or where temporary
        files are. InputError where they would not leave `ROOM` on the disk; `what` is what it calls them.
        """
        place = Path(folder or tempfile.gettempdir())
        needed = math.prod(shape) * np.dtype(dtype).itemsize
        try:
            free = shutil.disk_usage(place).free
            if needed + ROOM > free:
                raise InputError(
                    f"{what} take {needed / 2**30:.1f} GiB, which {place} does not have (free: {free / 2**30:.1f} GiB, "
                    f"of which {ROOM >> 30} stays free): make room, or choose another disk by --run or TMPDIR"
                )
            with tempfile.TemporaryFile(dir=place) as file:
                descriptor = os.dup(file.fileno())
        except OSError as error:
            raise io_error(place, "written", error) from error
        return cls(descriptor, f"a temporary file in {place}", shape, dtype)

    def take(self, rows: NDArray) -> NDArray:
        """The rows of these numbers, in their order. InputError where the file cannot be read."""
        order = np.argsort(rows, kind="stable")  # that of the file, which disks prefer
        ordered = rows[order]
        out = np.empty((len(rows), self.row_bytes), np.uint8)
        if len(rows):
            first, last = int(ordered[0]), int(ordered[-1])
            if self.stride == self.row_bytes and last - first < DENSE * len(rows):
                span = np.empty((last - first + 1, self.row_bytes), np.uint8)
                self._read(span.reshape(-1).data, first)
                out = span if len(span) == len(rows) and (ordered == rows).all() else span[rows - first]
            else:
                places = out.reshape(-1).data
                for place, row in zip((order * self.row_bytes).tolist(), ordered.tolist(), strict=True):
                    self._read(places[place : place + self.row_bytes], row)
        return out.view(self.dtype).reshape(len(rows), *self.shape[1:])

    def put(self, start: int, rows: NDArray) -> None:
        """Write rows `start`, `start` + 1, …. InputError where the disk is full."""
        content = np.ascontiguousarray(rows, self.dtype).reshape(-1).view(np.uint8).data
        try:
            with self._lock:
                os.lseek(self.descriptor, self.offset + start * self.stride, os.SEEK_SET)
                while content:
                    content = content[os.write(self.descriptor, content) :]
        except OSError as error:
            raise io_error(Path(self.name), "written", error) from error

    def _read(self, into: memoryview, row: int) -> None:
        place = self.offset + row * self.stride
        try:
            while into:
                n = self._read_at(into, place)
                if n == 0:
                    raise InputError(f"{self.name} has become shorter since it was opened: put it back and start again")
                into, place = into[n:], place + n
        except OSError as error:
            raise io_error(Path(self.name), "read", error) from error

    def _read_at(self, into: memoryview, place: int) -> int:
        if hasattr(os, "preadv"):
            return os.preadv(self.descriptor, [into], place)
        with self._lock:
            os.lseek(self.descriptor, place, os.SEEK_SET)
            content = os.read(self.descriptor, len(into))
        into[: len(content)] = content
        return len(content)
