"""Regression: one or several numbers, by squared error on standardized targets."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self, final

import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from dbn.data.splits import Splits
from dbn.data.targets import numbers
from dbn.errors import InputError
from dbn.plotting.predictions import predictions_image
from dbn.storage.schema import NUMBER, POSITIVE, TEXT, Schema
from dbn.tasks.base import Task, check_columns
from dbn.tasks.numeric import known_rows


@dataclass(frozen=True)
class NumberScores:
    """How well a network predicts numbers."""

    error: float
    """Of one target its RMSE; of several √(mean over targets of (RMSE/spread)²)."""
    rmse: list[float]
    """√(mean of (ŷ − y)²) of each target, in the units of the data."""
    r2: list[float]
    """1 − Σ(ŷ − y)²/Σ(y − mean)² of each target; NaN where all are equal."""
    predicted: Tensor
    """(N, T) float64."""
    y: Tensor

    def figures(self) -> dict[str, float]:
        """The error, and R², of several targets the mean of theirs."""
        return {"error": self.error, "r2": math.fsum(self.r2) / len(self.r2)}


@final
class Regress(Task):
    """ŷ = shift + spread·outputs, shift and spread those of the labeled training rows of a seed.

    The loss is ½·Σ_t (output_t − (y_t − shift_t)/spread_t)²; the error the root mean squared error in the units of the
    data, of several targets each in its spread.
    """

    name = "regress"
    picture = "predictions.png, predicted against true numbers"
    sgd_rates = (0.001, 0.003, 0.01, 0.03)
    fields: ClassVar[Schema] = {"targets": [TEXT], "target_shift": [NUMBER], "target_spread": [POSITIVE]}
    columns = (("r2", "R²", 3),)

    def __init__(
        self, names: Sequence[str], shift: Sequence[float] | None = None, spread: Sequence[float] | None = None
    ) -> None:
        super().__init__(names)
        self.shift = torch.tensor(shift or [0.0] * len(names), dtype=torch.float64, device="cpu")
        self.spread = torch.tensor(spread or [1.0] * len(names), dtype=torch.float64, device="cpu")

    @staticmethod
    def read(labels: Mapping[str, NDArray], n_rows: Mapping[str, int]) -> tuple[tuple[str, ...], dict[str, NDArray]]:
        """As `Task.read`."""
        return numbers(labels, n_rows)

    @classmethod
    def from_description(cls, description: Mapping[str, Any]) -> Self:
        """As `Task.from_description`."""
        return cls(*(description[name] for name in ("targets", "target_shift", "target_spread")))

    def description(self) -> dict[str, Any]:
        """As `Task.description`, with the scale."""
        return {
            "task": self.name,
            "targets": list(self.names),
            "target_shift": self.shift.tolist(),
            "target_spread": self.spread.tolist(),
        }

    def fitted(self, y: Tensor) -> Self:
        """As `Task.fitted`: shift and spread are mean and standard deviation; of equal targets the spread is 1."""
        shift = y.mean(0)
        largest = (y - shift).abs().amax(0)
        # Of tiny targets the squares are 0.
        spread = largest * ((y - shift) / largest).square().mean(0).sqrt()
        return type(self)(self.names, shift.tolist(), torch.where(largest > 0, spread, 1.0).tolist())

    def targets(self, y: Tensor) -> Tensor:
        """As `Task.targets`: standardized, float32."""
        return ((y - self.shift) / self.spread).float()

    def loss(self, outputs: Tensor, targets: Tensor, reduction: str = "mean") -> Tensor:
        """As `Task.loss`: half the squared error of standardized targets, summed over these."""
        return F.mse_loss(outputs, targets, reduction="sum") / (2 * (len(targets) if reduction == "mean" else 1))

    def losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """As `Task.losses`."""
        return F.mse_loss(outputs, targets, reduction="none").sum(1) / 2

    def answers(self, outputs: Tensor) -> Tensor:
        """(N,) for one target, (N, T) for several, float64, in the units of the data."""
        found = self._numbers(outputs)
        return found[:, 0] if self.outputs == 1 else found

    def _numbers(self, outputs: Tensor) -> Tensor:
        return self.shift + self.spread * outputs.detach().cpu().double()

    def valued(self, outputs: Tensor) -> Tensor:
        """As `Task.valued`: in the units of the data, (N, T)."""
        shift, spread = (scale.to(outputs.dtype).to(outputs.device) for scale in (self.shift, self.spread))
        return shift + spread * outputs

    def error(self, outputs: Tensor, y: Tensor) -> float:
        """As `Task.error`."""
        return self._error((self._numbers(outputs) - y).square().mean(0).sqrt())

    def _error(self, rmse: Tensor) -> float:
        return float(rmse[0]) if len(rmse) == 1 else float((rmse / self.spread).square().mean().sqrt())

    def scores(self, outputs: Tensor, y: Tensor) -> NumberScores:
        """As `Task.scores`.

        >>> found = Regress(["y"], [2.0], [1.0]).scores(torch.tensor([[-1.0], [0.0]]), torch.tensor([[1.0], [4.0]]))
        >>> f"{found.error:.3f} {found.r2[0]:.3f}"
        '1.414 0.111'
        """
        predicted = self._numbers(outputs)
        squares = (predicted - y).square().mean(0)
        r2 = 1 - squares / (y - y.mean(0)).square().mean(0)
        r2 = torch.where((y == y[0]).all(0), torch.nan, r2)
        return NumberScores(self._error(squares.sqrt()), squares.sqrt().tolist(), r2.tolist(), predicted, y)

    def probabilities(self, outputs: Tensor) -> Tensor:
        """As `Task.probabilities`: InputError."""
        raise InputError("this network predicts numbers, which have no probabilities: call predict")

    def written(self, outputs: Tensor, columns: str) -> dict[str, list[Any]]:
        """As `Task.written`: a column for each target."""
        check_columns(self.name, columns)
        return dict(zip(self.names, self._numbers(outputs).T.tolist(), strict=True))

    def scored(self, outputs: Tensor, data: Splits) -> str:
        """As `Task.scored`."""
        known = known_rows(self.names, outputs, data)
        if known is None:
            return ""
        found = self.scores(*known)
        each = [
            f"{f'of {name} ' if self.outputs > 1 else ''}RMSE {rmse:.4g}, R² {'–' if math.isnan(r2) else f'{r2:.3f}'}"
            for name, rmse, r2 in zip(self.names, found.rmse, found.r2, strict=True)
        ]
        return f"Scores on {len(known[1])} examples: {'; '.join(each)}."

    @classmethod
    def summary(cls, tested: Sequence[NumberScores]) -> dict[str, Any]:
        """As `Task.summary`: RMSE and R² of every seed and target."""
        return {"rmse": [each.rmse for each in tested], "r2": [each.r2 for each in tested]}

    def drawn(self, tested: Mapping[str, Sequence[NumberScores]]) -> Tensor:
        """As `Task.drawn`: predicted against true numbers, a panel for each arm and target, of all seeds."""
        panels = {}
        for arm, found in tested.items():
            predicted, y = torch.cat([each.predicted for each in found]), torch.cat([each.y for each in found])
            for place, name in enumerate(self.names):
                panels[arm if self.outputs == 1 else f"{arm}, {name}"] = predicted[:, place], y[:, place]
        return predictions_image(panels)

    @classmethod
    def heading(cls, found: Mapping[str, Any]) -> str:
        """As `Task.heading`."""
        return "test RMSE" if len(found["targets"]) == 1 else "test RMSE/spread"
