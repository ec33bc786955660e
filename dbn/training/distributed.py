"""Data-parallel training by several processes, the ranks, on one host or many, started by torchrun.

The only module that uses torch.distributed. Outside `process_group`, and in a single process, there is one rank, number
0, and nothing here has a cost. Collective calls are made by all ranks in the same order; others wait until `TIMEOUT`.
"""

import gc
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any, Final, final

import torch
from torch import Tensor, distributed, nn

from dbn.errors import InputError
from dbn.storage.tensors import pack, unpack

TIMEOUT: Final = timedelta(minutes=10)
"""Longest wait for another rank, such as rank 0 while it measures. One that ends is noticed at once."""
PATIENCE: Final = timedelta(seconds=2)
"""Wait for an error message of rank 0."""
SYNC_EVERY: Final = 16
"""Steps between questions to all ranks, where one per step would cost too much."""
_device: torch.device | None = None
"""Of exchanged tensors; None outside `process_group` and in a single process."""
_connection: Any = None
"""The store at which the processes meet."""


class RankLost(InputError):
    """Another rank has ended, or did not answer in time."""


def started() -> int:
    """Processes started by torchrun, 1 without it."""
    return int(os.environ["WORLD_SIZE"]) if {"RANK", "WORLD_SIZE"} <= os.environ.keys() else 1


def started_here() -> int:
    """Processes started on this host."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1")) if started() > 1 else 1


def local_rank() -> int:
    """The number of this process on its host."""
    return int(os.environ.get("LOCAL_RANK", "0")) if started() > 1 else 0


@contextmanager
def process_group(device: torch.device) -> Iterator[None]:
    """In this context the processes started by torchrun are the ranks of one run, each on its device.

    They use NCCL on GPUs and gloo on CPUs, where they share the cores of their host unless OMP_NUM_THREADS is above 1.
    device: the CPU, or a GPU of this rank's own. RankLost if they do not find each other.
    """
    global _device
    if started() == 1:
        yield
        return
    if device.type == "cpu" and os.environ.get("OMP_NUM_THREADS", "1") == "1":
        torch.set_num_threads(threads_each(started_here()))
    # Default arguments there are the group that exists at the import, which would outlive `destroy_process_group`: as
    # Python ends, gloo's threads let go of tensors, for which it is too late, and abort the process.
    from torch.distributed.distributed_c10d import PrefixStore  # not in a torch without torch.distributed
    from torch.distributed.nn import functional  # noqa: F401

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
        barrier()  # the others would miss a rank that ends first
    finally:
        _device = None
    distributed.destroy_process_group()
    gc.collect()  # DistributedDataParallel is a cycle that holds the group


def rank() -> int:
    """The number of this process, 0 … size − 1."""
    return 0 if _device is None else distributed.get_rank()


def size() -> int:
    """The number of ranks."""
    return 1 if _device is None else distributed.get_world_size()


def is_main() -> bool:
    """Whether this is rank 0, the only one that writes and measures."""
    return rank() == 0


def shard(n: int) -> slice:
    """The contiguous share of this rank in 0 … n−1; sizes differ by at most one."""
    whole, more = divmod(n, size())
    start = rank() * whole + min(rank(), more)
    return slice(start, start + whole + (rank() < more))


def check_shares(name: str, n: int | None) -> None:
    """InputError for an option of fewer than one per rank."""
    if n is not None and n < size():
        raise InputError(f"--{name} {n} cannot be shared by {size()} processes: raise it, or start fewer")


# Collective calls


def check_alike(state: Any) -> None:
    """InputError on every rank unless `state`, options and data as for `broadcast_state`, is the same on all."""
    if any_rank(broadcast_state(state) != state):
        raise InputError(
            "the processes have different options or data: give all the same command and files, and with --resume a "
            "run folder that all can read"
        )


def barrier() -> None:
    """Wait for all ranks."""
    any_rank(False)


def any_rank(found: bool) -> bool:
    """Whether it is true on any rank."""
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
    """Overwrite them by those of rank 0, as different machines may round differently."""
    if size() > 1:
        with naming_lost_ranks():
            for tensor in tensors:
                distributed.broadcast(tensor.detach(), 0)


def broadcast_state(state: Any) -> Any:
    """The state of rank 0, as `pack` takes it, on every rank, with tensors on the rank's device."""
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
    letters = letters if is_main() else letters.new_empty(int(length))
    broadcast_tensors([letters])
    return bytes(letters.tolist()).decode()


def averaging(network: nn.Module) -> nn.Module:
    """The network as DistributedDataParallel: backward passes average the gradients of trainable parameters over ranks.

    Called again when other parameters are trainable; all become those of rank 0. Collective.
    """
    if size() == 1:
        return network
    from torch.nn.parallel import DistributedDataParallel

    with naming_lost_ranks():
        return DistributedDataParallel(network)


@contextmanager
def host_by_host() -> Iterator[None]:
    """One process of each host runs the context first, where files may be fetched; collective."""
    if local_rank() != 0:
        barrier()
    yield
    if local_rank() == 0:
        barrier()


@final
class FlatGradient:
    """The `.grad` of parameters as views of one buffer with extra room, for one sum over ranks per step."""

    def __init__(self, parameters: Iterable[nn.Parameter], room: int) -> None:
        """room: further numbers that `all_reduce_sum` takes."""
        learned = list(parameters)
        self.buffer = learned[0].new_zeros(sum(p.numel() for p in learned) + room)
        *gradients, self.room = self.buffer.split([*(p.numel() for p in learned), room])
        for parameter, gradient in zip(learned, gradients, strict=True):
            parameter.grad = gradient.view_as(parameter)

    def all_reduce_sum(self, *more: Tensor) -> None:
        """Replace the gradients and `more` by their sums over ranks; collective."""
        places = self.room.split([each.numel() for each in more])
        for place, each in zip(places, more, strict=True):
            place.copy_(each.view(-1))
        all_reduce_sum(self.buffer)
        for place, each in zip(places, more, strict=True):
            each.copy_(place.view_as(each))


@contextmanager
def naming_lost_ranks() -> Iterator[None]:
    """In this context torch's error for a rank that has ended becomes a `RankLost`."""
    try:
        yield
    except RuntimeError as error:
        if not isinstance(error, distributed.DistError) and "gloo" not in str(error).lower():
            raise
        number = os.environ.get("RANK", "0")
        raise RankLost(
            f"rank {number} of {started()} has lost another, which ended or did not answer within "
            f"{TIMEOUT.total_seconds():g} seconds: see its error message, then resume with --resume"
        ) from error


def speaks(error: BaseException | None = None) -> bool:
    """Whether this process prints the error that ends all: the first of several that asks, preferably rank 0."""
    if started() == 1:
        return True
    try:
        store = _store(5 * PATIENCE)
        # A rank that was lost has printed its error before it ended, if it could.
        if os.environ["RANK"] != "0" and not isinstance(error, RankLost):
            with suppress(RuntimeError):
                store.wait(["spoken"], PATIENCE)
        return bool(store.add("spoken", 1) == 1)
    except RuntimeError:
        return True  # twice is better than never


def _store(timeout: timedelta) -> Any:
    global _connection
    if _connection is None:
        from torch.distributed.rendezvous import rendezvous

        _connection, _, _ = next(rendezvous("env://", timeout=timeout))
    return _connection


def threads_each(workers: int) -> int:
    """The cores of this process, of which it may be bound to some, per worker."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // workers)
