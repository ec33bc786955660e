"""Labels that a row has or has not, several at once, by sigmoids and binary cross-entropy."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from dbn.data.splits import Splits
from dbn.data.targets import truths
from dbn.tasks.base import Task
from dbn.tasks.numeric import known_rows


@dataclass(frozen=True)
class LabelScores:
    """How well a network predicts which labels rows have."""

    error: float
    """Mean over labels of the examples misjudged (Hamming loss), %."""
    exact_error: float
    """Examples of which any label is misjudged, %."""
    f1: list[float]
    """2·hits/(2·hits + false alarms + misses) of each label; 0 for one that is neither there nor predicted."""
    log_loss: float
    """Mean over examples of −Σ log p of their labels, nats."""

    def figures(self) -> dict[str, float]:
        """The error, that of whole rows, the mean F1, and the log-loss."""
        return {
            "error": self.error,
            "exact_error": self.exact_error,
            "macro_f1": math.fsum(self.f1) / len(self.f1),
            "log_loss": self.log_loss,
        }


@final
class Multilabel(Task):
    """p(label_t | x) = σ(output_t); loss −Σ_t log p of what is so, nats; a label is predicted from p > ½ on."""

    name = "multilabel"
    unit = " points"
    columns = (("exact_error", "exact %", 2), ("macro_f1", "macro F1", 3), ("log_loss", "log-loss", 3))

    @staticmethod
    def read(labels: Mapping[str, NDArray], n_rows: Mapping[str, int]) -> tuple[tuple[str, ...], dict[str, NDArray]]:
        """As `Task.read`."""
        return truths(labels, n_rows)

    def description(self) -> dict[str, Any]:
        """As `Task.description`."""
        return {"task": self.name, "targets": list(self.names)}

    def targets(self, y: Tensor) -> Tensor:
        """As `Task.targets`: float32."""
        return y.float()

    def loss(self, outputs: Tensor, targets: Tensor, reduction: str = "mean") -> Tensor:
        """As `Task.loss`: binary cross-entropy summed over labels, nats."""
        whole = F.binary_cross_entropy_with_logits(outputs, targets, reduction="sum")
        return whole / len(targets) if reduction == "mean" else whole

    def losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """As `Task.losses`."""
        return F.binary_cross_entropy_with_logits(outputs, targets, reduction="none").sum(1)

    def error(self, outputs: Tensor, y: Tensor) -> float:
        """As `Task.error`."""
        return self.scores(outputs, y).error

    def scores(self, outputs: Tensor, y: Tensor) -> LabelScores:
        """As `Task.scores`."""
        precise = outputs.detach().cpu().double()
        predicted, truth = precise > 0, y > 0.5
        wrong = predicted != truth
        hits = (predicted & truth).sum(0)
        f1 = 2 * hits / (2 * hits + wrong.sum(0)).clamp(min=1)
        return LabelScores(
            100.0 * int(wrong.sum()) / wrong.numel(),
            100.0 * int(wrong.any(1).sum()) / len(y),
            f1.tolist(),
            float(self.loss(precise, y)),
        )

    def answers(self, outputs: Tensor) -> Tensor:
        """(N, T) int64: 1 for the labels that a row has."""
        return (outputs > 0).long()

    def probabilities(self, outputs: Tensor) -> Tensor:
        """(N, T): of each label by itself."""
        return outputs.sigmoid()

    def written(self, outputs: Tensor, columns: str) -> dict[str, list[Any]]:
        """As `Task.written`: probabilities under the names of the labels, answers as predicted_NAME."""
        found: dict[str, list[Any]] = {}
        if columns != "class":
            found |= dict(zip(self.names, self.probabilities(outputs).T.tolist(), strict=True))
        if columns != "probabilities":
            answers = self.answers(outputs).T.tolist()
            found |= {f"predicted_{name}": column for name, column in zip(self.names, answers, strict=True)}
        return found

    def scored(self, outputs: Tensor, data: Splits) -> str:
        """As `Task.scored`."""
        known = known_rows(self.names, outputs, data)
        if known is None:
            return ""
        found = self.scores(*known).figures()
        return (
            f"Scores on {len(known[1])} examples: error over labels {found['error']:.2f} %, rows not wholly right "
            f"{found['exact_error']:.2f} %, macro F1 {found['macro_f1']:.3f}, log-loss {found['log_loss']:.4g} nats."
        )

    @classmethod
    def summary(cls, tested: Sequence[LabelScores]) -> dict[str, Any]:
        """As `Task.summary`: F1 of every seed and label."""
        return {"f1": [each.f1 for each in tested]}

    @classmethod
    def heading(cls, found: Mapping[str, Any]) -> str:
        """As `Task.heading`."""
        return "test error %"

    @staticmethod
    def shown(error: float) -> str:
        """As `Task.shown`: with two digits."""
        return f"{error:.2f}"
