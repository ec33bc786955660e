"""Results of one training run, and of an arm at its selected learning rate."""

import math
from dataclasses import dataclass, field
from typing import NamedTuple

from torch import Tensor, nn

from dbn.finetuning.signal_propagation import LayerSignal
from dbn.initializers.arms import Arm
from dbn.runs.formats import EPOCH, TUNED
from dbn.storage.schema import check, whole
from dbn.storage.tensors import check_structure

Signals = dict[int, list[list[float]]]
"""By epoch and layer, the output layer last: the fields of `LayerSignal`."""


@dataclass(frozen=True)
class FitResult:
    """Results of one training run."""

    weights: dict[str, Tensor]
    """Of the best epoch."""
    best_epoch: int
    history: list[dict[str, float]]
    """One record per epoch: train_loss (with dropout), seconds; valid_error (%) and valid_loss unless a refit."""
    diverged: bool
    signals: Signals = field(default_factory=dict)
    """After the epochs that were asked for and reached."""

    @property
    def seconds(self) -> float:
        """Of training, without measurements, over all epochs."""
        return math.fsum(record["seconds"] for record in self.history)

    @property
    def valid_error(self) -> float:
        """Of the best epoch, %."""
        return self.history[self.best_epoch - 1]["valid_error"]


class TunedArm(NamedTuple):
    """An arm at its selected learning rate."""

    arm: Arm
    learning_rate: float
    tuned: list[FitResult]
    """By seed: runs with validation."""
    final: list[FitResult]
    """By seed: runs to be tested; the same ones, unless these were trained again on all labels."""


def check_fit_result(
    network: nn.Module,
    weights: dict[str, Tensor],
    best_epoch: int,
    history: list[dict[str, float]],
    signals: Signals,
    epochs: int,
    *,
    tuned: bool,
) -> None:
    """ValueError unless these can be the results of `network` after so many epochs; `tuned`: with validation."""
    if weights or best_epoch:
        check_structure(weights, network.state_dict(), "the weights")
    layers = sum(isinstance(module, nn.Linear) for module in network.modules())
    check_structure(signals, dict.fromkeys(signals, [[0.0] * len(LayerSignal._fields)] * layers), "the signals")
    if not all(type(epoch) is int and 1 <= epoch <= epochs for epoch in signals):
        raise ValueError(f"the signals are not of these {epochs} epochs")
    check(history, [TUNED if tuned else EPOCH], "history")
    check(best_epoch, whole(0, len(history)), "best_epoch")
    if len(history) != epochs or any(record.keys() != history[0].keys() for record in history):
        raise ValueError(f"{epochs} epochs do not have this history")
