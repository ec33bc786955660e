"""Steps as CUDA graphs: recorded once, then launched as a whole.

A step of training is some forty small kernels, and launching them one by one takes a GPU's host longer than the GPU. A
graph repeats the same kernels on the same memory, so a step is captured, or many steps of a chain as one
(`CapturedSteps.loop`), under these conditions:

* what differs between steps comes in tensors: its inputs, which are copied to where the graph reads them, and what the
  objects named as `held` keep in attributes, whose new values are copied back to where the graph found the old ones;
* all else that lasts (parameters, gradients, state of the optimizer) is changed in place;
* random numbers come from the generators named, whose seeds and places are read at each replay and moved on by it: a
  step draws the same, replayed or not, whether the host seeds them before or lets them run on.

`DBN_CUDA_GRAPHS=1` in the environment switches it on: no GPU has run it yet. Elsewhere than on CUDA nothing here does
anything.
"""

import logging
import os
import warnings
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator
from functools import partial
from typing import Any, NamedTuple, Protocol, Self, final

import torch
from torch import Tensor

LOGGER = logging.getLogger(__name__)

WARM_UP = 2
"""Ordinary calls before a capture. They make what only a first call makes, and show whether the host waits."""

AT_ONCE = 20
"""Steps of a chain in one graph: enough for the host to be ahead of the device, few enough to be captured at once."""

Step = Callable[..., object]
"""A function of tensors, some of which may be None."""


class Recorder(Protocol):
    """Makes graphs on one device."""

    def rehearse(self, work: Callable[[], object]) -> str:
        """Do the work; why it cannot be captured, as far as that shows, or ""."""

    def capture(self, work: Callable[[], object]) -> Callable[[], object]:
        """What does the work, which is not done yet. RuntimeError where it cannot be captured."""


@final
class CudaRecorder:
    """CUDA graphs that share their memory, and draw from these generators."""

    def __init__(self, device: torch.device, *generators: torch.Generator) -> None:
        self.device, self.generators = device, generators
        self.stream = torch.cuda.Stream(device)
        self.pool = torch.cuda.graph_pool_handle()

    def rehearse(self, work: Callable[[], object]) -> str:
        """On the stream of the capture, with warnings of torch wherever the host waits for the device."""
        with torch.cuda.device(self.device), warnings.catch_warnings(record=True) as found:
            warnings.simplefilter("always")
            current, mode = torch.cuda.current_stream(), torch.cuda.get_sync_debug_mode()
            self.stream.wait_stream(current)
            torch.cuda.set_sync_debug_mode("warn")
            try:
                with torch.cuda.stream(self.stream):
                    work()
            finally:
                torch.cuda.set_sync_debug_mode(mode)
                current.wait_stream(self.stream)
        waits = [each for each in found if "synchronizing CUDA operation" in str(each.message)]
        for each in found:
            if each not in waits and "Synchronization debug mode" not in str(each.message):
                warnings.warn_explicit(each.message, each.category, each.filename, each.lineno)
        return f"the host waits for the device in {waits[0].filename}, line {waits[0].lineno}" if waits else ""

    def capture(self, work: Callable[[], object]) -> Callable[[], object]:
        """A graph's `replay`."""
        with torch.cuda.device(self.device):
            current, graph = torch.cuda.current_stream(), torch.cuda.CUDAGraph()
            before = [each.get_state() for each in self.generators]
            for each in self.generators:
                graph.register_generator_state(each)
            try:
                # Other threads may work meanwhile: write a checkpoint, read rows.
                with torch.cuda.graph(graph, self.pool, self.stream, capture_error_mode="thread_local"):
                    work()
            except RuntimeError:
                # torch leaves both as they were within the capture when that cannot be ended.
                torch.cuda.set_stream(current)
                for each, state in zip(self.generators, before, strict=True):
                    fresh = torch.Generator(self.device)
                    fresh.set_state(state)
                    each.graphsafe_set_state(fresh.graphsafe_get_state())
                raise
        return graph.replay


def graph_recorder(*generators: torch.Generator) -> Recorder | None:
    """That of the generators' device; None where there are no graphs, or they are not asked for."""
    wanted, device = os.environ.get("DBN_CUDA_GRAPHS") == "1", generators[0].device
    return CudaRecorder(device, *generators) if wanted and device.type == "cuda" else None


class _Graph(NamedTuple):
    inputs: list[Tensor | None]
    replay: Callable[[], object]


@final
class CapturedSteps:
    """Does steps, and replays those that have been done `WARM_UP` times before.

    >>> steps, total = CapturedSteps(None), torch.zeros(())
    >>> steps("sum", total.add_, torch.ones(()))
    >>> total
    tensor(1.)
    """

    def __init__(self, recorder: Recorder | None, held: Iterable[object] = (), name: str = "a step") -> None:
        """recorder: None does every step as it is. held: objects that may replace the tensors they keep, in attributes
        or in dictionaries there, and say that they keep no more by `capturable`. name: what the log calls a step."""
        self.recorder, self.held, self.name = recorder, list(held), name
        self._calls: Counter[Hashable] = Counter()
        self._graphs: dict[Hashable, _Graph] = {}
        self._memory: dict[tuple[int, str, str], Tensor] = {}
        """Where graphs read and write what the held objects keep."""
        others = [type(each).__name__ for each in self.held if not getattr(each, "capturable", False)]
        if recorder is not None and others:
            self.give_up(f"{' and '.join(others)} may keep more than tensors")

    @classmethod
    def of(cls, generator: torch.Generator, held: Iterable[object], name: str, *more: torch.Generator) -> Self:
        """For steps that draw from the generators, on their device: captured where graphs are asked for there."""
        return cls(graph_recorder(generator, *more), held, name)

    def __call__(self, key: Hashable, step: Step, *inputs: Tensor | None) -> None:
        """`step(*inputs)`. All calls with one key do the same work, on inputs of the same shapes."""
        if self.recorder is None:
            step(*inputs)
            return
        if self._graphs:
            self._bind()
        graph = self._graphs.get(key)
        if graph is None and self._calls[key] < WARM_UP:
            self._calls[key] += 1
            why = self.recorder.rehearse(lambda: step(*inputs))
            if why and self._calls[key] == WARM_UP:
                self.give_up(why)
            return
        graph = graph or self._capture(key, step, inputs)
        if graph is None:
            step(*inputs)
            return
        for place, given in zip(graph.inputs, inputs, strict=True):
            if place is not None and given is not None:
                place.copy_(given)
        graph.replay()

    def loop(self, steps: Callable[[int], object], done: int, until: int) -> Iterator[int]:
        """The steps of a chain after the first `done`: calls `steps(n)` for the next n of them, and gives how many are
        done then. They are taken one by one, or `AT_ONCE` in a replay, with the first and the last alone.

        >>> list(CapturedSteps(None).loop(print, 2, 4))
        1
        1
        [3, 4]
        """
        while done < until:
            each = 1 if self.recorder is None else AT_ONCE
            n = min(each - done % each, until - done)
            self(n, partial(steps, n))
            done += n
            yield done

    def forget(self) -> None:
        """Drop all graphs and their memory: before something that they use is replaced."""
        self._calls.clear()
        self._graphs.clear()
        self._memory.clear()

    def _capture(self, key: Hashable, step: Step, inputs: Iterable[Tensor | None]) -> _Graph | None:
        self._bind()
        own = [None if each is None else each.clone() for each in inputs]
        before = [(holder, dict(holder)) for holder, _ in self._holders()]

        def work() -> None:
            step(*own)
            self._settle()

        assert self.recorder is not None
        try:
            self._graphs[key] = _Graph(own, self.recorder.capture(work))
        except RuntimeError as error:
            self.give_up(str(error).strip().partition("\n")[0])
        finally:
            for holder, content in before:  # nothing has been done yet
                holder.clear()
                holder.update(content)
        return self._graphs.get(key)

    def give_up(self, why: str) -> None:
        """From now on do every step as it is; the log says why."""
        LOGGER.warning("%s is not captured as a CUDA graph, and takes longer: %s", self.name, why)
        self.recorder = None
        self.forget()

    def _holders(self) -> Iterable[tuple[dict[str, Any], tuple[int, str]]]:
        for number, each in enumerate(self.held):
            yield vars(each), (number, "")
            for name, value in vars(each).items():
                if type(value) is dict:
                    yield value, (number, name)

    def _kept(self) -> dict[tuple[int, str, str], tuple[dict[str, Any], Tensor]]:
        return {
            (*place, name): (holder, value)
            for holder, place in self._holders()
            for name, value in holder.items()
            if isinstance(value, Tensor)
        }

    def _bind(self) -> None:
        """Bring what the held objects keep to where graphs read it, and drop these where it has changed its form."""
        kept = {key: value for key, (_, value) in self._kept().items()}
        if {key: _form(value) for key, value in kept.items()} != {k: _form(v) for k, v in self._memory.items()}:
            self.forget()
            self._memory = {key: value.clone(memory_format=torch.contiguous_format) for key, value in kept.items()}
        self._settle()

    def _settle(self) -> None:
        """Copy what the held objects keep to its place, and let them keep that."""
        kept = self._kept()
        if kept.keys() != self._memory.keys():
            raise RuntimeError("it keeps other tensors than before")
        moved = [
            (holder, key[-1], self._memory[key], value)
            for key, (holder, value) in kept.items()
            if value is not self._memory[key]
        ]
        places = {place.untyped_storage().data_ptr() for place in self._memory.values()} if moved else set()
        # A view of another's place would change with it.
        values = [value.clone() if value.untyped_storage().data_ptr() in places else value for *_, value in moved]
        for (holder, name, place, _), value in zip(moved, values, strict=True):
            place.copy_(value)
            holder[name] = place


def _form(tensor: Tensor) -> tuple[object, ...]:
    return tensor.shape, tensor.dtype, tensor.device
