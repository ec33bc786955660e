"""One RBM of a stack, with its data, its optimiser and its chains, from its first update to its last."""

import copy
import logging
import time
from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor

from dbn.config.pretraining import Pretraining
from dbn.errors import InputError
from dbn.likelihood.gradient import GlobalBatch, Means, Offsets, set_gradient
from dbn.models.rbm import RBM
from dbn.pretraining import PENALTIES
from dbn.pretraining.diagnostics import Diagnostics
from dbn.pretraining.distributed_chains import SharedChains
from dbn.pretraining.layer_data import LayerData, Unlabeled
from dbn.pretraining.monitor import LayerMonitor
from dbn.pretraining.penalties import Penalty
from dbn.pretraining.recorder import LayerRecorder, shown_in_bar
from dbn.rng import stream, stream_seed
from dbn.runs.folder import RunFolder
from dbn.sampling import CHAINS
from dbn.sampling.chains import Chains
from dbn.storage.tensors import check_structure
from dbn.training import distributed
from dbn.training.averaging import RunningAverage
from dbn.training.checkpoint_control import checkpoint_control
from dbn.training.device import matmul_dtype, tf32_products
from dbn.training.loop import batch_length, progress_bar, run_epochs, shuffled_batches
from dbn.training.optimizers import make_optimizer, restore_optimizer, set_option

LOGGER = logging.getLogger(__name__)


CHECKPOINT_SECONDS = 60.0
"""Within an epoch; at its end a checkpoint is written in any case."""


LARGEST = 1e9
"""Of any parameter or mean: beyond it nothing is learnt any more, and squares come near the end of float32."""


class Diverged(InputError):
    """The parameters are not finite any more, or beyond all use."""


def penalties(config: Pretraining) -> dict[str, Penalty]:
    """Those that the configuration asks for, by the names in `PENALTIES`."""
    cost = config.resolved()["sparsity_cost"]
    arguments = {
        "l1": (config.l1,) if config.l1 else None,
        "sparsity": (config.sparsity_target, cost) if config.sparsity_target else None,
        "max_norm": (config.max_norm,) if config.max_norm else None,
    }
    return {name: PENALTIES[name](*given) for name, given in arguments.items() if given}


def make_chains(config: Pretraining, steps: int) -> Chains:
    """The source of negatives that the configuration asks for; of persistent chains each rank has its share."""
    resolved = config.resolved()

    def of(chains: int) -> Chains:
        made: Chains = CHAINS.build(config.estimator, steps=steps, chains=chains, temperatures=resolved["temperatures"])
        return made

    chains = resolved["chains"]
    return SharedChains(of, chains) if chains is not None and distributed.size() > 1 else of(chains)


class LayerTrainer:
    """One RBM of the stack with its data, its optimiser and its chains.

    Under several ranks each has the same RBM and takes its share of every batch and of persistent chains; gradients,
    and all that follows from a batch's means, are those of the whole. What is called here is then collective.
    """

    def __init__(self, rbm: RBM, below: list[RBM], data: Unlabeled, config: Pretraining) -> None:
        self.rbm, self.config = rbm, config
        self.layer = len(below) + 1
        self.below = below
        self.epoch = 0
        """Epochs done."""
        self.position = 0
        """Steps done of the next epoch."""
        self.seconds = 0.0
        """That they took, as of the last checkpoint among them."""
        self.setting = config.for_layer(self.layer - 1)
        self.device = data.train.device
        self.precision = matmul_dtype(config.precision, self.device)
        self.data = LayerData(
            data.train,
            data.scaling,
            below,
            how=config.binarize,
            features=config.features,
            noise=lambda epoch: self._stream("data", epoch),
        )
        self.data.prepare(1)
        mean, variance = self.data.moments()
        rbm.initialize(mean, variance, len(self.data), self._stream("weights"))
        if config.tied and below:
            rbm.init_from_transpose(below[-1])
        self.offsets = Offsets.start(rbm, mean) if config.centered else None
        self.optimizer = make_optimizer(
            config.optimizer,
            rbm.parameters(),
            learning_rate=self.setting.learning_rate.at(1, self.setting.epochs),
            momentum=self.setting.momentum.at(1, self.setting.epochs) if self.has_momentum else None,
            weight_decay=config.weight_decay,
        )
        self.chains = make_chains(config, self._gibbs_steps(1))
        several = distributed.size() > 1
        self.flat = distributed.FlatGradient(rbm.parameters(), sum(rbm.weight.shape)) if several else None
        self.penalties = penalties(config)
        self.averaged = RunningAverage(rbm, config.average) if config.average else None
        self.monitor = LayerMonitor(self.kept, below, data, config)
        self.noise = torch.Generator(self.device)
        self.steps = -(-len(self.data) // config.batch_size)
        """Updates in an epoch."""
        self.update_ratio = torch.zeros(())
        self.watch = Diagnostics()

    @property
    def kept(self) -> RBM:
        """The RBM that is measured and handed on: the running average where there is one."""
        return self.averaged.module if self.averaged else self.rbm

    @property
    def has_momentum(self) -> bool:
        """Whether the optimiser takes the schedule's momentum."""
        return self.config.resolved()["momentum"] is not None

    def _gibbs_steps(self, epoch: int) -> int:
        return round(self.setting.gibbs_steps.at(epoch, self.setting.epochs))

    def train(self, run: RunFolder | None, *, progress: bool) -> None:
        """All epochs that are left."""
        epochs = self.setting.epochs
        for record in run.metrics() if run else []:
            if record["layer"] == self.layer:
                self.watch.warnings(record)
        carried = self.seconds
        began = time.monotonic() - carried

        def save() -> None:
            if self.position:
                self._check_sound(self.epoch + 1)
                self.seconds = time.monotonic() - began
            state = self.state()
            if run and recorder:
                run.save_checkpoint(state, *recorder.files)

        is_kept = distributed.any_rank(run is not None)
        with (
            run.checkpoint if run else nullcontext(),
            LayerRecorder(run, self.layer) if run else nullcontext() as recorder,
            progress_bar(epochs, f"layer {self.layer}", shown=progress, initial=self.epoch) as bar,
            checkpoint_control(save if is_kept else None, CHECKPOINT_SECONDS) as control,
        ):

            def step(indices: Tensor, epoch: int, number: int) -> None:
                self.step(indices, epoch, number)
                self.position = number + 1
                control.after_step(self.position)

            def after_epoch(epoch: int, seconds: float) -> bool:
                nonlocal began, carried
                self._check_sound(epoch)
                self.epoch, self.position, self.seconds = epoch, 0, 0.0
                record = self._record(carried + seconds, recorder, last=epoch == epochs)
                bar.set_postfix(shown_in_bar(record))
                bar.update()
                control.after_epoch(lambda: None)
                began, carried = time.monotonic(), 0.0
                return False

            left = range(self.epoch + 1, epochs + 1)
            run_epochs(left, self.batches, step, after_epoch, device=self.device, done=self.position)
        self.rbm.load_state_dict(self.kept.state_dict())
        distributed.broadcast_tensors(self.rbm.parameters())

    def batches(self, epoch: int) -> Iterator[Tensor]:
        """The indices of an epoch's examples, a batch at a time; whatever is drawn anew an epoch is drawn here."""
        distributed.broadcast_tensors(self.rbm.parameters())
        self.data.prepare(epoch)
        self.chains.steps = self._gibbs_steps(epoch)
        if self.has_momentum:
            set_option(self.optimizer, momentum=self.setting.momentum.at(epoch, self.setting.epochs))
        return shuffled_batches(
            len(self.data), self.config.batch_size, self.config.seed, self.layer, epoch, device=self.device
        )

    def _learning_rate(self, epoch: int, number: int) -> float:
        """The schedule's at this update, as far as the warm-up has risen."""
        warmup = self.config.warmup_epochs
        risen = (epoch - 1 + (number + 1) / self.steps) / warmup if epoch <= warmup else 1.0
        return risen * self.setting.learning_rate.at(epoch + number / self.steps, self.setting.epochs)

    @torch.no_grad()
    def step(self, indices: Tensor, epoch: int, number: int) -> None:
        """One update of the RBM by batch `number` of the epoch."""
        set_option(self.optimizer, lr=self._learning_rate(epoch, number))
        self.noise.manual_seed(stream_seed(self.config.seed, "noise", self.layer, epoch, number, distributed.rank()))
        x = self.data.batch(indices)
        with self.rbm.products_in(self.precision), tf32_products(self.config.precision == "tf32"):
            field = self.rbm.hidden_field(x)
            negatives, negative_field = self.chains.negatives(self.rbm, x, field, self.noise)
            means = set_gradient(self.rbm, x, negatives, field, self.offsets, negative_field, self._whole(number))
        for penalty in self.penalties.values():
            penalty.before_step(self.rbm, means)
        before = self.rbm.weight.clone() if number == self.steps - 1 else None
        self.optimizer.step()
        for penalty in self.penalties.values():
            penalty.after_step(self.rbm)
        if before is not None:
            self.update_ratio = (self.rbm.weight - before).abs().mean() / before.abs().mean()
        if self.averaged:
            self.averaged.update(self.rbm)

    def _whole(self, number: int) -> GlobalBatch | None:
        """The batch of that number, of which each rank has a share; None where there is one rank."""
        if self.flat is None:
            return None
        n = batch_length(number, len(self.data), self.config.batch_size)
        return GlobalBatch(n, self.config.resolved()["chains"] or n, self.flat.all_reduce_sum)

    def _record(self, seconds: float, recorder: LayerRecorder | None, *, last: bool) -> dict[str, float]:
        """Measure what is due, write it down, and return it; rank 0 alone, but for what all chains tell."""
        begin = time.perf_counter()
        rate = self._learning_rate(self.epoch, self.steps - 1)
        record: dict[str, float] = {"layer": self.layer, "epoch": self.epoch, "learning_rate": rate}
        if last or self.epoch % self.config.measure_every == 0:
            if distributed.is_main():
                record |= self.monitor.metrics(self.epoch) | {"update_ratio": self.update_ratio.item()}
            record |= self.chains.metrics()
        if not distributed.is_main():
            return record
        every = self.config.likelihood_every
        if every and (last or self.epoch % every == 0):
            record |= self.monitor.likelihood(self.epoch)
        if recorder and (last or self.epoch % self.config.picture_every == 0):
            self.monitor.draw(recorder, self.epoch)
        record |= {
            "seconds": seconds,
            "measuring_seconds": time.perf_counter() - begin,
            "examples_per_second": len(self.data) / seconds,
        }
        for sentence in self.watch.warnings(record):
            LOGGER.warning("layer %d, epoch %d: %s", self.layer, self.epoch, sentence)
            if recorder:
                recorder.text("warnings", sentence, self.epoch)
        if recorder:
            recorder.log(record)
        return record

    @torch.no_grad()
    def _check_sound(self, epoch: int) -> None:
        """Raises `Diverged` when the parameters, or what they make of a batch, are not finite or beyond all use."""
        x = self.data.batch(torch.arange(min(len(self.data), self.config.batch_size), device=self.device))
        values = (*self.rbm.parameters(), *self.rbm.visible.natural().values(), self.rbm.down(self.rbm.up(x)))
        sound = torch.stack([(value.abs() < LARGEST).all() for value in values]).all()  # NaN is not less either
        if distributed.any_rank(not sound):
            raise Diverged(
                f"layer {self.layer} diverged in epoch {epoch}, its values are infinite or beyond {LARGEST:g}: "
                f"lower --learning-rate, which is {self._learning_rate(epoch, self.steps - 1):g} there"
            )

    def _stream(self, *purpose: str | int) -> torch.Generator:
        name, *rest = purpose
        return stream(self.config.seed, name, self.layer, *rest, device=self.device)

    def state(self) -> dict[str, Any]:
        """All that the next step depends on, for any number of ranks: stack, optimiser, chains, place in the epoch."""
        return {
            "layer": self.layer,
            "epoch": self.epoch,
            "position": self.position,
            "seconds": self.seconds,
            "update_ratio": self.update_ratio,
            "rbms": [rbm.state_dict() for rbm in (*self.below, self.rbm)],
            # Its options are the configuration's, and set anew for every step.
            "optimizer": self.optimizer.state_dict()["state"],
            "chains": self.chains.state(),
            "penalties": {name: penalty.state() for name, penalty in self.penalties.items()},
            "offsets": self.offsets.state() if self.offsets else None,
            "averaged": self.averaged.state() if self.averaged else None,
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Restore what `state` returned; ValueError for a state that is not of this layer."""
        check_structure(state, self._state_structure() | {"optimizer": state["optimizer"]})
        if not (0 <= state["epoch"] <= self.setting.epochs and 0 <= state["position"] <= self.steps):
            raise ValueError(f"epoch {state['epoch']}, step {state['position']} is not of this layer")
        self.epoch, self.position, self.seconds = state["epoch"], state["position"], state["seconds"]
        self.update_ratio = state["update_ratio"]
        self.rbm.load_state_dict(state["rbms"][-1])
        restore_optimizer(self.optimizer, state["optimizer"])
        self.chains.load_state(state["chains"])
        for name, penalty in self.penalties.items():
            penalty.load_state(state["penalties"][name])
        if self.offsets:
            self.offsets.load_state(state["offsets"])
        if self.averaged:
            self.averaged.load_state(state["averaged"])

    @torch.no_grad()
    def _state_structure(self) -> dict[str, Any]:
        """A state after some steps but for its values, and the optimizer's: from chains and penalties of its own."""
        rbm, x = copy.deepcopy(self.rbm), self.data.batch(torch.zeros(1, dtype=torch.int64, device=self.device))
        field = rbm.hidden_field(x)
        chains, used = make_chains(self.config, 1), penalties(self.config)
        chains.negatives(rbm, x, field, torch.Generator(self.device))
        for penalty in used.values():
            penalty.before_step(rbm, Means(x[0], rbm.hidden.mean(field)[0]))
            penalty.after_step(rbm)
        return self.state() | {
            "chains": chains.state(),
            "penalties": {name: penalty.state() for name, penalty in used.items()},
        }
