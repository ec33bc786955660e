"""What a fit comes to: the weights kept and the record of every epoch."""

import math
from dataclasses import dataclass

from torch import Tensor, nn

from dbn.storage import check_form


@dataclass(frozen=True)
class Outcome:
    """What remains of a finished fit."""

    weights: dict[str, Tensor]
    """Of the epoch that was kept."""
    best_epoch: int
    history: list[dict[str, float]]
    """The record of every epoch: train_loss (with dropout), seconds; valid_error (%) and valid_loss unless a refit."""
    diverged: bool

    @property
    def seconds(self) -> float:
        """Training alone, all epochs."""
        return math.fsum(record["seconds"] for record in self.history)

    @property
    def valid_error(self) -> float:
        """Of the weights kept, %."""
        return self.history[self.best_epoch - 1]["valid_error"]


def check_outcome(
    network: nn.Module, weights: dict[str, Tensor], best_epoch: int, history: list[dict[str, float]], epochs: int
) -> None:
    """ValueError unless these can be what `network` came to in so many epochs."""
    if weights or best_epoch:
        check_form(weights, network.state_dict(), "the weights")
    if type(history) is not list or len(history) != epochs or not 0 <= best_epoch <= epochs:
        raise ValueError(f"{epochs} epochs do not have this history")
    for record in history:
        if not all(type(value) in (int, float) for value in record.values()) or record.keys() != history[0].keys():
            raise ValueError("the history holds what is no record of an epoch")
