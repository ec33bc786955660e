"""The data of one layer of a stack: raw examples for the first, features of the layers below for the others."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from dbn.data.binarize import Binarize, binarize
from dbn.models.rbm import RBM
from dbn.models.scaling import Scaling

ROWS_AT_ONCE = 10_000


class Unlabeled(NamedTuple):
    """The data of pre-training, on the training device."""

    train: Tensor
    """(N, V): bytes or floats, as stored."""
    valid: Tensor | None
    """(M, V), or None to measure nothing on unseen data."""
    scaling: Scaling
    image_shape: tuple[int, int, int] | None = None


class LayerData:
    """Examples as the next RBM sees them, in the cheapest lossless form.

    The first layer keeps raw values and converts a batch when it is used; binarized pixels are kept as bytes. Features
    are computed once, or in every epoch where anything in them is drawn.
    """

    def __init__(
        self,
        raw: Tensor,
        scaling: Scaling,
        below: Sequence[RBM],
        *,
        how: Binarize = "none",
        features: str = "mean",
        noise: Callable[[int], torch.Generator],
    ) -> None:
        """raw: (N, V_data). how: see `binarize`. noise: the generator of an epoch."""
        self.raw, self.scaling, self.below = raw, scaling, below
        self.how, self.features, self.noise = how, features, noise
        self.redrawn = how == "sample" or (features == "sample" and len(below) > 0)
        self.prepared: Tensor | None = raw if how == "none" and not below else None

    def __len__(self) -> int:
        return len(self.raw)

    def prepare(self, epoch: int) -> None:
        """Compute the examples of an epoch; before `batch`."""
        if self.prepared is None or self.redrawn:
            generator = self.noise(epoch if self.redrawn else 0)
            self.prepared = None  # frees the memory of the last epoch's first
            self.prepared = torch.cat([self._make(part, generator) for part in self.raw.split(ROWS_AT_ONCE)])

    def batch(self, indices: Tensor) -> Tensor:
        """The visible states of these examples, (B, V) float32."""
        if self.prepared is None:
            raise RuntimeError("prepare() comes before batch()")
        rows = self.prepared.index_select(0, indices)  # a sixth of the time of prepared[indices]
        if self.prepared is self.raw:
            rows = self.scaling(rows)
        return rows.to(torch.float32)

    def all(self) -> Tensor:
        """All examples, (N, V) float32."""
        return self.batch(torch.arange(len(self), device=self.raw.device))

    def moments(self) -> tuple[Tensor, Tensor]:
        """Mean and variance of every visible unit, each (V,)."""
        chunks = torch.arange(len(self), device=self.raw.device).split(ROWS_AT_ONCE)
        total = torch.stack([self.batch(chunk).sum(0) for chunk in chunks]).sum(0)
        mean = total / len(self)
        squares = torch.stack([(self.batch(chunk) - mean).square().sum(0) for chunk in chunks]).sum(0)
        return mean, squares / len(self)

    @torch.no_grad()
    def _make(self, part: Tensor, generator: torch.Generator) -> Tensor:
        x: Tensor = self.scaling(part)
        if self.how != "none":
            x = binarize(x, self.how, generator)
        for rbm in self.below:
            x = rbm.sample_hidden(x, generator) if self.features == "sample" else rbm.up(x)
        return x.to(torch.float32 if self.below else torch.uint8)
