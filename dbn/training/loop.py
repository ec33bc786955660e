"""The loop, which knows no model, and what every training shares: device, optimisers, order of examples."""

import time
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from dbn.rng import permutation, stream
from dbn.training import distributed
from dbn.training.device import synchronize


def shuffled_batches(n: int, batch_size: int, seed: int, *purpose: str | int, device: torch.device) -> Iterator[Tensor]:
    """The indices 0 … n−1 in the order that belongs to the seed and purpose, `batch_size` at a time.

    Of every batch a rank gets its share, which may be empty. The order is made on the CPU, so that it is the same on
    every device and rank.
    """
    order = permutation(n, stream(seed, "order", *purpose)).to(device)
    return (batch[distributed.shard(len(batch))] for batch in order.split(batch_size))


def batch_length(number: int, n: int, batch_size: int) -> int:
    """Examples in that batch of `shuffled_batches`, counted from 0, over all ranks."""
    return min(batch_size, n - number * batch_size)


def run_epochs(
    epochs: Iterable[int],
    batches: Callable[[int], Iterable[Tensor]],
    step: Callable[[Tensor, int, int], None],
    after_epoch: Callable[[int, float], bool],
    *,
    device: torch.device,
    done: int = 0,
) -> None:
    """Call `step(batch, epoch, number)` for every batch of every epoch, then `after_epoch(epoch, seconds)`.

    `seconds` is the time of the steps alone. Training ends early when `after_epoch` returns True. `done` batches of
    the first epoch are left out: an interrupted run has made them.
    """
    for epoch in epochs:
        begin = time.perf_counter()
        for number, batch in enumerate(islice(batches(epoch), done, None), start=done):
            step(batch, epoch, number)
        done = 0
        synchronize(device)
        if after_epoch(epoch, time.perf_counter() - begin):
            return


def progress_bar(total: int, description: str, *, shown: bool, initial: int = 0) -> "tqdm[Any]":
    """A bar on standard error; not shown where that is no terminal, or where nobody asked for one."""
    return tqdm(total=total, desc=description, initial=initial, disable=None if shown else True, dynamic_ncols=True)
