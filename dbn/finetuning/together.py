"""Several fits of one shape trained at the same time: one operation in place of as many as there are fits.

A step of a small network takes as long as its operations take to start, on a GPU any network's. Each fit has its own
examples, order, dropout masks, learning rate, validation and end, and gets what it gets alone, within rounding.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import final

import torch
from torch import Tensor, nn

from dbn.data.examples import Examples, labels_of
from dbn.finetuning.backward import set_gradients
from dbn.finetuning.dropout import SeededDropout
from dbn.finetuning.optimizer import optimizer_of
from dbn.finetuning.stacked import StackedDropout, StackedLinear
from dbn.finetuning.trainer import Trainer
from dbn.training.capture import captured_steps
from dbn.training.device import tf32_products
from dbn.training.loop import run_epochs
from dbn.training.optimizers import scale_rates


def train_together(fits: Sequence[Trainer], after_step: Callable[[int], None]) -> Iterator[list[Trainer]]:
    """Train until all are done, and yield after every epoch the fits that it was one of.

    One fit trains as it does by itself, to the bit. Several are of one stage of one comparison, and have networks of
    one shape that `set_gradients` takes; those that are behind, as after a resumption, catch up first.

    after_step: called with the number of steps done of the epoch; may raise to end training there.
    """
    if len(fits) == 1:
        (fit,) = fits
        fit.after_step = lambda: after_step(fit.position)
        for _ in fit.epochs():
            yield [fit]
        return
    group: _Group | None = None
    while left := [fit for fit in fits if not fit.done]:
        least = min((fit.epoch, fit.position) for fit in left)
        behind = [fit for fit in left if (fit.epoch, fit.position) == least]
        if group is None or group.fits != behind:
            if group is not None:
                group.let_go()
            group = _Group(behind, after_step)
        group.train()
        yield behind


@final
class _Group:
    """Fits that are trained together until one of them is done."""

    def __init__(self, fits: list[Trainer], after_step: Callable[[int], None]) -> None:
        self.fits, self.after_step = fits, after_step
        self.first, self.problem = fits[0], fits[0].problem
        seeds = list(dict.fromkeys(fit.seed for fit in fits))
        self.of_seeds = [next(fit for fit in fits if fit.seed == seed) for seed in seeds]
        """A fit of each seed: all of one seed have the same examples, order and dropout masks."""
        numbers = [seeds.index(fit.seed) for fit in fits]
        self.place = torch.tensor(numbers, device=self.problem.device)
        """The seed of each fit, as its number among these."""
        self.x = _of_all([fit.train_set.tensor for fit in self.of_seeds])
        self.y = _of_all([labels_of(fit.train_set) for fit in self.of_seeds])
        for fit, number in zip(fits, numbers, strict=True):
            fit.labeled = fit.train_set = Examples(self.x[number], self.y[number])
        self.loss = torch.stack([fit.loss for fit in fits])
        for fit, loss in zip(fits, self.loss, strict=True):
            fit.loss = loss
        self.learning = -1
        """Parameters of a fit that learn, once it has begun."""

    def train(self) -> None:
        """The rest of an epoch."""
        epoch, done = self.first.epoch + 1, self.first.position
        place = self.problem.device
        run_epochs([epoch], self._batches, self._step, self._after_epoch, device=place, done=done)

    def let_go(self) -> None:
        """Give each fit memory of its own."""
        for fit in self.fits:
            fit.loss = fit.loss.clone()
            for parameter in fit.network.parameters():
                parameter.data, parameter.grad = parameter.data.clone(), None

    def _batches(self, epoch: int) -> Iterator[Tensor]:
        """Indices (seeds, B) of every step."""
        for fit in self.fits:
            fit.freeze(epoch)
        if self.first.position == 0:
            self.loss.zero_()
        learning = [each.requires_grad for each in self.first.network.parameters()].count(True)
        if learning != self.learning:
            self.learning = learning
            self._stack()
        return map(torch.stack, zip(*(fit.order(epoch) for fit in self.of_seeds), strict=True))

    def _stack(self) -> None:
        self.network = nn.Sequential()
        for number, module in enumerate(self.first.learner):
            if isinstance(module, nn.Linear):
                self.network.append(StackedLinear([fit.learner[number] for fit in self.fits]))
            elif isinstance(module, SeededDropout):
                self.network.append(StackedDropout([fit.learner[number] for fit in self.of_seeds], self.place))
            else:
                self.network.append(module)
        is_frozen = self.problem.config.freeze_epochs != 0
        by_rate: dict[tuple[float, int], list[nn.Parameter]] = {}
        for fit in self.fits:
            for number, (layer, rate) in enumerate(fit.layers):
                by_rate.setdefault((rate, number * is_frozen), []).extend(layer)
        self.optimizer = optimizer_of(self.problem, [(layer, rate) for (rate, _), layer in by_rate.items()])
        for fit in self.fits:
            for parameter in fit.network.parameters():  # one state, of both optimizers
                self.optimizer.state[parameter] = fit.optimizer.state[parameter]
        noise = [fit.noise for fit in self.of_seeds]
        self.captured = captured_steps(noise[0], self.optimizer, [], "a step of fits that train together", *noise[1:])

    def _step(self, indices: Tensor, epoch: int, number: int) -> None:
        config, fit = self.problem.config, self.first
        scale_rates(self.optimizer, config.rate_factor(epoch - 1 + number / fit.steps))
        for each in self.of_seeds:
            each.seed_noise(epoch, number)
        self.captured(indices.shape[1], self._update, indices)
        for each in self.fits:
            each.position = number + 1
            if each.averaged:
                each.averaged.updates += 1
        self.after_step(number + 1)

    @torch.no_grad()
    def _update(self, indices: Tensor) -> None:
        """As `Trainer._update`, of all."""
        rows, n = torch.arange(len(indices), device=indices.device)[:, None], indices.shape[1]
        x, y = self.x[rows, indices], self.y[rows, indices][self.place]
        x = self.problem.scaling(x.flatten(0, 1)).unflatten(0, indices.shape)[self.place]
        if self.first.precision != torch.float32:
            x = x.to(self.first.precision)

        def losses_of(logits: Tensor) -> Tensor:
            losses: Tensor = self.first.task.losses(logits.flatten(0, 1).float(), y.flatten(0, 1))
            return losses.view(-1, n).sum(1) / n

        with tf32_products(self.problem.config.precision == "tf32"):
            losses = set_gradients(self.network, x, losses_of)
        self.optimizer.step()
        self._bound_norms()
        self._blend()
        self.loss += losses * (n / len(self.first.train_set))

    def _bound_norms(self) -> None:
        bound = self.problem.config.max_norm
        if bound is None:
            return
        layers = [module for module in self.network if isinstance(module, StackedLinear)]
        for layer in layers[:-1]:
            if layer.weight.requires_grad:
                layer.weight.flatten(0, 1).renorm_(2, 0, bound)

    def _blend(self) -> None:
        averages = [each.averaged for each in self.fits if each.averaged]
        if averages:
            kept: list[Tensor] = [parameter for each in averages for parameter in each.module.parameters()]
            values: list[Tensor] = [parameter for fit in self.fits for parameter in fit.network.parameters()]
            torch._foreach_lerp_(kept, values, averages[0].weight)

    def _after_epoch(self, epoch: int, seconds: float) -> bool:
        for fit in self.fits:
            fit.after_epoch(epoch, seconds / len(self.fits))
        return False


def _of_all(tensors: Sequence[Tensor]) -> Tensor:
    """(S, …), without a copy where all are one."""
    first = tensors[0]
    is_one = all(each.data_ptr() == first.data_ptr() for each in tensors)
    return first.expand(len(tensors), *first.shape) if is_one else torch.stack(list(tensors))
