"""Steps of training as CUDA graphs: see `dbn.capture`."""

from collections.abc import Iterable

import torch

from dbn.capture import CapturedSteps
from dbn.training import distributed
from dbn.training.optimizers import is_capturable


def captured_steps(
    generator: torch.Generator,
    optimizer: torch.optim.Optimizer,
    held: Iterable[object | None],
    name: str,
    *more: torch.Generator,
) -> CapturedSteps:
    """For steps of the optimizer that draw from the generators. What is held says that it is `capturable`."""
    steps = CapturedSteps.of(generator, [each for each in held if each is not None], name, *more)
    if steps.recorder is not None:
        if distributed.size() > 1:
            steps.give_up("several processes share it")
        elif not is_capturable(optimizer):
            steps.give_up(f"{type(optimizer).__name__} computes on the host")
    return steps
