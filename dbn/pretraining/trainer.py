"""Training of one layer of a stack."""

import copy
from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from dbn.capture import CapturedSteps
from dbn.compiled import CompiledCalls
from dbn.config.pretraining import Pretraining
from dbn.likelihood.gradient import GlobalBatch, Means, Offsets, set_gradient
from dbn.models.matmul import find_fastest
from dbn.models.rbm import RBM, Harmonium
from dbn.pretraining.diagnostics import Diagnostics
from dbn.pretraining.distributed_chains import make_chains
from dbn.pretraining.divergence import Diverged, divergence, other_remedy
from dbn.pretraining.layer_data import LayerData, Unlabeled
from dbn.pretraining.monitor import LayerMonitor
from dbn.pretraining.penalties import penalties
from dbn.rng import stream, stream_seed
from dbn.storage.schema import NATURAL, check
from dbn.storage.tensors import check_bounded, check_structure
from dbn.training import distributed
from dbn.training.averaging import RunningAverage
from dbn.training.capture import captured_steps
from dbn.training.device import matmul_dtype, tf32_products
from dbn.training.loop import batch_length, shuffled_batches
from dbn.training.optimizers import make_optimizer, restore_optimizer, set_option


class LayerTrainer:
    """One RBM of the stack with its data, optimizer and chains.

    Each of several ranks has the same RBM and its share of every batch and of persistent chains; gradients and means
    are those of the whole batch. Methods are then collective.
    """

    rate_option = "--learning-rate"

    def __init__(
        self, rbm: RBM, below: list[RBM], data: Unlabeled, config: Pretraining, layer: int | None = None
    ) -> None:
        """layer: its number in the log, which random streams follow; by default the place above those `below`."""
        config = config.for_data(*data.train.shape)
        self.rbm, self.config = rbm, config
        self.layer = len(below) + 1 if layer is None else layer
        self.below = below
        self.epoch = 0
        """Epochs done."""
        self.position = 0
        """Steps done of the next epoch."""
        self.seconds = 0.0
        """Duration of those steps, as of the last checkpoint."""
        self.setting = config.for_layer(len(below))
        self.device = data.train.device
        self.precision = matmul_dtype(config.precision, self.device)
        seed, number, device = config.seed, self.layer, self.device
        self.data = LayerData(
            data.train,
            data.scaling,
            below,
            how="none" if config.binarize == "fixed" and not below else config.binarize,  # drawn by `unlabeled`
            features=config.features,
            # Without `self`: in a cycle the features would outlive the trainer.
            noise=lambda epoch: stream(seed, "data", number, epoch, device=device),
            folder=data.folder,
            weights=data.weights,
            missing=data.missing,
        )
        self.data.prepare(1)
        mean = self._initialize()
        self.offsets = Offsets.start(rbm, mean) if config.centered else None
        self.optimizer = make_optimizer(
            config.optimizer,
            *self._learned(),
            learning_rate=self.setting.learning_rate.at(1, self.setting.epochs),
            momentum=self.setting.momentum.at(1, self.setting.epochs) if self.has_momentum else None,
            weight_decay=config.weight_decay,
            capturable=self.device.type == "cuda",
        )
        self.chains = make_chains(config, self._gibbs_steps(1))
        self.paired = getattr(self.chains, "paired", False)  # the chains of others may lack it
        several = distributed.size() > 1
        self.flat = distributed.FlatGradient(rbm.parameters(), sum(rbm.weight.shape)) if several else None
        self.penalties = penalties(config)
        self.averaged = RunningAverage(rbm, config.average) if config.average else None
        self.monitor = LayerMonitor(self.kept, below, data, config)
        self.noise = torch.Generator(self.device)
        self.captured, self.compiled = self._captured(), self._compiled()
        self.has_stepped = False
        """Whether everything is there that is first made in a step: only then is one compiled."""
        self.steps = -(-len(self.data) // config.batch_size)
        """Updates in an epoch."""
        self.update_ratio = torch.zeros((), dtype=torch.float32, device="cpu")
        momentum, valid_rows = max(self.setting.momentum.values), 0 if data.valid is None else len(data.valid)
        self.watch = Diagnostics(self.steps, valid_rows, momentum)

    def _initialize(self) -> Tensor:
        """Set the first parameters; returns the mean of the visible units, (V,)."""
        mean, variance = self.data.moments()
        self.rbm.initialize(mean, variance, len(self.data), self._stream("weights"))
        if self.config.tied and self.below:
            self.rbm.init_from_transpose(self.below[-1])
        return mean

    def _learned(self) -> list[list[nn.Parameter]]:
        """The parameters that the optimizer moves, by layer."""
        return [list(self.rbm.parameters())]

    def _visible(self, x: Tensor) -> Tensor:
        """What the RBM is given of the rows x (B, …) of a batch, (B, V)."""
        return x

    @property
    def kept(self) -> RBM:
        """The RBM that is measured and kept: the running average if there is one."""
        return self.averaged.module if self.averaged else self.rbm

    @property
    def has_momentum(self) -> bool:
        """Whether the optimizer takes momentum."""
        return self.config.momentum is not None

    def _gibbs_steps(self, epoch: int) -> int:
        return round(self.setting.gibbs_steps.at(epoch, self.setting.epochs))

    def batches(self, epoch: int) -> Iterator[Tensor]:
        """Batches of the indices of an epoch's examples; what is drawn once per epoch is drawn here."""
        distributed.broadcast_tensors(self.rbm.parameters())
        self.data.prepare(epoch)
        self.chains.steps = self._gibbs_steps(epoch)
        if self.has_momentum:
            set_option(self.optimizer, momentum=self.setting.momentum.at(epoch, self.setting.epochs))
        n, seed, device = len(self.data), self.config.seed, self.data.index_device
        order = shuffled_batches(n, self.config.batch_size, seed, self.layer, epoch, device=device)
        return self.data.ahead(order, self.position)

    def learning_rate(self, epoch: int, number: int) -> float:
        """Of this update, by schedule and warm-up."""
        warmup = self.config.warmup_epochs
        risen = (epoch - 1 + (number + 1) / self.steps) / warmup if epoch <= warmup else 1.0
        return risen * self.setting.learning_rate.at(epoch + number / self.steps, self.setting.epochs)

    def _captured(self) -> CapturedSteps:
        """What does the steps; to be made again where one of these is replaced."""
        held = [self.chains, self.offsets, *self.penalties.values()]
        return captured_steps(self.noise, self.optimizer, held, f"a step of layer {self.layer}")

    def _compiled(self) -> CompiledCalls:
        """What sets the gradients; to be made again likewise."""
        held = [
            self.rbm,
            self.data.scaling,
            self.chains,
            *self.penalties.values(),
            *([self.offsets] if self.offsets else []),
        ]
        calls = CompiledCalls(held, wanted=self.config.compile)
        if calls.wanted and self.flat:
            calls.give_up("several processes share them")
        find_fastest()
        return calls

    @torch.no_grad()
    def step(self, indices: Tensor, epoch: int, number: int) -> None:
        """One update by batch `number` of the epoch."""
        set_option(self.optimizer, lr=self.learning_rate(epoch, number))
        self.noise.manual_seed(stream_seed(self.config.seed, "noise", self.layer, epoch, number, distributed.rank()))
        before = self.rbm.weight.clone() if number == self.steps - 1 else None
        if self.captured.recorder is None:
            self._update(number, *self._batch(indices))
        else:  # what may differ between two steps beside tensors is the key
            place = self.data.place
            key = self.optimizer.param_groups[0].get("momentum"), self.chains.steps, len(indices), place
            if place is None:  # the host reads the rows
                self.captured(key, lambda *batch: self._update(number, *batch), *self._batch(indices))
            else:
                self.captured(key, lambda indices: self._update(number, *self._batch(indices)), indices)
        if self.averaged:
            self.averaged.updates += 1
        if before is not None:
            self.update_ratio = (self.rbm.weight - before).abs().mean() / before.abs().mean()

    def _batch(self, indices: Tensor) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """The rows of these examples, their weights, and which units are observed."""
        return self.data.rows(indices), self.data.weights_of(indices), self.data.known_of(indices)

    def _update(self, number: int, rows: Tensor, weights: Tensor | None, known: Tensor | None) -> None:
        """The part of a step on the device, without numbers of the host that differ between steps."""
        with tf32_products(self.config.precision == "tf32"):
            if self.has_stepped:
                self.compiled(self.chains.steps, partial(self._set_all_gradients, number), rows, weights, known)
            else:
                self._set_all_gradients(number, rows, weights, known)
        self.has_stepped = True
        self.optimizer.step()
        for penalty in self.penalties.values():
            penalty.after_step(self.rbm)
        if self.averaged:
            self.averaged.blend(self.rbm)

    def _set_all_gradients(self, number: int, rows: Tensor, weights: Tensor | None, known: Tensor | None) -> None:
        """That of the likelihood and of the penalties."""
        with self.rbm.products_in(self.precision):
            means = self.set_gradient(self.data.states(rows), number, weights, known)
        for penalty in self.penalties.values():
            penalty.before_step(self.rbm, means)

    def set_gradient(self, x: Tensor, number: int, weights: Tensor | None, known: Tensor | None = None) -> Means:
        """Write the gradient for batch `number`, x (B, V), into `.grad`; see `dbn.likelihood.gradient`.

        known: which units are observed, None where all are; see `dbn.models.missing`."""
        of_rows: Harmonium = self.rbm
        if known is not None and self.data.missing:
            of_rows, x = self.data.missing.at(self.rbm, x, known, self.noise)
        field = of_rows.hidden_field(x)
        # Chains from the data take any model of two layers, and others are given an RBM.
        negatives = self.chains.negatives(of_rows, x, field, self.noise)  # type: ignore[arg-type]
        return set_gradient(
            self.rbm,
            x,
            negatives.states,
            field,
            self.offsets,
            negatives.field,
            self._whole(number, weights),
            weights,
            paired=self.paired,
            data_hidden=negatives.data_hidden,
        )

    def _whole(self, number: int, weights: Tensor | None) -> GlobalBatch | None:
        """The batch of all ranks; None if there is one."""
        if self.flat is None:
            return None
        n = batch_length(number, len(self.data), self.config.batch_size)
        total = None if weights is None else weights.sum()
        if total is not None:
            distributed.all_reduce_sum(total)
        return GlobalBatch(n, self.config.chains or n, self.flat.all_reduce_sum, total)

    @torch.no_grad()
    def check_sound(self, epoch: int) -> None:
        """Raises `Diverged` when parameters or reconstructions are non-finite or too large, or Z is infinite."""
        few = torch.arange(min(len(self.data), self.config.batch_size), device=self.data.index_device)
        x = self._visible(self.data.batch(few))
        why = divergence(self.rbm, self.kept, x)
        if distributed.any_rank(bool(why)):
            remedy = f"lower {self.rate_option}, which is {self.learning_rate(epoch, self.steps - 1):g} there"
            other = other_remedy(self.rbm.visible, self.layer, *self.data.moments(), float(x.max()))
            why = why or "as another rank found"
            raise Diverged(f"layer {self.layer} diverged in epoch {epoch}, {why}: {other}{remedy}")

    def _stream(self, *purpose: str | int) -> torch.Generator:
        name, *rest = purpose
        return stream(self.config.seed, name, self.layer, *rest, device=self.device)

    def state(self) -> dict[str, Any]:
        """All that the next step depends on, for any number of ranks."""
        return {
            "layer": self.layer,
            "epoch": self.epoch,
            "position": self.position,
            "seconds": self.seconds,
            "update_ratio": self.update_ratio,
            "rbms": [rbm.state_dict() for rbm in (*self.below, self.rbm)],
            # Without its options, which are the configuration's and set in every step.
            "optimizer": self.optimizer.state_dict()["state"],
            "chains": self.chains.state(),
            "penalties": {name: penalty.state() for name, penalty in self.penalties.items()},
            "offsets": self.offsets.state() if self.offsets else None,
            "averaged": self.averaged.state() if self.averaged else None,
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Restore what `state` returned; ValueError for a state that is not of this layer."""
        wanted = self._state_structure() | {"optimizer": state["optimizer"]}
        # The chains of PCD once had their W v beside them.
        chains = {name: v for name, v in state["chains"].items() if name != "field" or name in wanted["chains"]}
        check_structure(state | {"chains": chains}, wanted)
        for part in ("rbms", "chains", "offsets", "averaged", "penalties"):
            check_bounded(state[part], part)
        check(state["seconds"], NATURAL, "seconds")
        if not (0 <= state["epoch"] <= self.setting.epochs and 0 <= state["position"] <= self.steps):
            raise ValueError(f"epoch {state['epoch']}, step {state['position']} is not of this layer")
        self.captured.forget()
        self.epoch, self.position, self.seconds = state["epoch"], state["position"], state["seconds"]
        self.update_ratio, self.has_stepped = state["update_ratio"], state["epoch"] + state["position"] > 0
        self.rbm.load_state_dict(state["rbms"][-1])
        restore_optimizer(self.optimizer, state["optimizer"])
        self.chains.load_state(chains)
        for name, penalty in self.penalties.items():
            penalty.load_state(state["penalties"][name])
        if self.offsets:
            self.offsets.load_state(state["offsets"])
        if self.averaged:
            self.averaged.load_state(state["averaged"])

    @torch.no_grad()
    def _state_structure(self) -> dict[str, Any]:
        """The structure of a state after some steps, but for the optimizer's; from other chains and penalties."""
        rbm = copy.deepcopy(self.rbm)
        x = self._visible(self.data.batch(torch.zeros(1, dtype=torch.int64, device=self.data.index_device)))
        field = rbm.hidden_field(x)
        for parameter in rbm.parameters():
            parameter.grad = torch.zeros_like(parameter)
        chains, used = make_chains(self.config, 1), penalties(self.config)
        chains.negatives(rbm, x, field, torch.Generator(self.device))
        for penalty in used.values():
            penalty.before_step(rbm, Means(x[0], rbm.hidden.mean(field)[0]))
            penalty.after_step(rbm)
        return self.state() | {
            "chains": chains.state(),
            "penalties": {name: penalty.state() for name, penalty in used.items()},
        }
