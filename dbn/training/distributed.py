"""Several processes, on one host or many, that train one model together: what torchrun starts, each a rank.

The only module that knows torch.distributed. Within `process_group` the ranks act as one; everywhere else, and under a
single process, there is one rank, number 0, and nothing here does or costs anything. What the docstrings call
collective is called by all ranks alike, in the same order, or they wait for each other until `TIMEOUT`.
"""

import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, Final, final

import torch
from torch import Tensor, distributed, nn

from dbn.errors import InputError
from dbn.storage.tensors import pack, unpack

TIMEOUT: Final = timedelta(minutes=10)
"""Longest wait for another rank; rank 0 measures meanwhile. One that ends is noticed at once."""


PATIENCE: Final = timedelta(seconds=2)
"""For what rank 0 may have to say."""


SYNC_EVERY: Final = 16
"""Steps from one question that all ranks must answer alike to the next, where one would cost too much."""


_device: torch.device | None = None
"""Where tensors are exchanged; None outside `process_group` and for a process alone."""


_connection: Any = None
"""The store at which the processes meet."""


class RankLost(InputError):
    """Another rank has ended, or did not answer in time."""


def started() -> int:
    """The processes that torchrun started, 1 without it."""
    return int(os.environ["WORLD_SIZE"]) if {"RANK", "WORLD_SIZE"} <= os.environ.keys() else 1


def started_here() -> int:
    """Those of them on this host."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1")) if started() > 1 else 1


def local_rank() -> int:
    """The number of this process among those on its host."""
    return int(os.environ.get("LOCAL_RANK", "0")) if started() > 1 else 0


@contextmanager
def process_group(device: torch.device) -> Iterator[None]:
    """Within, the processes that torchrun started are the ranks of one run, each on its device.

    On CPUs they speak gloo and share the cores of their host, since torchrun gives each a single thread unless
    OMP_NUM_THREADS says otherwise. On GPUs they speak NCCL.

    device: the CPU, or a GPU of this rank's own. RankLost if they do not find each other.
    """
    global _device
    if started() == 1:
        yield
        return
    if device.type == "cpu" and os.environ.get("OMP_NUM_THREADS", "1") == "1":
        torch.set_num_threads(threads_each(started_here()))
    from torch.distributed.distributed_c10d import PrefixStore  # not in a torch without torch.distributed

    on_gpu = device.type == "cuda"
    if on_gpu:
        torch.cuda.set_device(device)
    with naming_lost_ranks():
        distributed.init_process_group(
            "nccl" if on_gpu and distributed.is_nccl_available() else "gloo",
            store=PrefixStore("dbn", _store(TIMEOUT)),
            rank=int(os.environ["RANK"]),
            world_size=started(),
            timeout=TIMEOUT,
            device_id=device if on_gpu else None,
        )
    _device = device
    try:
        yield
        barrier()  # whoever ends first would be missed by the others
    finally:
        _device = None
    distributed.destroy_process_group()


def rank() -> int:
    """The number of this process, 0 … size − 1."""
    return 0 if _device is None else distributed.get_rank()


def size() -> int:
    """How many train together."""
    return 1 if _device is None else distributed.get_world_size()


def is_main() -> bool:
    """Whether this is rank 0, which alone writes and measures."""
    return rank() == 0


def shard(n: int) -> slice:
    """The places of this rank among 0 … n−1: shares follow each other and differ in size by at most one."""
    whole, more = divmod(n, size())
    start = rank() * whole + min(rank(), more)
    return slice(start, start + whole + (rank() < more))


def check_shares(name: str, n: int | None) -> None:
    """InputError where an option gives fewer than there are processes to share it."""
    if n is not None and n < size():
        raise InputError(f"--{name} {n} cannot be shared by {size()} processes: raise it, or start fewer")


# Collective calls


def check_alike(state: Any) -> None:
    """InputError on every rank unless all hold the same options and data, in a state as `broadcast_state` takes it."""
    if any_rank(broadcast_state(state) != state):
        raise InputError(
            "the processes have different options or data: give all the same command and files, and with --resume a "
            "run folder that all can read"
        )


def barrier() -> None:
    """For all ranks to come here."""
    any_rank(False)


def any_rank(found: bool) -> bool:
    """Whether any rank found it: a decision that all take alike."""
    if size() == 1:
        return found
    flag = torch.tensor(int(found), device=_device)
    all_reduce_sum(flag)
    return bool(flag)


def all_reduce_sum(tensor: Tensor) -> None:
    """Replace it by its sum over ranks, the same bits on each."""
    if size() > 1:
        with naming_lost_ranks():
            distributed.all_reduce(tensor)


def broadcast_tensors(tensors: Iterable[Tensor]) -> None:
    """Overwrite them by those of rank 0: machines of different makes may round differently."""
    if size() > 1:
        with naming_lost_ranks():
            for tensor in tensors:
                distributed.broadcast(tensor.detach(), 0)


def broadcast_state(state: Any) -> Any:
    """What rank 0 gave, on every rank: a state as `storage.pack` takes it; tensors arrive on the ranks' devices."""
    if size() == 1:
        return state
    tensors, skeleton = pack(state) if is_main() else ({}, None)
    kinds = [(name, list(t.shape), str(t.dtype).removeprefix("torch.")) for name, t in tensors.items()]
    text = _text_from_first(json.dumps([skeleton, kinds]))
    skeleton, kinds = json.loads(text)
    received = {
        name: tensors[name].to(_device, copy=True).contiguous()
        if is_main()
        else torch.empty(shape, dtype=getattr(torch, dtype), device=_device)
        for name, shape, dtype in kinds
    }
    broadcast_tensors(received.values())
    return unpack(received, skeleton)


def _text_from_first(text: str) -> str:
    letters = torch.tensor(list(text.encode()), dtype=torch.uint8, device=_device)
    length = torch.tensor(len(letters), device=_device)
    broadcast_tensors([length])
    if not is_main():
        letters = letters.new_empty(int(length))
    broadcast_tensors([letters])
    return bytes(letters.tolist()).decode()


def averaging(network: nn.Module) -> nn.Module:
    """The network itself, but backward passes average the gradients of what learns now over ranks.

    torch's DistributedDataParallel, made anew when other parameters learn; they all become those of rank 0. Collective.
    """
    if size() == 1:
        return network
    from torch.nn.parallel import DistributedDataParallel

    with naming_lost_ranks():
        return DistributedDataParallel(network)


@contextmanager
def host_by_host() -> Iterator[None]:
    """One process of each host goes first, as long as there may be files to fetch; collective."""
    if local_rank() != 0:
        barrier()
    yield
    if local_rank() == 0:
        barrier()


@final
class FlatGradient:
    """The `.grad` of parameters as views of one buffer with room behind them, for one sum over ranks a step."""

    def __init__(self, parameters: Iterable[nn.Parameter], room: int) -> None:
        """room: further numbers that `all_reduce_sum` can take."""
        learned = list(parameters)
        self.buffer = learned[0].new_zeros(sum(p.numel() for p in learned) + room)
        *gradients, self.room = self.buffer.split([*(p.numel() for p in learned), room])
        for parameter, gradient in zip(learned, gradients, strict=True):
            parameter.grad = gradient.view_as(parameter)

    def all_reduce_sum(self, *more: Tensor) -> None:
        """Replace the gradients, and `more`, by their sums over ranks; collective."""
        places = self.room.split([each.numel() for each in more])
        for place, each in zip(places, more, strict=True):
            place.copy_(each.view(-1))
        all_reduce_sum(self.buffer)
        for place, each in zip(places, more, strict=True):
            each.copy_(place.view_as(each))


# When it goes wrong


@contextmanager
def naming_lost_ranks() -> Iterator[None]:
    """Within, what torch says when another rank has ended becomes a `RankLost`."""
    try:
        yield
    except RuntimeError as error:
        if not isinstance(error, distributed.DistError) and "gloo" not in str(error).lower():
            raise
        number = os.environ.get("RANK", "0")
        raise RankLost(
            f"rank {number} of {started()} has lost another, which ended or did not answer within "
            f"{TIMEOUT.total_seconds():g} seconds: see what it said before, then go on with --resume"
        ) from error


def speaks(error: BaseException | None = None) -> bool:
    """Whether this process is to say why all end: of several the first that asks, rank 0 rather than another."""
    if started() == 1:
        return True
    try:
        store = _store(5 * PATIENCE)
        # Whoever was lost has spoken before it ended, if it could.
        if os.environ["RANK"] != "0" and not isinstance(error, RankLost):
            _wait_for_another(store)
        return bool(store.add("spoken", 1) == 1)
    except RuntimeError:
        return True  # twice is better than never


def _wait_for_another(store: Any) -> None:
    try:
        store.wait(["spoken"], PATIENCE)
    except RuntimeError:
        return


def _store(timeout: timedelta) -> Any:
    global _connection
    if _connection is None:
        from torch.distributed.rendezvous import rendezvous

        _connection, _, _ = next(rendezvous("env://", timeout=timeout))
    return _connection


def threads_each(workers: int) -> int:
    """The cores that this process may use, shared among workers."""
    # Not os.cpu_count: a process may be bound to some of them.
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // workers)
