"""A network together with its scaling and the names of its classes."""

from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor, nn

from dbn.models.scaling import Scaling

ROWS_AT_ONCE = 2000


@final
class Classifier(nn.Module):
    """Logits of rows as they are stored: the scaling, then the network."""

    def __init__(self, network: nn.Sequential, scaling: Scaling, classes: Sequence[str]) -> None:
        super().__init__()
        self.scaling, self.network, self.classes = scaling, network, tuple(classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits, (N, C), of rows (N, V) or images, on the module's device."""
        logits: Tensor = self.network(self.scaling(x.flatten(1)))
        return logits

    @torch.no_grad()
    def predict_proba(self, x: Tensor) -> Tensor:
        """Class probabilities, (N, C), in the order of `classes`."""
        return torch.cat([self(rows) for rows in x.split(ROWS_AT_ONCE)]).softmax(1)
