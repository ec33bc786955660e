"""The data of one layer of a stack: raw examples for the first, features of the layers below for the others."""

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from dbn.arrays import in_type
from dbn.data.binarize import Binarize, binarize
from dbn.data.rows import Rows
from dbn.models.missing import Missing
from dbn.models.rbm import RBM
from dbn.models.scaling import Scaling
from dbn.models.values import weighted
from dbn.pretraining.kept_rows import keep, read_ahead

ROWS_AT_ONCE = 10_000


class Unlabeled(NamedTuple):
    """The data of pre-training, on the training device."""

    train: Tensor | Rows
    """(N, V): bytes or floats, as stored."""
    valid: Tensor | None
    """(M, V), or None to measure nothing on unseen data."""
    scaling: Scaling
    image_shape: tuple[int, int, int] | None = None
    folder: Path | None = None
    """Where features of rows on the disk are kept; by default where temporary files are."""
    weights: Tensor | None = None
    """(N,), above 0, with mean 1: of the training rows; None where all count alike."""
    valid_weights: Tensor | None = None
    """(M,), likewise of the validation rows."""
    missing: Missing | None = None
    """How rows with holes, which are NaN, are learned from; None where there are none."""
    labels: list[str] | None = None
    """Names of the validation rows' classes, "" for none, which only mark their codes; None without labels."""

    @property
    def width(self) -> int:
        """The number of visible units."""
        return self.scaling.width(self.train.shape[1])


class LayerData:
    """Examples as the next RBM sees them, in the cheapest lossless form.

    The first layer keeps raw values and converts a batch when it is used; binarized pixels are kept as bytes. Features
    are computed once, or in every epoch where anything in them is drawn, and kept by `keep`. Rows on the disk are read
    a batch at a time.
    """

    def __init__(
        self,
        raw: Tensor | Rows,
        scaling: Scaling,
        below: Sequence[RBM],
        *,
        how: Binarize = "none",
        features: str = "mean",
        noise: Callable[[int], torch.Generator],
        folder: Path | None = None,
        weights: Tensor | None = None,
        missing: Missing | None = None,
    ) -> None:
        """raw: (N, V_data). how: see `binarize`. noise: the generator of an epoch. folder: of temporary files.

        weights: (N,), of the rows. missing: how rows with holes are taken, where there are such."""
        self.raw, self.scaling, self.below = raw, scaling, below
        self.how, self.features, self.noise, self.folder = how, features, noise, folder
        self.weights, self.missing = weights, missing
        self.redrawn = how == "sample" or (features == "sample" and len(below) > 0)
        self.prepared: Tensor | Rows | None = raw if how == "none" and not below else None
        self._read: tuple[Tensor, Tensor] | None = None
        """Indices whose rows were read ahead, and the rows."""

    def __len__(self) -> int:
        return len(self.raw)

    def prepare(self, epoch: int) -> None:
        """Compute the examples of an epoch; before `batch`."""
        if self.prepared is None or self.redrawn:
            generator = self.noise(epoch if self.redrawn else 0)
            # The memory of the last epoch's serves again, where captured steps read it.
            last, self.prepared = self.prepared, None
            into = last if isinstance(last, Tensor) else None
            del last  # frees what is no tensor
            self.prepared = keep(
                (self._make(part, generator) for part in self.raw.split(ROWS_AT_ONCE)),
                (len(self), self.width),
                torch.float32 if self.below else torch.uint8,
                self.raw,
                self.folder,
                into=into,
            )

    @property
    def width(self) -> int:
        """V, the number of visible units."""
        return self.below[-1].hidden.size if self.below else self.scaling.width(self.raw.shape[1])

    @property
    def index_device(self) -> torch.device:
        """Where the indices of a batch are needed."""
        return torch.device("cpu") if isinstance(self.prepared, Rows) else self.raw.device

    def ahead(self, batches: Iterator[Tensor], done: int = 0) -> Iterator[Tensor]:
        """The batches of indices, whose rows, if they are on the disk, are read before `batch` asks for them.

        The first `done` are not asked for.
        """
        yield from islice(batches, done)
        if not (isinstance(self.prepared, Rows) and self.prepared.streamed):
            yield from batches
            return
        for found in read_ahead(self.prepared, batches):
            self._read = found
            yield found[0]
        self._read = None

    @property
    def place(self) -> tuple[object, ...] | None:
        """Where in memory the examples are; None where they are not one tensor on the device."""
        if not isinstance(self.prepared, Tensor):
            return None
        others = [each for each in (self.raw, self.weights) if isinstance(each, Tensor)]
        return tuple((each.data_ptr(), each.shape, each.dtype) for each in (self.prepared, *others))

    def batch(self, indices: Tensor) -> Tensor:
        """The visible states of these examples, (B, V) float32, 0 where `known_of` says that they are missing."""
        return self.states(self.rows(indices))

    def rows(self, indices: Tensor) -> Tensor:
        """What `states` makes the visible states of these examples, in a step that may be compiled."""
        if self.prepared is None:
            raise RuntimeError("prepare() comes before batch()")
        if self._read is not None and self._read[0] is indices:
            rows = self._read[1]
        else:
            rows = self.prepared.index_select(0, indices)  # a sixth of the time of prepared[indices]
        return rows if self._is_scaled_late else self._scaled(rows)

    def states(self, rows: Tensor) -> Tensor:
        """The visible states, (B, V) float32, of what `rows` gave."""
        return self._scaled(rows) if self._is_scaled_late else rows

    @property
    def _is_scaled_late(self) -> bool:
        return not isinstance(self.scaling.codes, tuple)  # whose layout a trace cannot read

    def _scaled(self, rows: Tensor) -> Tensor:
        if self.prepared is self.raw:
            rows = self.scaling(rows)
            if self.missing:
                rows = rows.nan_to_num(0.0)
        return in_type(rows, torch.float32)

    def known_of(self, indices: Tensor) -> Tensor | None:
        """Which units of these examples are observed, (B, V) bool; None where all are."""
        if self.missing is None or self.below:
            return None
        assert isinstance(self.raw, Tensor)
        return self.scaling.observed(~self.raw.index_select(0, indices).isnan())

    def all_known(self) -> Tensor | None:
        """`known_of` all examples, (N, V)."""
        return self.known_of(torch.arange(len(self), device=self.index_device))

    def weights_of(self, indices: Tensor) -> Tensor | None:
        """The weights of these examples, (B,), where they have such."""
        return None if self.weights is None else self.weights[indices.to(self.weights.device, non_blocking=True)]

    def all(self) -> Tensor:
        """All examples, (N, V) float32."""
        return self.batch(torch.arange(len(self), device=self.index_device))

    def moments(self) -> tuple[Tensor, Tensor]:
        """Mean and variance of every visible unit where it is observed, weighted where the rows are, each (V,)."""
        if (known := self.all_known()) is not None:
            return self._observed_moments(known)
        parts = range(-(-len(self) // ROWS_AT_ONCE))
        # Not a list of tensors: small ones between large ones scatter the memory.
        sums = torch.empty(len(parts), self.width, dtype=torch.float32, device=self.raw.device)
        for number in parts:
            part = self._part(number)
            sums[number] = weighted(self.batch(part), self.weights_of(part)).sum(0)
        total = len(self) if self.weights is None else self.weights.sum()
        mean = sums.sum(0) / total
        for number in parts:
            part = self._part(number)
            sums[number] = weighted(self.batch(part).sub_(mean).square_(), self.weights_of(part)).sum(0)
        return mean, sums.sum(0) / total

    def _observed_moments(self, known: Tensor) -> tuple[Tensor, Tensor]:
        counts, x = weighted(known.to(torch.float32), self.weights), self.all()
        total = counts.sum(0)
        mean = (counts * x).sum(0) / total
        return mean, (counts * (x - mean).square()).sum(0) / total

    def _part(self, number: int) -> Tensor:
        """The indices of some examples, `ROWS_AT_ONCE`."""
        start = number * ROWS_AT_ONCE
        return torch.arange(start, min(start + ROWS_AT_ONCE, len(self)), device=self.index_device)

    @torch.no_grad()
    def _make(self, part: Tensor, generator: torch.Generator) -> Tensor:
        x: Tensor = self.scaling(part)
        if self.how != "none":
            x = binarize(x, self.how, generator)
        below = self.below
        if self.missing and below:
            x, known, (first, *below) = x.nan_to_num(0.0), self.scaling.observed(~part.isnan()), below
            x = self.missing.up(first, x, known, generator, draws=self.features == "sample")
        for rbm in below:
            x = rbm.sample_hidden(x, generator) if self.features == "sample" else rbm.up(x)
        return x.to(torch.float32 if self.below else torch.uint8)
