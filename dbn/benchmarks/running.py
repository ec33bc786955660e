"""A case makes a `Runner`, which does so many steps and gives the seconds of training alone."""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from dbn.capture import graph_recorder

CLASSES = 10
"""Of the labels that are fine-tuned on."""
CHAINS = 100
"""Of annealed importance sampling."""
PER_STEP = 5
"""Steps of annealed importance sampling for one of training, since each is short."""


@dataclass(frozen=True)
class Setting:
    """The size of a case."""

    sizes: tuple[int, ...] = (784, 500)
    """Units of the data and of each layer; the last layer is the one that is trained."""
    batch_size: int = 100
    steps: int = 100
    """Updates in an epoch, which has steps · batch_size examples."""
    precision: str = "float32"
    network: tuple[int, ...] = (500, 500, 2000)
    """Hidden units of the network that is fine-tuned, on data as wide as the visible layer."""
    device: str = "cpu"
    """cpu or cuda."""
    compile: bool = False
    """Whether the steps of pre-training are compiled, but for parallel tempering."""

    @property
    def visible(self) -> int:
        """Units that the trained layer sees."""
        return self.sizes[-2]

    @property
    def hidden(self) -> int:
        """Units of the trained layer."""
        return self.sizes[-1]

    @property
    def examples(self) -> int:
        """In an epoch."""
        return self.steps * self.batch_size

    def __str__(self) -> str:
        units = "-".join(map(str, self.sizes))
        return f"{units}, batch {self.batch_size}, {self.steps} steps and {self.examples:,} examples an epoch"


class Runner(NamedTuple):
    """A case, ready to be timed."""

    run: Callable[[], float]
    """Does `steps` steps; gives the seconds of training alone."""
    steps: int
    state: Any
    """What is trained or filled, for whoever wants to see that it was."""


class Case(NamedTuple):
    """Something to time, and what its time is divided by."""

    make: Callable[[Setting], Runner]
    baselines: tuple[str, ...] = ()
    precisions: tuple[str, ...] = ("float32",)
    """Those that it can be asked for."""
    standard: bool = True
    """Whether it is timed where no cases are named."""
    on_gpu: bool = True
    """Whether it runs on a GPU, by the clock of the device."""


def clocked(work: Callable[[], object], device: str = "cpu") -> Callable[[], float]:
    """`work`, with its seconds: by the clock of the host, or on CUDA between two events of the device."""

    def run() -> float:
        begin = time.perf_counter()
        work()
        return time.perf_counter() - begin

    def run_on_gpu() -> float:
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        work()
        end.record()
        end.synchronize()
        return float(start.elapsed_time(end)) / 1000

    return run_on_gpu if device == "cuda" else run


def repeated(
    step: Callable[[], object], steps: int, device: str = "cpu", *, capturable: bool = False
) -> Callable[[], float]:
    """So many steps, with their seconds; capturable: all of them as one CUDA graph where graphs are asked for."""

    def work() -> None:
        for _ in range(steps):
            step()

    recorder = graph_recorder(torch.Generator(device)) if capturable else None
    if recorder is None:
        return clocked(work, device)
    recorder.rehearse(work)
    return clocked(recorder.capture(work), device)


def over(
    batches: Iterable[Tensor], step: Callable[[Tensor, int, int], object], device: str = "cpu"
) -> Callable[[], float]:
    """The steps of epoch 1 over batches that are there already, with their seconds."""
    made = list(batches)
    return clocked(lambda: [step(indices, 1, number) for number, indices in enumerate(made)], device)
