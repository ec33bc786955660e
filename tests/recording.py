"""A recorder on the CPU with the rules of a CUDA graph: it repeats operations, not Python.

What a graph holds is a list of operations of torch on fixed memory, with every number of the host as it was at the
capture. Random numbers come from the generators of then, as their seeds are now. A value that the host asks for during
a capture is an error. Nothing has changed after a capture, which only records.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

ASKS = ("_local_scalar_dense", "item", "nonzero", "masked_select", "is_nonzero", "unique", "equal")


def tensors(*values: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(values) if isinstance(leaf, Tensor)]


class Recording(TorchDispatchMode):
    """Operations, with what they were given and what they gave."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Any, Any, Any, Any]] = []
        self.asked: list[str] = []
        self.kept: list[tuple[Tensor, Tensor]] = []
        """What was there before and has been changed, and what it was; the first of several is the oldest."""
        self.made: set[int] = set()
        """Memory that was allocated within."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = func.overloadpacket.__name__
        if name in ASKS:
            self.asked.append(str(func))
        # torch's schema of batch normalization does not say that it changes the running statistics.
        if func._schema.is_mutable or name == "native_batch_norm":
            for each in tensors(args, kwargs):
                if each.untyped_storage().data_ptr() not in self.made:
                    self.kept.append((each, each.detach().clone()))
        result = func(*args, **kwargs)
        given = {each.untyped_storage().data_ptr() for each in tensors(args, kwargs)}
        self.made |= {each.untyped_storage().data_ptr() for each in tensors(result)} - given
        self.calls.append((func, args, kwargs, result))
        return result

    @torch.no_grad()
    def replay(self) -> None:
        for func, args, kwargs, result in self.calls:
            given = {each.untyped_storage().data_ptr() for each in tensors(args, kwargs)}
            again = func(*args, **kwargs)
            for place, value in zip(tensors(result), tensors(again), strict=True):
                if place.untyped_storage().data_ptr() not in given:  # else a view, or what was changed in place
                    place.copy_(value)


class CpuRecorder:
    """Counts what it does."""

    def __init__(self, *generators: torch.Generator) -> None:
        self.generators = generators or (torch.Generator(),)
        self.rehearsed = self.captured = self.replayed = 0
        self.recordings: list[Recording] = []

    def rehearse(self, work: Callable[[], object]) -> str:
        self.rehearsed += 1
        with Recording() as seen:
            work()
        return f"the host asks for a value in {seen.asked[0]}" if seen.asked else ""

    def capture(self, work: Callable[[], object]) -> Callable[[], object]:
        self.captured += 1
        states = [each.get_state() for each in self.generators]
        with Recording() as recording:
            work()
        for each, state in zip(self.generators, states, strict=True):
            each.set_state(state)
        if recording.asked:
            raise RuntimeError(f"the host asks for a value in {recording.asked[0]}")
        with torch.no_grad():
            for place, value in reversed(recording.kept):
                place.copy_(value)
        self.recordings.append(recording)

        def replay() -> None:
            self.replayed += 1
            recording.replay()

        return replay
