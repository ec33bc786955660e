"""The training loop of any model, and its order of examples."""

import time
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any

import torch
from torch import Tensor
from tqdm.auto import tqdm

from dbn.rng import permutation, stream
from dbn.training import distributed
from dbn.training.device import synchronize


def shuffled_batches(n: int, batch_size: int, seed: int, *purpose: str | int, device: torch.device) -> Iterator[Tensor]:
    """Batches of the indices 0 … n−1 in the order of the seed and purpose, the same on every device and rank.

    Of every batch a rank gets its share, which may be empty.
    """
    order = permutation(n, stream(seed, "order", *purpose)).to(device)
    batches = order.split(batch_size)
    return iter(batches) if distributed.size() == 1 else (each[distributed.shard(len(each))] for each in batches)


def batch_length(number: int, n: int, batch_size: int) -> int:
    """Examples of all ranks in batch `number`, from 0, of `shuffled_batches`."""
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

    `seconds` is the time of the steps alone. Training ends early when `after_epoch` returns True. The first `done`
    batches of the first epoch are skipped.
    """
    for epoch in epochs:
        begin = time.perf_counter()
        for number, batch in enumerate(islice(batches(epoch), done, None), start=done):
            step(batch, epoch, number)
        done = 0
        synchronize(device)
        if after_epoch(epoch, time.perf_counter() - begin):
            return


def progress_bar(total: int, description: str, *, shown: bool | None, initial: int = 0) -> "tqdm[Any]":
    """A bar of rank 0 in a notebook or on standard error; None shows it where that is a terminal."""
    hidden = None if shown is None else not shown
    hidden = hidden if distributed.is_main() else True
    return tqdm(total=total, desc=description, initial=initial, disable=hidden, dynamic_ncols=True)
