"""Predictions and their scores: error, balanced error, log-loss, confusion matrix and figures of each class."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dbn.data.rows import Rows

Confusion = list[list[int]]
"""Counts of examples, (C, C): rows are the true classes, columns the predicted ones."""

ONE_CLASS, CHANCE = 0.95, 0.9
"""Share of the predictions in one class, and of the balanced error of a constant answer, from which on a classifier
gives nearly every example the same class; the second spares one that is right about a rare class."""


@dataclass(frozen=True)
class Scores:
    """How well a classifier predicts labeled examples."""

    error: float
    """Misclassified examples, %."""
    log_loss: float
    """Mean −log p(true class), nats."""
    confusion: Confusion

    def figures(self) -> dict[str, float]:
        """Error, balanced error and log-loss, by name."""
        return {"error": self.error, "balanced_error": self.balanced_error, "log_loss": self.log_loss}

    @property
    def balanced_error(self) -> float:
        """Mean over the classes that occur of the share misclassified, %."""
        return balanced_error(self.confusion)

    @property
    def is_one_class(self) -> bool:
        """Whether nearly every example is given the same class."""
        counts = torch.tensor(self.confusion, dtype=torch.float64, device="cpu")
        occurring = int((counts.sum(1) > 0).sum())
        constant = 100.0 * (1 - 1 / occurring)
        most = float(counts.sum(0).max() / counts.sum())
        return occurring > 1 and most >= ONE_CLASS and self.balanced_error >= CHANCE * constant


@torch.no_grad()
def predict(network: nn.Module, scale: nn.Module, x: Tensor | Rows, chunk: int = 2000) -> Tensor:
    """Logits, (N, C), of rows (N, V) as they are stored; `scale` gives the network's inputs."""
    return torch.cat([network(scale(part)) for part in x.split(chunk)])


def score(network: nn.Module, scale: nn.Module, x: Tensor | Rows, y: Tensor) -> Scores:
    """Of a network's predictions for rows x (N, V) of the classes y (N,)."""
    return scores(predict(network, scale, x), y)


def scores(logits: Tensor, y: Tensor) -> Scores:
    """Of logits (N, C), or log-probabilities, of examples of the classes y (N,).

    >>> found = scores(torch.tensor([[2.0, 0.0], [0.0, 2.0], [0.0, 2.0]]), torch.tensor([0, 1, 0]))
    >>> f"{found.error:.1f} {found.balanced_error:.1f} {found.log_loss:.3f}", found.confusion
    ('33.3 25.0 0.794', [[1, 1], [0, 1]])
    """
    precise, truth = logits.detach().cpu().double(), y.cpu()
    log_loss = float(F.cross_entropy(precise, truth))
    return Scores(share_wrong(logits, y), log_loss, confusion_matrix(logits.argmax(1).cpu(), truth, logits.shape[1]))


def share_wrong(logits: Tensor, y: Tensor) -> float:
    """Rows of logits (N, C) whose greatest is not that of the class y (N,), in percent: one division of two counts."""
    return 100.0 * int((logits.argmax(1) != y).sum()) / len(y)


def confusion_matrix(predicted: Tensor, y: Tensor, classes: int) -> Confusion:
    """Counts by true class y (N,) and predicted class (N,)."""
    counts = torch.bincount(y * classes + predicted, minlength=classes**2).reshape(classes, classes)
    return counts.tolist()


def balanced_error(confusion: Confusion) -> float:
    """100 − mean recall, %, over the classes that occur."""
    shares = [recall for recall in class_figures(confusion)["recall"] if recall is not None]
    return 100.0 - sum(shares) / len(shares)


def class_figures(confusion: Confusion) -> dict[str, list[float | None]]:
    """By class: recall and precision, %; None for a class without an example, or that is never predicted."""
    counts = torch.tensor(confusion, dtype=torch.float64, device="cpu")
    sums = {"recall": counts.sum(1).tolist(), "precision": counts.sum(0).tolist()}
    hits = counts.diagonal().tolist()
    return {
        name: [100.0 * hit / whole if whole else None for hit, whole in zip(hits, each, strict=True)]
        for name, each in sums.items()
    }


def summed(confusions: list[Confusion]) -> Confusion:
    """The sum of confusion matrices, such as those of the seeds of an arm."""
    return torch.tensor(confusions, device="cpu").sum(0).tolist()
