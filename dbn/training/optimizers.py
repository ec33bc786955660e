"""Optimizers by name, with weight decay on matrices alone."""

import inspect
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor, nn

from dbn.training import OPTIMIZERS


def make_optimizer(
    name: str,
    *layers: Iterable[nn.Parameter],
    learning_rate: float | Sequence[float],
    momentum: float | None = None,
    weight_decay: float = 0.0,
    capturable: bool = False,
) -> torch.optim.Optimizer:
    """A torch optimizer with weight decay on matrices only: biases and precisions have none.

    `learning_rate` is one for all layers, or one for each. A layer has groups of its own, so that it may take its first
    step later than another: torch's fused SGD, one pass over the weights in place of four, fails on a mixed group.

    capturable: whether a step shall depend on the device alone, where the optimizer has such a step: its learning rate
    is then a tensor, which `set_option` and `scale_rates` fill.
    """
    rates = learning_rate if isinstance(learning_rate, Sequence) else [learning_rate] * len(layers)
    groups: list[dict[str, Any]] = [
        {"params": [p for p in layer if (p.ndim > 1) == decays], "lr": rate, "weight_decay": decays * weight_decay}
        for layer, rate in zip(map(list, layers), rates, strict=True)
        for decays in (True, False)
    ]
    groups = [group | {"initial_lr": group["lr"]} for group in groups if group["params"]]
    options: dict[str, Any] = {} if momentum is None else {"momentum": momentum}
    known, device = OPTIMIZERS.parameters(name), groups[0]["params"][0].device
    on_device = _with_tensors(groups, device) if capturable else groups
    if "capturable" in known and capturable:
        groups, options = on_device, options | {"capturable": True}
    if "fused" in known and device.type in ("cpu", "cuda"):
        with suppress(RuntimeError):  # not every optimizer that has a fused step has one on every device
            made: torch.optim.Optimizer = OPTIMIZERS[name](on_device, fused=True, **options)  # type: ignore[call-arg]
            if device.type == "cuda":
                _state_names(made)  # some say so at their first step
            return _without_warning(made)
    if "capturable" in options and "foreach" in known:  # torch's loop over parameters reads the rate on the host
        options["foreach"] = True
    return _without_warning(OPTIMIZERS[name](groups, **options))


def _with_tensors(groups: list[dict[str, Any]], device: torch.device) -> list[dict[str, Any]]:
    """The groups with their learning rates on the device, those that are equal in one tensor."""
    dtype = torch.float32 if device.type == "cuda" else torch.float64  # what fused steps read there
    rates = {rate: torch.tensor(rate, dtype=dtype, device=device) for rate in {group["lr"] for group in groups}}
    return [group | {"lr": rates[group["lr"]]} for group in groups]


def _without_warning(optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
    optimizer._warned_capturable_if_run_uncaptured = True  # steps before a capture are meant
    return optimizer


def is_capturable(optimizer: torch.optim.Optimizer) -> bool:
    """Whether a step depends on the device alone, but for options other than the learning rate."""
    return all(isinstance(group["lr"], Tensor) for group in optimizer.param_groups)


def set_option(optimizer: torch.optim.Optimizer, **options: float) -> None:
    """Set learning rate (`lr`) or momentum in every group, as a schedule does between epochs."""
    _set([(group, name, value) for group in optimizer.param_groups for name, value in options.items()])


def scale_rates(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Set the learning rate of every group to so much of that which the optimizer was made with."""
    _set([(group, "lr", group["initial_lr"] * factor) for group in optimizer.param_groups])


def _set(options: Iterable[tuple[dict[str, Any], str, float]]) -> None:
    filled: list[Tensor] = []
    for group, name, value in options:
        place = group.get(name)
        if not isinstance(place, Tensor):
            group[name] = value
        elif not any(place is each for each in filled):
            filled.append(place.fill_(value))


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
