"""The loop, which knows no model, and what every training shares: device, optimisers, order of examples."""

import copy
import platform
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any, Generic, TypeVar, final

import torch
from torch import Tensor, nn
from tqdm import tqdm

from dbn import ranks
from dbn.errors import InputError
from dbn.randomness import permutation, stream

Model = TypeVar("Model", bound=nn.Module)

OPTIMIZERS: dict[str, type[torch.optim.Optimizer]] = {
    "sgd": torch.optim.SGD,
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "nadam": torch.optim.NAdam,
    "rmsprop": torch.optim.RMSprop,
    "adagrad": torch.optim.Adagrad,
}
FUSED = {"cpu": ("sgd", "adam", "adamw", "adagrad"), "cuda": ("sgd", "adam", "adamw")}
"""By device, in every torch that we allow."""


def pick_device(name: str) -> torch.device:
    """The device of that name; `auto` takes CUDA, then MPS, then the CPU. InputError if it is not there.

    Of several processes on a host each takes a GPU of its own, or all the CPU.
    """
    if ranks.started() > 1:
        return _pick_of_several(name)
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"--device {name} is not available here: use --device auto") from error
    return device


def _pick_of_several(name: str) -> torch.device:
    """cuda:LOCAL_RANK, or the CPU where there is no CUDA or it is asked for."""
    gpus, processes = torch.cuda.device_count(), ranks.started_here()
    if name == "cpu" or (name == "auto" and not gpus):
        return torch.device("cpu")
    if name not in ("auto", "cuda"):
        raise InputError(f"--device {name} serves one process, not {processes}: use --device auto, cuda or cpu")
    if processes > gpus:
        raise InputError(f"{processes} processes cannot share {gpus} GPUs: start as many as there are, or --device cpu")
    return torch.device("cuda", ranks.local_rank())


def pick_precision(name: str, device: torch.device) -> torch.dtype:
    """The type of matrix products: float32, or bfloat16; InputError where the device has no such products.

    tf32 is float32 too, whose products are rounded within `tf32_products`.
    """
    if name == "float32":
        return torch.float32
    if name == "tf32":
        nvidia = device.type == "cuda" and torch.version.hip is None
        if not nvidia or torch.cuda.get_device_capability(device) < (8, 0):
            raise InputError(
                f"--precision tf32 needs an NVIDIA GPU of compute capability 8.0 or more, which {device} is not: "
                "leave it out"
            )
        return torch.float32
    if device.type == "cuda":
        there = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        probe = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
        there = device.type == "cpu" and bool(probe() or platform.machine() in ("aarch64", "arm64"))
    if not there:
        raise InputError(f"--precision bf16 needs products in bfloat16, which {device} does not have: leave it out")
    return torch.bfloat16


@contextmanager
def tf32_products(wanted: bool) -> Iterator[None]:
    """Within, if wanted, float32 products on a GPU take numbers rounded to TF32's 10 bits, and add up in float32."""
    if not wanted:
        yield
        return
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def make_optimizer(
    name: str,
    *layers: Iterable[nn.Parameter],
    learning_rate: float | Sequence[float],
    momentum: float | None = None,
    weight_decay: float = 0.0,
) -> torch.optim.Optimizer:
    """An optimiser of torch's, with weight decay on matrices only: biases and precisions are left alone.

    `learning_rate` is one for all layers, or one for each. A layer has groups of its own, so that it may take its first
    step later than another: torch's fused SGD, one pass over the weights in place of four, fails on a mixed group.
    """
    rates = learning_rate if isinstance(learning_rate, Sequence) else [learning_rate] * len(layers)
    groups: list[dict[str, Any]] = [
        {"params": [p for p in layer if (p.ndim > 1) == decays], "lr": rate, "weight_decay": decays * weight_decay}
        for layer, rate in zip(map(list, layers), rates, strict=True)
        for decays in (True, False)
    ]
    options: dict[str, Any] = {}
    if all(name in FUSED.get(p.device.type, ()) for layer in groups for p in layer["params"]):
        options["fused"] = True
    if momentum is not None:
        options["momentum"] = momentum
    return OPTIMIZERS[name]([group for group in groups if group["params"]], **options)


def set_option(optimizer: torch.optim.Optimizer, **options: float) -> None:
    """Set learning rate (`lr`) or momentum in every group, as a schedule does between epochs."""
    for group in optimizer.param_groups:
        group.update(options)


@final
class RunningAverage(Generic[Model]):
    """θ̄ ← decay·θ̄ + (1 − decay)·θ for every parameter of a model, beginning with the first θ; buffers are the model's.

    torch's AveragedModel moves a count to the device with every update, for which the host waits.
    """

    def __init__(self, model: Model, decay: float) -> None:
        self.module = copy.deepcopy(model)
        self.decay = decay
        self.updates = 0

    @torch.no_grad()
    def update(self, model: Model) -> None:
        """Take in the parameters as they are now."""
        weight = 1 - self.decay if self.updates else 1.0
        for average, value in zip(self.module.parameters(), model.parameters(), strict=True):
            average.lerp_(value, weight)
        for kept, buffer in zip(self.module.buffers(), model.buffers(), strict=True):
            kept.copy_(buffer)
        self.updates += 1

    def state(self) -> dict[str, Any]:
        """What must be kept between updates."""
        return {"updates": self.updates, "module": self.module.state_dict()}

    def load_state(self, state: dict[str, Any]) -> None:
        """Take back what `state` gave."""
        self.updates = state["updates"]
        self.module.load_state_dict(state["module"])


def restore_optimizer(optimizer: torch.optim.Optimizer, state: Any) -> None:
    """Take back `optimizer.state_dict()["state"]`; the options stay.

    The optimiser must have made a step. ValueError for a state of another form, or another error of such a form.
    """
    now = optimizer.state_dict()
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    free = {"momentum_buffer"}  # there only once a schedule has brought momentum above 0
    for number, kept in state.items():
        names = set(now["state"].get(number, ()))
        if not names - free <= set(kept) <= names | free:
            raise ValueError(f"the state of parameter {number} is of another optimiser")
        for value in kept.values():
            if value is not None and value.shape not in ((), parameters[number].shape):
                raise ValueError(f"the state of parameter {number} has shape {tuple(value.shape)}")
    optimizer.load_state_dict({"state": state, "param_groups": now["param_groups"]})


def shuffled_batches(n: int, batch_size: int, seed: int, *purpose: str | int, device: torch.device) -> Iterator[Tensor]:
    """The indices 0 … n−1 in the order that belongs to the seed and purpose, `batch_size` at a time.

    Of every batch a rank gets its share, which may be empty. The order is made on the CPU, so that it is the same on
    every device and rank.
    """
    order = permutation(n, stream(seed, "order", *purpose)).to(device)
    return (batch[ranks.share(len(batch))] for batch in order.split(batch_size))


def batch_length(number: int, n: int, batch_size: int) -> int:
    """Examples in that batch of `shuffled_batches`, counted from 0, over all ranks."""
    return min(batch_size, n - number * batch_size)


def synchronise(device: torch.device) -> None:
    """Wait until the device has done what was asked of it, before a clock is read."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


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
        synchronise(device)
        if after_epoch(epoch, time.perf_counter() - begin):
            return


def progress_bar(total: int, description: str, *, shown: bool, initial: int = 0) -> "tqdm[Any]":
    """A bar on standard error; not shown where that is no terminal, or where nobody asked for one."""
    return tqdm(total=total, desc=description, initial=initial, disable=None if shown else True, dynamic_ncols=True)
