"""Classification: one of several classes, by softmax and cross-entropy."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self, final

import torch
from torch import Tensor
from torch.nn import functional as F

from dbn.data.examples import Examples, labels_of
from dbn.data.splits import Splits
from dbn.errors import listed
from dbn.plotting.confusion import confusion_image
from dbn.storage.schema import TEXT, Schema
from dbn.tasks.base import Task
from dbn.tasks.metrics import Scores, class_figures, scores, share_wrong, summed


@final
class Classify(Task):
    """p(class | x) = softmax(outputs); loss −log p of the true class, nats; error: examples misclassified, %."""

    name = "classify"
    picture = "confusion.png, confusion matrices"
    done = "classified"
    unit = " points"
    fields: ClassVar[Schema] = {"classes": [TEXT]}
    columns = (("balanced_error", "balanced %", 2), ("log_loss", "log-loss", 3))

    @classmethod
    def from_description(cls, description: Mapping[str, Any]) -> Self:
        """As `Task.from_description`."""
        return cls(description["classes"])

    def description(self) -> dict[str, Any]:
        """As `Task.description`."""
        return {"classes": list(self.names)}

    def about(self, test: Examples) -> dict[str, Any]:
        """As `Task.about`: the classes, and how many test examples each has."""
        counts = torch.bincount(labels_of(test), minlength=self.outputs)
        return {**self.description(), "support": counts.tolist()}

    def groups(self, y: Tensor) -> tuple[Tensor, int]:
        """As `Task.groups`: the classes."""
        return y, self.outputs

    def loss(self, outputs: Tensor, targets: Tensor, reduction: str = "mean") -> Tensor:
        """As `Task.loss`: cross-entropy, nats."""
        return F.cross_entropy(outputs, targets, reduction=reduction)

    def losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """As `Task.losses`."""
        return F.cross_entropy(outputs, targets, reduction="none")

    def error(self, outputs: Tensor, y: Tensor) -> float:
        """As `Task.error`: %."""
        return share_wrong(outputs, y)

    def scores(self, outputs: Tensor, y: Tensor) -> Scores:
        """As `Task.scores`."""
        return scores(outputs, y)

    def answers(self, outputs: Tensor) -> list[str]:
        """The most probable class of every row."""
        return [self.names[place] for place in self.probabilities(outputs).argmax(1).tolist()]

    def probabilities(self, outputs: Tensor) -> Tensor:
        """As `Task.probabilities`."""
        return outputs.softmax(1)

    def written(self, outputs: Tensor, columns: str) -> dict[str, list[Any]]:
        """As `Task.written`."""
        probabilities = self.probabilities(outputs)
        greatest, places = probabilities.max(1)
        found: dict[str, list[Any]] = {}
        if columns != "class":
            found |= dict(zip(self.names, probabilities.T.tolist(), strict=True))
        if columns != "probabilities":
            found["predicted_class"] = [self.names[place] for place in places.tolist()]
            found["predicted_probability"] = greatest.tolist()
        return found

    def scored(self, outputs: Tensor, data: Splits) -> str:
        """As `Task.scored`, on the rows whose label is one of the classes."""
        if data.train.y is None:
            return ""
        place = {name: number for number, name in enumerate(self.names)}
        codes = torch.tensor([place.get(name, -1) for name in data.classes], device="cpu")
        y = torch.where(data.train.y < 0, -1, codes[data.train.y])
        known = y >= 0
        unknown = [name for name in data.classes if name not in place]
        left_out = f"; rows of {listed(unknown)}, which the classifier does not know, are left out" if unknown else ""
        if not known.any():
            return f"No scores: none of the labels is a class of the classifier, such as {listed(self.names, 5)}."
        found = scores(outputs[known], y[known])
        return (
            f"Scores on {int(known.sum())} labeled examples: error {found.error:.2f} %, balanced error "
            f"{found.balanced_error:.2f} %, log-loss {found.log_loss:.4g} nats{left_out}."
        )

    @classmethod
    def summary(cls, tested: Sequence[Scores]) -> dict[str, Any]:
        """As `Task.summary`: recall and precision of the confusion matrix summed over seeds, and that."""
        confusion = summed([each.confusion for each in tested])
        return {**class_figures(confusion), "confusion": confusion}

    @classmethod
    def stuck(cls, tested: Sequence[Scores]) -> dict[str, int]:
        """As `Task.stuck`."""
        return {"one_class": sum(each.is_one_class for each in tested)}

    def drawn(self, tested: Mapping[str, Sequence[Scores]]) -> Tensor:
        """As `Task.drawn`: confusion matrices."""
        sums = {name: summed([each.confusion for each in found]) for name, found in tested.items()}
        return confusion_image(sums, self.names)

    @classmethod
    def heading(cls, found: Mapping[str, Any]) -> str:
        """As `Task.heading`."""
        return "test error %"

    @staticmethod
    def shown(error: float) -> str:
        """As `Task.shown`: with two digits."""
        return f"{error:.2f}"
