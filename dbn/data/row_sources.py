"""Sources of rows: arrays, bits, images with channels last, chosen columns, several sources joined."""

from collections.abc import Callable, Sequence
from typing import Protocol, final, runtime_checkable

import numpy as np
from numpy.typing import NDArray


@runtime_checkable
class Source(Protocol):
    """N rows of one shape and type, anywhere."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, …)."""

    @property
    def dtype(self) -> np.dtype:
        """Of the values as they are stored."""

    @property
    def resident(self) -> bool:
        """Whether the rows are in memory."""

    def take(self, rows: NDArray) -> NDArray:
        """The rows of these numbers, (n, …), a copy."""


@final
class ArrayRows:
    """Rows of an array in memory."""

    resident = True

    def __init__(self, array: NDArray) -> None:
        self.array, self.shape, self.dtype = array, array.shape, array.dtype
        self._take: Callable[[NDArray], NDArray] = array.__getitem__
        if array.flags.c_contiguous:  # else `take` copies the array first
            self._take = lambda rows: array.take(rows, 0)

    def take(self, rows: NDArray) -> NDArray:
        """As `Source.take`."""
        return self._take(rows)

    def put(self, start: int, rows: NDArray) -> None:
        """Overwrite rows `start`, `start` + 1, …."""
        self.array[start : start + len(rows)] = rows


@final
class BitRows:
    """Rows of 0 and `value` (N, V) uint8, kept as bits (N, ⌈V/8⌉) in another source."""

    dtype = np.dtype(np.uint8)

    def __init__(self, packed: Source, width: int, value: int = 1) -> None:
        self.packed, self.value, self.shape = packed, value, (packed.shape[0], width)

    @property
    def resident(self) -> bool:
        """Whether the bits are in memory."""
        return self.packed.resident

    def take(self, rows: NDArray) -> NDArray:
        """As `Source.take`."""
        bits = np.unpackbits(self.packed.take(rows), axis=1, count=self.shape[1])
        return bits if self.value == 1 else bits * np.uint8(self.value)


@final
class ChannelsFirst:
    """Images (N, H, W, C) of another source as (N, C, H, W)."""

    def __init__(self, source: Source) -> None:
        n, height, width, channels = source.shape
        self.source, self.shape, self.dtype = source, (n, channels, height, width), source.dtype

    @property
    def resident(self) -> bool:
        """Whether the images are in memory."""
        return self.source.resident

    def take(self, rows: NDArray) -> NDArray:
        """As `Source.take`."""
        return self.source.take(rows).transpose(0, 3, 1, 2)


@final
class ChosenColumns:
    """Some columns of another source, in an order of their own."""

    def __init__(self, source: Source, columns: Sequence[int]) -> None:
        self.source, self.columns, self.dtype = source, list(columns), source.dtype
        self.shape = (source.shape[0], len(self.columns))

    @property
    def resident(self) -> bool:
        """Whether the rows are in memory."""
        return self.source.resident

    def take(self, rows: NDArray) -> NDArray:
        """As `Source.take`."""
        return self.source.take(rows)[:, self.columns]


@final
class JoinedRows:
    """The rows of several sources of one shape and type, one after the other."""

    def __init__(self, parts: Sequence[Source]) -> None:
        self.parts = parts
        self.starts = np.cumsum([0, *(part.shape[0] for part in parts)])
        self.shape = (int(self.starts[-1]), *parts[0].shape[1:])
        self.dtype = parts[0].dtype

    @property
    def resident(self) -> bool:
        """Whether all parts are in memory."""
        return all(part.resident for part in self.parts)

    def take(self, rows: NDArray) -> NDArray:
        """As `Source.take`."""
        out = np.empty((len(rows), *self.shape[1:]), self.dtype)
        which = np.searchsorted(self.starts, rows, side="right") - 1
        for number in np.unique(which).tolist():
            places = which == number
            out[places] = self.parts[number].take(rows[places] - self.starts[number])
        return out
