"""Predictions and classification errors."""

import torch
from torch import Tensor, nn

from dbn.data.rows import Rows


@torch.no_grad()
def predict(network: nn.Module, scale: nn.Module, x: Tensor | Rows, chunk: int = 2000) -> Tensor:
    """Logits, (N, C), of rows (N, V) as they are stored; `scale` gives the network's inputs."""
    return torch.cat([network(scale(part)) for part in x.split(chunk)])


def error_rate(network: nn.Module, scale: nn.Module, x: Tensor | Rows, y: Tensor) -> float:
    """Misclassified rows in percent."""
    return share_wrong(predict(network, scale, x), y)


def share_wrong(logits: Tensor, y: Tensor) -> float:
    """Rows of logits (N, C) whose greatest is not that of the class y (N,), in percent: one division of two counts."""
    return 100.0 * int((logits.argmax(1) != y).sum()) / len(y)
