"""The data of one layer of a stack: raw examples for the first, what the layers below make of them for the rest."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from dbn.data.binarize import Binarize, binarize
from dbn.models.rbm import RBM
from dbn.models.scaling import Scaling

ROWS_AT_ONCE = 10_000


class Unlabeled(NamedTuple):
    """What a stack is pre-trained on, all of it on the device that trains."""

    train: Tensor
    """(N, V): bytes or floats, as stored."""
    valid: Tensor | None
    """(M, V) likewise; None where nothing is to be measured on unseen data."""
    scaling: Scaling
    image_shape: tuple[int, int, int] | None = None


class LayerData:
    """Examples as the next RBM sees them, in the cheapest form that loses nothing.

    The first layer keeps the raw values (bytes stay bytes, on the device they are on) and converts a batch when
    it is used; binarised pixels are kept as bytes too. Features are computed once, or once an epoch when
    anything in them is drawn anew.
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
        """raw: (N, V_data). how: see `binarize`. noise: the generator that belongs to an epoch."""
        self.raw, self.scaling, self.below = raw, scaling, below
        self.how, self.features, self.noise = how, features, noise
        self.drawn_anew = how == "sample" or (features == "sample" and len(below) > 0)
        self.prepared: Tensor | None = raw if how == "none" and not below else None

    def __len__(self) -> int:
        return len(self.raw)

    def prepare(self, epoch: int) -> None:
        """Make ready what belongs to an epoch, 1 or later."""
        if self.prepared is None or self.drawn_anew:
            generator = self.noise(epoch if self.drawn_anew else 0)
            self.prepared = None  # let go of the last epoch's before the next takes its room
            self.prepared = torch.cat([self._make(part, generator) for part in self.raw.split(ROWS_AT_ONCE)])

    def batch(self, indices: Tensor) -> Tensor:
        """The visible states of those examples, (B, V) float32."""
        if self.prepared is None:
            raise RuntimeError("prepare() comes before batch()")
        rows = self.prepared.index_select(0, indices)  # a sixth of the time of prepared[indices]
        if self.prepared is self.raw:
            scaled: Tensor = self.scaling(rows)
            return scaled
        return rows.to(torch.float32)

    def all(self) -> Tensor:
        """Every example, (N, V) float32."""
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
