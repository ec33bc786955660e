"""Running averages of weights."""

import copy
from typing import Any, Generic, TypeVar, final

import torch
from torch import nn

Model = TypeVar("Model", bound=nn.Module)


@final
class RunningAverage(Generic[Model]):
    """θ̄ ← decay·θ̄ + (1 − decay)·θ for every parameter of a model, starting from the first θ; buffers are copied."""

    # torch's AveragedModel moves a count to the device with every update, for which the host waits.

    def __init__(self, model: Model, decay: float) -> None:
        self.module = copy.deepcopy(model)
        self.decay = decay
        self.updates = 0

    def update(self, model: Model) -> None:
        """Include the current parameters."""
        self.blend(model)
        self.updates += 1

    @property
    def weight(self) -> float:
        """Of the parameters in the next update."""
        return 1 - self.decay if self.updates else 1.0

    @torch.no_grad()
    def blend(self, model: Model) -> None:
        """The part of `update` on the device; `updates` is then to be raised."""
        for average, value in zip(self.module.parameters(), model.parameters(), strict=True):
            average.lerp_(value, self.weight)
        for kept, buffer in zip(self.module.buffers(), model.buffers(), strict=True):
            kept.copy_(buffer)

    def state(self) -> dict[str, Any]:
        """The average and its count."""
        return {"updates": self.updates, "module": self.module.state_dict()}

    def load_state(self, state: dict[str, Any]) -> None:
        """Restore a `state`."""
        self.updates = state["updates"]
        self.module.load_state_dict(state["module"])
