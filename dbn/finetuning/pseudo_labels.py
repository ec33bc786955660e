"""Pseudo-labels: training rows under the class that the network itself gives them.

Lee (2013), "Pseudo-label: the simple and efficient semi-supervised learning method for deep neural networks". There the
network of now labels such rows in every step, and the weight of their loss grows; here it labels them once an epoch,
without dropout, and their number may grow.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

from dbn.data.examples import Examples, labels_of
from dbn.rng import permutation
from dbn.tasks.metrics import predict

if TYPE_CHECKING:
    from dbn.finetuning.problem import Problem

Pseudo = dict[str, Tensor]
"""Of some of the training rows: "rows", their indices, and "classes", both (M,) int64."""


@torch.no_grad()
def draw(problem: "Problem", network: nn.Sequential, y: Tensor, n: int, generator: torch.Generator) -> Pseudo:
    """Classes for at most n training rows, each once, labeled or not; the surest first.

    Of n rows k = argmax p(k | x) by the network, which has no dropout inside, where p(k | x) ≥ `pseudo_confidence`; but
    of no class more than its share of n in the labels y (L,). Without that bound a network that prefers a class teaches
    itself to give every row that class.
    """
    most = (torch.bincount(y, minlength=problem.task.outputs) * n + len(y) - 1) // len(y)  # rounded up
    rows = permutation(len(problem.splits.train), generator)[:n]
    logits = predict(network, problem.scaling, _at(problem, rows)).float()
    probability, order = logits.softmax(1).amax(1).sort(descending=True, stable=True)
    rows, classes = rows.to(order.device)[order], logits.argmax(1)[order]
    place = one_hot(classes, len(most)).cumsum(0).gather(1, classes[:, None]).squeeze(1)
    kept = (place <= most[classes]) & (probability >= problem.config.pseudo_confidence)
    return {"rows": rows[kept], "classes": classes[kept]}


def joined(problem: "Problem", labeled: Examples, pseudo: Pseudo) -> Examples:
    """The labeled examples, and behind them the rows that the network has labeled."""
    x, y = _at(problem, pseudo["rows"]), pseudo["classes"]
    return Examples(torch.cat([labeled.tensor, x]), torch.cat([labels_of(labeled), y]))


def checked(problem: "Problem", pseudo: Mapping[str, Any]) -> Pseudo:
    """Those of a checkpoint, empty at first; ValueError where they cannot be of this problem."""
    for name, end in (("rows", len(problem.splits.train)), ("classes", problem.task.outputs)):
        each = pseudo.get(name)
        if not isinstance(each, Tensor) or each.dtype != torch.int64 or each.ndim != 1:
            raise ValueError(f"pseudo.{name} is no vector of whole numbers")
        if len(each) and not 0 <= int(each.min()) <= int(each.max()) < end:
            raise ValueError(f"pseudo.{name} goes beyond {end - 1}")
    if len(pseudo) != 2 or len(pseudo["rows"]) != len(pseudo["classes"]):
        raise ValueError("pseudo does not hold as many rows as classes")
    return {name: each.to(problem.device) for name, each in pseudo.items()}


def _at(problem: "Problem", rows: Tensor) -> Tensor:
    x = problem.splits.train.x
    return x[rows.to(x.device)]
