"""Greedy layer-by-layer training of a stack: a trained RBM is frozen, and its activity is the next one's data.

Hinton, Osindero & Teh (2006); Bengio et al. (2006), "Greedy layer-wise training of deep networks".
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from dbn.belief_net import DBN
from dbn.chains import CHAINS
from dbn.config import Pretraining, to_dict
from dbn.datasets import Splits, binarize, check_bernoulli, splits_from_arrays, standardisation
from dbn.errors import InputError
from dbn.gradient import set_gradient
from dbn.layer_data import CHUNK, LayerData, Unlabelled
from dbn.monitoring import LayerMonitor, LayerRecorder, forget_after, shown_in_bar
from dbn.randomness import stream, stream_seed
from dbn.rbm import RBM
from dbn.runs import RunFolder, begin, save_stack
from dbn.scaling import Scaling
from dbn.training import make_optimizer, pick_device, progress_bar, run_epochs, set_option, shuffled_batches
from dbn.units import UNITS, Bernoulli, Units

LARGEST = 1e9
"""Of any parameter or mean: beyond it nothing is learnt any more, and squares come near the end of float32."""


def pretrain(
    x: Tensor | NDArray,
    hidden: Sequence[int] = (500, 500, 2000),
    *,
    run: Path | str | None = None,
    device: str = "auto",
    progress: bool = False,
    **options: Any,
) -> DBN:
    """Learn a stack of RBMs from unlabelled rows.

    x: (N, V), or pictures (N, H, W) or (N, C, H, W); floats in [0, 1] or bytes, or any real values with
    visible="gaussian". One tenth, at most 5,000 rows, is held out to be measured on.
    hidden: units of each layer, from the data upwards.
    run: a new folder for metrics, pictures, checkpoints and weights; without it nothing is written.
    options: the fields of `dbn.config.Pretraining`, such as epochs=10, learning_rate=0.1, seed=0.

    InputError for data or options that cannot be used, and when a layer diverges.
    """
    unknown = sorted(set(options) - {field.name for field in fields(Pretraining)})
    if unknown:
        raise InputError(f"pretrain has no option {unknown[0]!r}: see the fields of dbn.config.Pretraining")
    config = Pretraining(hidden=tuple(hidden), **options)
    data = unlabelled(splits_from_arrays(x), config, pick_device(device))
    folder = None
    if run is not None:
        folder = begin(Path(run), to_dict(config), resume=False, overwrite=False)
    return pretrain_stack(data, config, folder, progress=progress)


def unlabelled(splits: Splits, config: Pretraining, device: torch.device) -> Unlabelled:
    """The rows of training and validation on the device, and the scaling that the visible units ask for.

    InputError for values that the visible units cannot take.
    """
    if config.visible == "gaussian":
        scaling = Scaling(splits.divisor, *standardisation(splits.train.x, splits.divisor))
    else:
        check_bernoulli(splits)
        scaling = Scaling(splits.divisor)
    parts = {"train": splits.train.x, "valid": splits.valid.x}
    if config.binarize == "fixed":
        # Here, once: every layer, and whatever is measured, sees the same pixels.
        parts = {part: _fixed_pixels(x, scaling, stream(config.seed, "pixels", part)) for part, x in parts.items()}
    return Unlabelled(parts["train"].to(device), parts["valid"].to(device), scaling.to(device), splits.image_shape)


def _fixed_pixels(x: Tensor, scaling: Scaling, generator: torch.Generator) -> Tensor:
    """Bytes (N, V) that `scaling` brings to 0 and 1."""
    drawn = [binarize(scaling(part), "fixed", generator) * scaling.divisor for part in x.split(CHUNK)]
    return torch.cat([part.to(torch.uint8) for part in drawn])


def summary(records: Sequence[Mapping[str, float]]) -> str:
    """A line a layer: its last measurements, and the seconds it took."""
    lines = ["layer  epochs  reconstruction error  KL (nats)  validation KL  free-energy gap  seconds"]
    for layer in sorted({record["layer"] for record in records}):
        of_layer = [record for record in records if record["layer"] == layer]
        last = of_layer[-1]
        seconds = sum(record["seconds"] for record in of_layer)
        lines.append(
            f"{layer:5}  {last['epoch']:6}  {last['reconstruction_error']:20.2f}  {last['kl']:9.2f}  "
            f"{last['valid_kl']:13.2f}  {last['free_energy_gap']:15.2f}  {seconds:7.1f}"
        )
    return "\n".join(lines)


def pretrain_stack(
    data: Unlabelled, config: Pretraining, run: RunFolder | None = None, *, progress: bool = False
) -> DBN:
    """Train a DBN from the data upwards; with a run folder, write down all that happens and go on where it stopped.

    InputError when a layer diverges.
    """
    state = run.load_checkpoint(data.train.device) if run else None
    if run:
        done = (0, 0) if state is None else (state["layer"], state["epoch"])
        forget_after(run, *done)
    stack: list[RBM] = []
    for layer in range(1, len(config.hidden) + 1):
        rbm = new_rbm(data.train.shape[1], layer, config).to(data.train.device)
        if state is not None and layer <= state["layer"]:
            rbm.load_state_dict(state["rbms"][layer - 1])
        if state is None or layer >= state["layer"]:
            trainer = LayerTrainer(rbm, stack, data, config)
            if state is not None and layer == state["layer"]:
                trainer.load_state(state)
            trainer.train(run, progress=progress)
        stack.append(rbm.requires_grad_(False))
    dbn = DBN(stack, data.scaling, data.image_shape).eval()
    if run:
        save_stack(run.path, dbn)
    return dbn


def new_rbm(n_visible: int, layer: int, config: Pretraining) -> RBM:
    """The RBM of layer 1, 2, … with its parameters at zero: Bernoulli hidden units, visible ones like those below."""
    sizes = [n_visible, *config.hidden]
    visible: type[Units] = UNITS[config.visible] if layer == 1 else Bernoulli
    return RBM(visible(sizes[layer - 1]), Bernoulli(sizes[layer]))


class LayerTrainer:
    """One RBM of the stack with its data, its optimiser and its chains."""

    def __init__(self, rbm: RBM, below: list[RBM], data: Unlabelled, config: Pretraining) -> None:
        self.rbm, self.config = rbm, config
        self.layer = len(below) + 1
        self.below = below
        self.epoch = 0
        """Epochs done."""
        self.setting = config.for_layer(self.layer - 1)
        self.monitor = LayerMonitor(rbm, below, data, config)
        self.device = data.train.device
        self.data = LayerData(
            data.train,
            data.scaling,
            below,
            how=config.binarize,
            features=config.features,
            noise=lambda epoch: self._stream("data", epoch),
        )
        self.data.prepare(1)
        rbm.initialise(*self.data.moments(), len(self.data), self._stream("weights"))
        self.optimizer = make_optimizer(
            config.optimizer,
            rbm.parameters(),
            learning_rate=self.setting.learning_rate,
            momentum=config.momentum_at(1) if self.has_momentum else None,
            weight_decay=config.weight_decay,
        )
        self.chains = CHAINS[config.estimator](self.setting.gibbs_steps)
        self.noise = torch.Generator(self.device)
        self.last_step = -(-len(self.data) // config.batch_size) - 1
        self.update_ratio = torch.zeros(())

    @property
    def has_momentum(self) -> bool:
        """Whether the optimiser takes the schedule's momentum."""
        return self.config.resolved()["momentum"] is not None

    def train(self, run: RunFolder | None, *, progress: bool) -> None:
        """All epochs that are left."""
        epochs = self.setting.epochs
        with (
            LayerRecorder(run, self.layer) if run else nullcontext() as recorder,
            progress_bar(epochs, f"layer {self.layer}", shown=progress, initial=self.epoch) as bar,
        ):

            def after_epoch(epoch: int, seconds: float) -> bool:
                self.epoch = epoch
                self._check_sound()
                record = self._record(seconds, recorder, last=epoch == epochs)
                if run:
                    run.save_checkpoint(self.state())
                bar.set_postfix(shown_in_bar(record))
                bar.update()
                return False

            run_epochs(range(self.epoch + 1, epochs + 1), self.batches, self.step, after_epoch, device=self.device)

    def batches(self, epoch: int) -> Iterator[Tensor]:
        """The indices of an epoch's examples, a batch at a time; whatever is drawn anew an epoch is drawn here."""
        self.data.prepare(epoch)
        if self.has_momentum:
            set_option(self.optimizer, momentum=self.config.momentum_at(epoch))
        set_option(self.optimizer, lr=self.setting.learning_rate)
        return shuffled_batches(
            len(self.data), self.config.batch_size, self.config.seed, self.layer, epoch, device=self.device
        )

    @torch.no_grad()
    def step(self, indices: Tensor, epoch: int, number: int) -> None:
        """One update of the RBM by batch `number` of the epoch."""
        warmup = self.config.warmup_epochs
        if epoch <= warmup:
            risen = (epoch - 1 + (number + 1) / (self.last_step + 1)) / warmup
            set_option(self.optimizer, lr=risen * self.setting.learning_rate)
        self.noise.manual_seed(stream_seed(self.config.seed, "noise", self.layer, epoch, number, 0))
        x = self.data.batch(indices)
        field = self.rbm.hidden_field(x)
        negatives = self.chains.negatives(self.rbm, x, field, self.noise)
        set_gradient(self.rbm, x, negatives, field)
        before = self.rbm.weight.clone() if number == self.last_step else None
        self.optimizer.step()
        if before is not None:
            self.update_ratio = (self.rbm.weight - before).abs().mean() / before.abs().mean()

    def _record(self, seconds: float, recorder: LayerRecorder | None, *, last: bool) -> dict[str, float]:
        """Measure what is due, write it down, and return it."""
        begin = time.perf_counter()
        record: dict[str, float] = {"layer": self.layer, "epoch": self.epoch}
        if last or self.epoch % self.config.measure_every == 0:
            record |= self.monitor.metrics(self.epoch) | {"update_ratio": self.update_ratio.item()}
        if recorder and (last or self.epoch % self.config.picture_every == 0):
            self.monitor.draw(recorder, self.epoch)
        record |= {
            "seconds": seconds,
            "measuring_seconds": time.perf_counter() - begin,
            "examples_per_second": len(self.data) / seconds,
        }
        if recorder:
            recorder.log(record)
        return record

    @torch.no_grad()
    def _check_sound(self) -> None:
        """InputError when the parameters, or what they make of a batch, are not finite or beyond all use."""
        x = self.data.batch(torch.arange(min(len(self.data), self.config.batch_size), device=self.device))
        values = (*self.rbm.parameters(), *self.rbm.visible.natural().values(), self.rbm.down(self.rbm.up(x)))
        if not torch.stack([(value.abs() < LARGEST).all() for value in values]).all():  # NaN is not less either
            raise InputError(
                f"layer {self.layer} diverged in epoch {self.epoch}, its values are infinite or beyond {LARGEST:g}: "
                f"lower --learning-rate, which is {self.setting.learning_rate:g} there"
            )

    def _stream(self, *purpose: str | int) -> torch.Generator:
        name, *rest = purpose
        return stream(self.config.seed, name, self.layer, *rest, device=self.device)

    def state(self) -> dict[str, Any]:
        """All that the next epoch depends on: the stack so far, the optimiser, the chains."""
        return {
            "layer": self.layer,
            "epoch": self.epoch,
            "rbms": [rbm.state_dict() for rbm in (*self.below, self.rbm)],
            "optimizer": self.optimizer.state_dict(),
            "chains": self.chains.state(),
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Go back to where `state` was taken."""
        self.epoch = state["epoch"]
        self.rbm.load_state_dict(state["rbms"][-1])
        self.optimizer.load_state_dict(state["optimizer"])
        self.chains.load_state(state["chains"])
