"""Optimizers by name, with weight decay on matrices alone."""

import inspect
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any

import torch
from torch import nn

from dbn.training import OPTIMIZERS


def make_optimizer(
    name: str,
    *layers: Iterable[nn.Parameter],
    learning_rate: float | Sequence[float],
    momentum: float | None = None,
    weight_decay: float = 0.0,
) -> torch.optim.Optimizer:
    """A torch optimizer with weight decay on matrices only: biases and precisions have none.

    `learning_rate` is one for all layers, or one for each. A layer has groups of its own, so that it may take its first
    step later than another: torch's fused SGD, one pass over the weights in place of four, fails on a mixed group.
    """
    rates = learning_rate if isinstance(learning_rate, Sequence) else [learning_rate] * len(layers)
    groups: list[dict[str, Any]] = [
        {"params": [p for p in layer if (p.ndim > 1) == decays], "lr": rate, "weight_decay": decays * weight_decay}
        for layer, rate in zip(map(list, layers), rates, strict=True)
        for decays in (True, False)
    ]
    groups = [group for group in groups if group["params"]]
    options: dict[str, Any] = {} if momentum is None else {"momentum": momentum}
    if "fused" in OPTIMIZERS.parameters(name) and groups[0]["params"][0].device.type in ("cpu", "cuda"):
        with suppress(RuntimeError):  # not every optimizer that has a fused step has one on every device
            return OPTIMIZERS[name](groups, fused=True, **options)  # type: ignore[call-arg]
    return OPTIMIZERS[name](groups, **options)


def set_option(optimizer: torch.optim.Optimizer, **options: float) -> None:
    """Set learning rate (`lr`) or momentum in every group, as a schedule does between epochs."""
    for group in optimizer.param_groups:
        group.update(options)


def restore_optimizer(optimizer: torch.optim.Optimizer, state: Any) -> None:
    """Restore `optimizer.state_dict()["state"]`; the options stay.

    ValueError for a state of another optimizer or of other parameters, or another error for one of another structure.
    """
    names = _state_names(optimizer)
    free = {"momentum_buffer"}  # there only once a schedule has brought momentum above 0
    parameters = dict(enumerate(p for group in optimizer.param_groups for p in group["params"]))
    for number, kept in state.items():
        if not names - free <= set(kept) <= names | free:
            raise ValueError(f"the state of parameter {number} is of another optimizer")
        for value in kept.values():
            if value is not None and value.shape not in ((), parameters[number].shape):
                raise ValueError(f"the state of parameter {number} has shape {tuple(value.shape)}")
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def _state_names(optimizer: torch.optim.Optimizer) -> set[str]:
    """What such an optimizer keeps for a parameter: that of one number, after a step of another like it."""
    group = optimizer.param_groups[0]
    number = nn.Parameter(torch.zeros_like(group["params"][0].flatten()[:1]))
    number.grad = torch.zeros_like(number)
    options = {name: group[name] for name in list(inspect.signature(type(optimizer)).parameters)[1:] if name in group}
    other = type(optimizer)([number], **options)
    other.step()
    return set(other.state[number])
