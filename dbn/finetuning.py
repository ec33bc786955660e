"""One supervised loop for every arm of a comparison: same network, labels, order, output layer and budget.

Arms differ in the weights they start from and, where asked, in their activation.
"""

import copy
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from dbn.datasets import Examples
from dbn.evaluation import predict
from dbn.initializers import Arm
from dbn.mlp import linear_layers
from dbn.problem import Problem, labels_of
from dbn.training import make_optimizer, run_epochs, set_option, shuffled_batches, synchronise


@dataclass(frozen=True)
class Outcome:
    """What remains of a finished fit."""

    weights: dict[str, Tensor]
    """Of the epoch that was kept."""
    best_epoch: int
    history: list[dict[str, float]]
    """The record of every epoch: train_loss and seconds; valid_error (%) and valid_loss unless it was a refit."""
    diverged: bool

    @property
    def seconds(self) -> float:
        """Training alone, all epochs."""
        return math.fsum(record["seconds"] for record in self.history)

    @property
    def valid_error(self) -> float:
        """Of the weights kept, %."""
        return self.history[self.best_epoch - 1]["valid_error"]


class Fit:
    """One network trained: an arm, a learning rate, a seed.

    The weights kept are those of the epoch with the least validation error (ties: the least validation loss).
    With `refit_epochs` it trains on training and validation examples together for that many epochs instead, and
    keeps the last.
    """

    def __init__(
        self, problem: Problem, arm: Arm, learning_rate: float, seed: int, refit_epochs: int | None = None
    ) -> None:
        self.problem, self.arm, self.learning_rate, self.seed = problem, arm, learning_rate, seed
        config = problem.config
        train, valid = problem.labelled(seed)
        self.valid: Examples | None = valid
        if refit_epochs is not None:
            train, self.valid = _together(train, valid), None
        self.train_set = train
        self.last_epoch = config.epochs if refit_epochs is None else refit_epochs
        self.network = problem.network(arm, seed)
        self.optimizer = make_optimizer(
            config.optimizer,
            self.network.parameters(),
            learning_rate=learning_rate,
            momentum=config.resolved()["momentum"],
            weight_decay=config.weight_decay,
            # torch's fused SGD fails where some of its weights take their first step later than others.
            fused=config.freeze_epochs in (0, "all"),
        )
        self.steps = -(-len(train) // config.batch_size)
        self.loss = torch.zeros((), device=problem.device)
        self.epoch = 0
        """Epochs done."""
        self.history: list[dict[str, float]] = []
        """The record of every epoch done."""
        self.best_epoch = 0
        self.best_weights: dict[str, Tensor] = {}
        self.diverged = False
        """Whether the loss is no longer finite: a result of that start and learning rate, and the end of the fit."""

    @property
    def done(self) -> bool:
        """Whether all epochs are done, patience has run out, or the fit has diverged."""
        if self.diverged:
            return True
        patience = self.problem.config.patience if self.valid is not None else None
        waited = self.epoch - self.best_epoch
        return self.epoch >= self.last_epoch or (patience is not None and waited >= patience)

    def epochs(self) -> Iterator[dict[str, float]]:
        """Train an epoch, yield its record, until done."""
        while not self.done:
            run_epochs([self.epoch + 1], self._batches, self._step, self._after_epoch, device=self.problem.device)
            yield self.history[-1]

    def _batches(self, epoch: int) -> Iterator[Tensor]:
        freeze = self.problem.config.freeze_epochs
        frozen = freeze == "all" or epoch <= freeze
        for layer in linear_layers(self.network)[:-1]:
            layer.requires_grad_(not frozen)
        self.loss = torch.zeros((), device=self.problem.device)
        self.network.train()
        return shuffled_batches(
            len(self.train_set),
            self.problem.config.batch_size,
            self.seed,
            "finetune",
            epoch,
            device=self.problem.device,
        )

    def _step(self, indices: Tensor, epoch: int, number: int) -> None:
        if self.problem.config.schedule == "cosine":
            done = (epoch - 1 + number / self.steps) / self.problem.config.epochs
            set_option(self.optimizer, lr=0.5 * self.learning_rate * (1 + math.cos(math.pi * done)))
        x, y = self.train_set.x[indices], labels_of(self.train_set)[indices]
        loss = F.cross_entropy(self.network(self.problem.scaling(x)), y)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.loss += loss.detach() * (len(indices) / len(self.train_set))

    @torch.no_grad()
    def _after_epoch(self, epoch: int, seconds: float) -> bool:
        begin = time.perf_counter()
        self.epoch = epoch
        self.network.eval()
        record = {"epoch": epoch, "train_loss": self.loss.item()}
        self.diverged = not math.isfinite(record["train_loss"])
        if self.valid is not None:
            logits = predict(self.network, self.problem.scaling, self.valid.x)
            y = labels_of(self.valid)
            record["valid_error"] = 100.0 * (logits.argmax(1) != y).float().mean().item()
            record["valid_loss"] = F.cross_entropy(logits, y).item()
        if self.valid is None or self.best_epoch == 0 or _score(record) < _score(self.history[self.best_epoch - 1]):
            self.best_epoch = epoch
            self.best_weights = copy.deepcopy(self.network.state_dict())
        synchronise(self.problem.device)
        record |= {"seconds": seconds, "measuring_seconds": time.perf_counter() - begin}
        self.history.append(record)
        return False

    def outcome(self) -> Outcome:
        """What remains when all is done."""
        return Outcome(self.best_weights, self.best_epoch, self.history, self.diverged)

    def state(self) -> dict[str, Any]:
        """All that the next epoch depends on."""
        return {
            "epoch": self.epoch,
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "best_epoch": self.best_epoch,
            "best_weights": self.best_weights,
            "history": self.history,
            "diverged": self.diverged,
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Go back to where `state` was taken."""
        self.epoch, self.best_epoch = state["epoch"], state["best_epoch"]
        self.history, self.best_weights = state["history"], state["best_weights"]
        self.diverged = state["diverged"]
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])


def _score(record: dict[str, float]) -> tuple[float, float]:
    return record["valid_error"], record["valid_loss"]


def _together(a: Examples, b: Examples) -> Examples:
    return Examples(torch.cat([a.x, b.x]), torch.cat([labels_of(a), labels_of(b)]))
