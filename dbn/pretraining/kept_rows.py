"""Rows that training computes and keeps, and rows that a thread reads ahead of training."""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from dbn.data.row_sources import ArrayRows, BitRows
from dbn.data.rows import Rows, fits
from dbn.storage.row_file import RowFile

AHEAD = 1 << 21
"""Bytes of rows that are read ahead together."""
PENDING = 2
"""How many times `AHEAD` is read ahead."""


def keep(
    parts: Iterable[Tensor],
    shape: Sequence[int],
    dtype: torch.dtype,
    origin: Tensor | Rows,
    folder: Path | None = None,
    value: int = 1,
    into: Tensor | None = None,
) -> Tensor | Rows:
    """`parts`, which make up N rows (N, V) computed from `origin`, on its device.

    They become one tensor there where they fit, `into` if that is given. Otherwise uint8, which are 0 or `value`, are
    kept as bits; and if `origin` is on the disk, what exceeds `RESIDENT` goes into a temporary file, in `folder` if
    given. InputError where the disk has no room.
    """
    device, packed = origin.device, dtype == torch.uint8
    streamed = isinstance(origin, Rows) and origin.streamed
    n_bytes = shape[0] * shape[1] * dtype.itemsize
    if (
        into is not None
        or fits(n_bytes, device)
        or (device.type != "cpu" and isinstance(origin, Tensor))
        or not (packed or streamed)
    ):
        kept = torch.empty(shape, dtype=dtype, device=device) if into is None else into
        _fill(kept, parts)
        return kept
    width = -(-shape[1] // 8) if packed else shape[1]
    kind = np.dtype(np.uint8 if packed else np.float32)
    if streamed and not fits(shape[0] * width * kind.itemsize):
        source: RowFile | ArrayRows = RowFile.temporary(
            (shape[0], width), kind, folder, f"{shape[0]:,} rows of {shape[1]:,} values computed from the data"
        )
    else:
        source = ArrayRows(np.empty((shape[0], width), kind))
    start = 0
    for part in parts:
        rows = part.cpu().numpy()
        source.put(start, np.packbits(rows, axis=1) if packed else rows)
        start += len(rows)
    return Rows(BitRows(source, shape[1], value) if packed else source, device=device)


def _fill(kept: Tensor, parts: Iterable[Tensor]) -> None:
    start = 0
    for part in parts:
        kept[start : start + len(part)] = part
        start += len(part)


def read_ahead(rows: Rows, batches: Iterator[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
    """Every batch of indices with its rows, which one thread reads while earlier ones are used."""
    each = rows.shape[1] * rows.dtype.itemsize

    def read(group: list[Tensor]) -> list[Tensor]:
        found = rows.index_select(0, torch.cat(group))
        # Of its own memory each: a tensor's alignment may decide on the last bit.
        return [part.clone() for part in found.split([len(indices) for indices in group])]

    def group() -> Iterator[list[Tensor]]:
        for first in batches:
            more = AHEAD // max(1, each * len(first)) - 1
            yield [first, *islice(batches, max(0, more))]

    with ThreadPoolExecutor(1, "read ahead") as thread:
        groups, pending = group(), deque[tuple[list[Tensor], Future[list[Tensor]]]]()
        pending.extend((indices, thread.submit(read, indices)) for indices in islice(groups, PENDING))
        while pending:
            indices, found = pending.popleft()
            ready = found.result()
            pending.extend((indices, thread.submit(read, indices)) for indices in islice(groups, 1))
            yield from zip(indices, ready, strict=True)
