"""Autoencoders: a network with as many layers back to the visible units as up to the code, by reconstruction."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self, final

import torch
from torch import Tensor

from dbn.data.examples import Examples
from dbn.data.splits import Splits
from dbn.errors import InputError
from dbn.models.autoencoder import LOSSES, reconstruction_loss
from dbn.models.scaling import Scaling
from dbn.tasks.base import Task, check_columns


@dataclass(frozen=True)
class ReconstructionScores:
    """How well a network reconstructs examples."""

    error: float
    """Mean over examples of Σ (x − x̂)², of values that are divided but not standardized: pixels from 0 to 1."""
    explained: float
    """1 − error/(that of the mean example); NaN where all are equal."""

    def figures(self) -> dict[str, float]:
        """Both."""
        return {"error": self.error, "explained": self.explained}


@final
class Autoencode(Task):
    """x̂ = σ(outputs) for values in [0, 1], with cross-entropy; x̂ = outputs for standardized ones, with squared error.

    Losses are summed over units. Labels are not learned; where there are any, they mark the codes in TensorBoard.
    Hinton & Salakhutdinov (2006), "Reducing the dimensionality of data with neural networks".
    """

    name = "autoencode"
    mirrored = True
    sgd_rates = (0.0003, 0.001, 0.003)
    done = "reconstructed"
    columns = (("explained", "explained", 3),)

    def __init__(
        self, names: Sequence[str], shift: Sequence[float] | None = None, spread: Sequence[float] | None = None
    ) -> None:
        super().__init__(names)
        self.output = "sigmoid" if spread is None else "identity"
        """Activation of the last layer."""
        self.shift, self.spread = (
            None if values is None else torch.tensor(values, dtype=torch.float32, device="cpu")
            for values in (shift, spread)
        )

    @classmethod
    def prepared(cls, splits: Splits, scaling: Scaling) -> Splits:
        """As `Task.prepared`: every row has itself as its target, scaled."""

        def own(part: Examples | None) -> Examples | None:
            return part and Examples(part.x, torch.cat([scaling(rows) for rows in part.x.split(ROWS_AT_ONCE)]))

        parts: dict[str, Any] = {name: own(getattr(splits, name)) for name in ("train", "valid", "test")}
        names = splits.columns or tuple(f"x{place + 1}" for place in range(splits.train.x.shape[1]))
        return replace(splits, **parts, classes=(), targets=names, label_error="", balanced=False)

    @classmethod
    def of(cls, splits: Splits, scaling: Scaling) -> Self:
        """As `Task.of`."""
        return cls.from_description({"targets": splits.targets, **scaling.description()})

    @classmethod
    def from_description(cls, description: Mapping[str, Any]) -> Self:
        """As `Task.from_description`."""
        return cls(description["targets"], description["shift"], description["spread"])

    def description(self) -> dict[str, Any]:
        """As `Task.description`; the scale is that of the network's inputs."""
        return {"task": self.name, "targets": list(self.names)}

    def about(self, test: Examples) -> dict[str, Any]:
        """As `Task.about`, without the names of the pixels."""
        return {"task": self.name}

    def loss(self, outputs: Tensor, targets: Tensor, reduction: str = "mean") -> Tensor:
        """As `Task.loss`."""
        return reconstruction_loss(outputs, targets, self.output) / (len(targets) if reduction == "mean" else 1)

    def losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """As `Task.losses`."""
        return LOSSES[self.output](outputs, targets, reduction="none").sum(1)

    def valued(self, outputs: Tensor) -> Tensor:
        """As `Task.valued`: divided, but not standardized."""
        if self.shift is None or self.spread is None:
            return outputs.sigmoid()
        return self.shift.to(outputs) + self.spread.to(outputs) * outputs

    def _errors(self, outputs: Tensor, y: Tensor) -> Tensor:
        reconstructed = self.valued(outputs.detach().cpu().double())
        x = y.cpu().double()
        if self.shift is not None and self.spread is not None:
            x = self.shift + self.spread * x
        return (reconstructed - x).square().sum(1)

    def error(self, outputs: Tensor, y: Tensor) -> float:
        """As `Task.error`: squared error of an example."""
        return float(self._errors(outputs, y).mean())

    def scores(self, outputs: Tensor, y: Tensor) -> ReconstructionScores:
        """As `Task.scores`.

        >>> found = Autoencode(["a", "b"]).scores(torch.zeros(2, 2), torch.tensor([[1.0, 0.0], [0.0, 0.0]]))
        >>> found.error, found.explained
        (0.5, -1.0)
        """
        spread = 1.0 if self.spread is None else self.spread.double()
        error, whole = self.error(outputs, y), float((y.cpu().double().var(0, correction=0) * spread**2).sum())
        return ReconstructionScores(error, 1 - error / whole if whole > 0 else float("nan"))

    def answers(self, outputs: Tensor) -> Tensor:
        """(N, V): reconstructions, as `valued`."""
        return self.valued(outputs)

    def probabilities(self, outputs: Tensor) -> Tensor:
        """As `Task.probabilities`: InputError."""
        raise InputError("an autoencoder reconstructs, and has no probabilities: call predict")

    def written(self, outputs: Tensor, columns: str) -> dict[str, list[Any]]:
        """As `Task.written`: reconstructions, a column for each value."""
        check_columns(self.name, columns)
        return dict(zip(self.names, self.valued(outputs).T.tolist(), strict=True))

    def scored(self, outputs: Tensor, data: Splits) -> str:
        """As `Task.scored`: nothing, as labels say nothing of reconstructions."""
        return ""

    @classmethod
    def heading(cls, found: Mapping[str, Any]) -> str:
        """As `Task.heading`."""
        return "test squared error"

    @staticmethod
    def shown(error: float) -> str:
        """As `Task.shown`."""
        return f"{error:.3f}"


ROWS_AT_ONCE = 2000
