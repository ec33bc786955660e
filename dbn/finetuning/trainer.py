"""Supervised training of one network, alike for every arm: network, labels, order, output layer and budget.

Arms differ in their initial weights, and in their activation where asked.
"""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn

from dbn.data.examples import Examples, labels_of
from dbn.finetuning import pseudo_labels
from dbn.finetuning.backward import is_known, set_gradients
from dbn.finetuning.dropout import with_dropout
from dbn.finetuning.optimizer import optimizer_of, rated_layers
from dbn.finetuning.problem import Problem
from dbn.finetuning.results import FitResult, Signals, check_fit_result
from dbn.initializers.arms import Arm
from dbn.models.matmul import LinearByProduct
from dbn.models.mlp import linear_layers
from dbn.rng import stream, stream_seed
from dbn.storage.tensors import check_structure
from dbn.tasks.metrics import predict
from dbn.training import distributed
from dbn.training.averaging import RunningAverage
from dbn.training.capture import captured_steps
from dbn.training.device import matmul_dtype, synchronize, tf32_products
from dbn.training.loop import batch_length, run_epochs, shuffled_batches
from dbn.training.optimizers import restore_optimizer, scale_rates

ROWS_AT_ONCE = 2000
"""Examples per batch of the statistics of an averaged network."""


class Trainer:
    """Trains one network: an arm, a learning rate, a seed. Each of several ranks has its share of every batch.

    Keeps the weights of the epoch with the least validation error (ties: the least validation loss). With
    `refit_epochs` it trains on training and validation examples for that many epochs and keeps the last.
    """

    def __init__(
        self, problem: Problem, arm: Arm, learning_rate: float, seed: int, refit_epochs: int | None = None
    ) -> None:
        self.problem, self.arm, self.learning_rate, self.seed = problem, arm, learning_rate, seed
        config = problem.config
        train, valid = problem.labeled(seed)
        self.task = problem.task.fitted(labels_of(train))
        self.valid: Examples | None = valid
        if refit_epochs is not None:
            y = torch.cat([labels_of(train), labels_of(valid)])
            train, self.valid = Examples(torch.cat([train.tensor, valid.tensor]), y), None
        self.labeled = Examples(train.x, self._targets(train))
        self.pseudo: pseudo_labels.Pseudo = {}
        """What the network has labeled for this epoch, where that is asked for."""
        self.train_set = self.labeled
        """Of this epoch."""
        self.last_epoch = config.epochs if refit_epochs is None else refit_epochs
        self.network = problem.network(arm, seed)
        self.precision = matmul_dtype(config.precision, problem.device)
        self.noise = torch.Generator(problem.device)
        self.learner = with_dropout(self.network, config.input_dropout, config.hidden_dropout, self.noise)
        """The network with dropout."""
        on_cpu = problem.device.type == "cpu" and self.precision == torch.float32
        self.is_by_hand = on_cpu and distributed.size() == 1 and is_known(self.learner)
        """Whether gradients are set without autograd, with the same bits."""
        self.shared: nn.Module = self.learner
        """`learner` with gradients averaged over ranks."""
        self.averaged = RunningAverage(self.network, config.average) if config.average else None
        self.layers = rated_layers(self.network, learning_rate, config.layer_rates)
        self.optimizer = optimizer_of(problem, self.layers)
        self.captured = captured_steps(self.noise, self.optimizer, [], "a step of fine-tuning")
        self.loss = torch.zeros((), dtype=torch.float32, device=problem.device)
        self.epoch = 0
        """Epochs done."""
        self.position = 0
        """Steps done of the next epoch."""
        self.after_step: Callable[[], None] = lambda: None
        """Called between two steps; may raise to end training there."""
        self.history: list[dict[str, float]] = []
        """One record per epoch."""
        self.best_epoch = 0
        self.best_weights: dict[str, Tensor] = {}
        self.signals: Signals = {}
        """Measured so far."""
        self.diverged = False
        """Whether the loss is no longer finite, which ends training and is a result of the arm and learning rate."""

    def _targets(self, examples: Examples) -> Tensor:
        return self.task.targets(labels_of(examples)).to(self.problem.device)

    @property
    def kept(self) -> nn.Sequential:
        """The network that is measured and kept: the running average if there is one."""
        return self.averaged.module if self.averaged else self.network

    @property
    def steps(self) -> int:
        """Of this epoch."""
        return -(-len(self.train_set) // self.problem.config.batch_size)

    @property
    def done(self) -> bool:
        """Whether all epochs are done, patience has run out, or the loss has diverged."""
        if self.diverged:
            return True
        patience = self.problem.config.patience if self.valid is not None else None
        waited = self.epoch - self.best_epoch
        return self.epoch >= self.last_epoch or (patience is not None and waited >= patience)

    def epochs(self) -> Iterator[dict[str, float]]:
        """Train until done, and yield the record of each epoch."""
        while not self.done:
            run_epochs(
                [self.epoch + 1],
                self.batches,
                self._counted_step,
                self.after_epoch,
                device=self.problem.device,
                done=self.position,
            )
            yield self.history[-1]
        self.captured.forget()

    def batches(self, epoch: int) -> Iterator[Tensor]:
        """`order` of an epoch, which begins or goes on here."""
        self.freeze(epoch)
        if self.position == 0:
            self.loss.zero_()
            self._label(epoch)
        self.learner.train()
        self.shared = distributed.averaging(self.learner)
        return self.order(epoch)

    def freeze(self, epoch: int) -> None:
        """Let those layers learn that do in that epoch."""
        freeze = self.problem.config.freeze_epochs
        self.network[:-1].requires_grad_(freeze != "all" and epoch > freeze)

    def order(self, epoch: int) -> Iterator[Tensor]:
        """The indices of every step, the same for all fits of a seed."""
        n, size = len(self.train_set), self.problem.config.batch_size
        return shuffled_batches(n, size, self.seed, "finetune", epoch, device=self.problem.device)

    def _label(self, epoch: int) -> None:
        """Let the network label the rows of this epoch that it is to learn from beside the labeled ones."""
        config = self.problem.config
        if config.pseudo_labels is None:
            return
        n, generator = config.pseudo_rows(epoch, self.last_epoch), stream(self.seed, "pseudo-labels", epoch)
        with self._products():
            drawn = pseudo_labels.draw(self.problem, self.kept, labels_of(self.labeled), n, generator)
        self._learn_from(distributed.broadcast_state(drawn))

    def _learn_from(self, pseudo: pseudo_labels.Pseudo) -> None:
        self.pseudo, self.train_set = pseudo, pseudo_labels.joined(self.problem, self.labeled, pseudo)
        self.captured.forget()

    def _counted_step(self, indices: Tensor, epoch: int, number: int) -> None:
        self._step(indices, epoch, number)
        self.position = number + 1
        self.after_step()

    @distributed.naming_lost_ranks()
    def _step(self, indices: Tensor, epoch: int, number: int) -> None:
        config, examples = self.problem.config, len(self.train_set)
        scale_rates(self.optimizer, config.rate_factor(epoch - 1 + number / self.steps))
        self.seed_noise(epoch, number)
        n = batch_length(number, examples, config.batch_size)
        # What may differ between two steps beside tensors is the key.
        key = n, len(indices), [each.requires_grad for each in self.network.parameters()].count(True)
        self.captured(key, lambda indices: self._update(indices, n), indices)
        if self.averaged:
            self.averaged.updates += 1

    def seed_noise(self, epoch: int, number: int) -> None:
        """Before that step of that epoch."""
        self.noise.manual_seed(stream_seed(self.seed, "noise", "finetune", epoch, number, distributed.rank()))

    def _update(self, indices: Tensor, n: int) -> None:
        """The part of a step on the device, by these examples of a batch of n."""
        x, y = self.train_set.x[indices], labels_of(self.train_set)[indices]

        def loss_of(logits: Tensor) -> Tensor:
            # Not the mean over this rank's share: shares differ in size, and may be empty.
            return self.task.loss(logits.float(), y, reduction="sum") / (n / distributed.size())

        if self.is_by_hand:
            loss = set_gradients(self.learner, self.problem.scaling(x), loss_of)
        else:
            with tf32_products(self.problem.config.precision == "tf32"):
                with self._products():
                    logits = self.shared(self.problem.scaling(x))
                loss = loss_of(logits)
                self.optimizer.zero_grad()
                loss.backward()
        self.optimizer.step()
        self._bound_norms()
        if self.averaged:
            self.averaged.blend(self.network)
        self.loss += loss.detach() * (n / len(self.train_set) / distributed.size())

    def _products(self) -> AbstractContextManager:
        """The products of the forward pass, and so of the backward pass."""
        if self.precision == torch.float32:
            return LinearByProduct() if self.problem.device.type == "cpu" else nullcontext()
        # No cache: the weights change every step.
        return torch.autocast(self.problem.device.type, self.precision, cache_enabled=False)

    @torch.no_grad()
    def _bound_norms(self) -> None:
        """W_j ← W_j·min(1, max_norm/‖W_j‖₂) for every row of every hidden layer that learns."""
        bound = self.problem.config.max_norm
        if bound is None:
            return
        for layer in linear_layers(self.network)[:-1]:
            if layer.weight.requires_grad:
                layer.weight.renorm_(2, 0, bound)

    @torch.no_grad()
    def after_epoch(self, epoch: int, seconds: float) -> bool:
        """Validate, and keep the weights if they are the best so far; False, as `done` says when to stop."""
        begin = time.perf_counter()
        self.epoch, self.position = epoch, 0
        if self.averaged:  # the statistics of batch normalization are of the last weights, not of their average
            parts = self.train_set.tensor.tensor_split(-(-len(self.train_set) // ROWS_AT_ONCE))
            update_bn(map(self.problem.scaling, parts), self.kept)
        self.kept.eval()
        distributed.all_reduce_sum(self.loss)
        record = {"epoch": epoch, "train_loss": self.loss.item()}
        if self.pseudo:
            record["pseudo_labels"] = float(len(self.pseudo["rows"]))
        if self.valid is not None and distributed.is_main():
            logits = predict(self.kept, self.problem.scaling, self.valid.x)
            record["valid_error"] = self.task.error(logits, labels_of(self.valid))
            record["valid_loss"] = self.task.loss(logits, self._targets(self.valid)).item()
        record = distributed.broadcast_state(record)  # so that all stop together
        self.diverged = not math.isfinite(record["train_loss"])
        if self.valid is None or self.best_epoch == 0 or _score(record) < _score(self.history[self.best_epoch - 1]):
            self.best_epoch = epoch
            # No deepcopy: the memory of weights that are trained together is one.
            self.best_weights = {name: value.clone() for name, value in self.kept.state_dict().items()}
        synchronize(self.problem.device)
        record |= {"seconds": seconds, "measuring_seconds": time.perf_counter() - begin}
        self.history.append(record)
        return False

    def result(self) -> FitResult:
        """After the last epoch."""
        return FitResult(self.best_weights, self.best_epoch, self.history, self.diverged, self.signals)

    def state(self) -> dict[str, Any]:
        """All that the next step depends on, for any number of ranks; collective."""
        loss = self.loss.clone()
        distributed.all_reduce_sum(loss)
        return {
            "epoch": self.epoch,
            "position": self.position,
            "loss": loss,
            "network": self.network.state_dict(),
            # Without its options, which are the configuration's; the rate is set in every step.
            "optimizer": {number: kept for number, kept in self.optimizer.state_dict()["state"].items() if kept},
            "averaged": self.averaged.state() if self.averaged else None,
            "best_epoch": self.best_epoch,
            "best_weights": self.best_weights,
            "history": self.history,
            "signals": self.signals,
            "diverged": self.diverged,
            **({} if self.problem.config.pseudo_labels is None else {"pseudo": self.pseudo}),
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Restore what `state` returned; ValueError for a state that is not of this fit."""
        elsewhere = {name: state[name] for name in ("optimizer", "history", "best_weights", "signals")}
        if self.problem.config.pseudo_labels is not None:
            elsewhere["pseudo"] = state["pseudo"]
        check_structure(state, self.state() | elsewhere)
        if pseudo := state.get("pseudo"):
            self._learn_from(pseudo_labels.checked(self.problem, pseudo))
        if not (0 <= state["epoch"] <= self.last_epoch and 0 <= state["position"] <= self.steps):
            raise ValueError(f"epoch {state['epoch']}, step {state['position']} is not of this fit")
        kept = (state[name] for name in ("best_weights", "best_epoch", "history", "signals", "epoch"))
        check_fit_result(self.network, *kept, tuned=self.valid is not None)
        self.epoch, self.best_epoch = state["epoch"], state["best_epoch"]
        self.position = state["position"]
        self.captured.forget()
        self.loss.copy_(state["loss"] if distributed.is_main() else torch.zeros_like(state["loss"]))
        self.history, self.best_weights, self.signals = state["history"], state["best_weights"], state["signals"]
        self.diverged = state["diverged"]
        self.network.load_state_dict(state["network"])
        restore_optimizer(self.optimizer, state["optimizer"])
        if self.averaged:
            self.averaged.load_state(state["averaged"])


def _score(record: dict[str, float]) -> tuple[float, float]:
    return record["valid_error"], record["valid_loss"]
