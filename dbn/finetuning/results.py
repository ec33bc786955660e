"""What a fit comes to, and what an arm comes to under the learning rate it keeps."""

import math
from dataclasses import dataclass, field
from typing import NamedTuple

from torch import Tensor, nn

from dbn.finetuning.signal_propagation import LayerSignal
from dbn.initializers.arms import Arm
from dbn.storage.tensors import check_structure

Signals = dict[int, list[list[float]]]
"""By epoch and layer, the output layer last: the fields of `LayerSignal`."""


@dataclass(frozen=True)
class FitResult:
    """What remains of a finished fit."""

    weights: dict[str, Tensor]
    """Of the epoch that was kept."""
    best_epoch: int
    history: list[dict[str, float]]
    """The record of every epoch: train_loss (with dropout), seconds; valid_error (%) and valid_loss unless a refit."""
    diverged: bool
    signals: Signals = field(default_factory=dict)
    """After the epochs that were asked for, as far as it came."""

    @property
    def seconds(self) -> float:
        """Training alone, all epochs."""
        return math.fsum(record["seconds"] for record in self.history)

    @property
    def valid_error(self) -> float:
        """Of the weights kept, %."""
        return self.history[self.best_epoch - 1]["valid_error"]


class TunedArm(NamedTuple):
    """An arm under the learning rate it keeps."""

    arm: Arm
    learning_rate: float
    tuned: list[FitResult]
    """By seed: fits that were validated."""
    final: list[FitResult]
    """By seed: fits that are tested; the same ones unless they were trained anew on all labels."""


def check_fit_result(
    network: nn.Module,
    weights: dict[str, Tensor],
    best_epoch: int,
    history: list[dict[str, float]],
    signals: Signals,
    epochs: int,
) -> None:
    """ValueError unless these can be what `network` came to in so many epochs."""
    if weights or best_epoch:
        check_structure(weights, network.state_dict(), "the weights")
    layers = sum(isinstance(module, nn.Linear) for module in network.modules())
    check_structure(signals, dict.fromkeys(signals, [[0.0] * len(LayerSignal._fields)] * layers), "the signals")
    if not all(type(epoch) is int and 1 <= epoch <= epochs for epoch in signals):
        raise ValueError(f"the signals are not of these {epochs} epochs")
    if type(history) is not list or len(history) != epochs or not 0 <= best_epoch <= epochs:
        raise ValueError(f"{epochs} epochs do not have this history")
    for record in history:
        if not all(type(value) in (int, float) for value in record.values()) or record.keys() != history[0].keys():
            raise ValueError("the history holds what is no record of an epoch")
