"""The training of a layer with what surrounds it: checkpoints, curves, a bar, the caller's callback."""

import logging
import time
from contextlib import nullcontext

from torch import Tensor

from dbn.pretraining.recorder import LayerRecorder, shown_in_bar
from dbn.pretraining.trainer import LayerTrainer
from dbn.runs.folder import RunFolder
from dbn.runs.formats import LAYER_RECORD
from dbn.sampling.chains import fix_gauge
from dbn.training import distributed
from dbn.training.checkpoint_control import Callback, checkpoint_control
from dbn.training.loop import progress_bar, run_epochs

LOGGER = logging.getLogger(__name__)

CHECKPOINT_SECONDS = 60.0
"""Between checkpoints within an epoch; every epoch ends with one."""


def train_layer(
    trainer: LayerTrainer, run: RunFolder | None, *, progress: bool | None, callback: Callback | None = None
) -> None:
    """All remaining epochs; rank 0 calls back after each with its line of metrics.jsonl."""
    epochs = trainer.setting.epochs
    for record in run.metrics(LAYER_RECORD) if run else []:
        if record["layer"] == trainer.layer:
            trainer.watch.warnings(record)
    carried = trainer.seconds
    began = time.monotonic() - carried

    def save() -> None:
        if trainer.position:
            trainer.check_sound(trainer.epoch + 1)
            trainer.seconds = time.monotonic() - began
        state = trainer.state()
        if run and recorder:
            run.save_checkpoint(state, *recorder.files)

    is_kept = distributed.any_rank(run is not None)
    with (
        run.checkpoint if run else nullcontext(),
        LayerRecorder(run, trainer.layer) if run else nullcontext() as recorder,
        progress_bar(epochs, f"layer {trainer.layer}", shown=progress, initial=trainer.epoch) as bar,
        checkpoint_control(save if is_kept else None, CHECKPOINT_SECONDS) as control,
    ):

        def step(indices: Tensor, epoch: int, number: int) -> None:
            trainer.step(indices, epoch, number)
            trainer.position = number + 1
            control.after_step(trainer.position)

        def after_epoch(epoch: int, seconds: float) -> bool:
            nonlocal began, carried
            fix_gauge(trainer.rbm, trainer.kept, trainer.chains)
            trainer.check_sound(epoch)
            trainer.epoch, trainer.position, trainer.seconds = epoch, 0, 0.0
            record = _measured(trainer, carried + seconds, recorder, last=epoch == epochs)
            bar.set_postfix(shown_in_bar(record))
            bar.update()
            control.after_epoch([record], callback)
            began, carried = time.monotonic(), 0.0
            return False

        left = range(trainer.epoch + 1, epochs + 1)
        run_epochs(left, trainer.batches, step, after_epoch, device=trainer.device, done=trainer.position)
    trainer.captured.forget()
    trainer.rbm.load_state_dict(trainer.kept.state_dict())
    trainer.rbm.zero_grad()
    distributed.broadcast_tensors(trainer.rbm.parameters())


def _measured(trainer: LayerTrainer, seconds: float, recorder: LayerRecorder | None, *, last: bool) -> dict[str, float]:
    """Measure what is due, log and return it: rank 0 alone, but for the metrics of chains."""
    begin = time.perf_counter()
    rate = trainer.learning_rate(trainer.epoch, trainer.steps - 1)
    record: dict[str, float] = {"layer": trainer.layer, "epoch": trainer.epoch, "learning_rate": rate}
    if last or trainer.epoch % trainer.config.measure_every == 0:
        if distributed.is_main():
            record |= trainer.monitor.metrics(trainer.epoch) | {"update_ratio": trainer.update_ratio.item()}
        record |= trainer.chains.metrics()
    if not distributed.is_main():
        return record
    every = trainer.config.likelihood_every
    if every and (last or trainer.epoch % every == 0):
        record |= trainer.monitor.likelihood(trainer.epoch)
    if recorder and (last or trainer.epoch % trainer.config.picture_every == 0):
        trainer.monitor.draw(recorder, trainer.epoch)
    record |= {
        "seconds": seconds,
        "measuring_seconds": time.perf_counter() - begin,
        "examples_per_second": len(trainer.data) / seconds,
    }
    for warning in trainer.watch.warnings(record):
        LOGGER.warning("layer %d, epoch %d: %s", trainer.layer, trainer.epoch, warning)
        if recorder:
            recorder.text("warnings", warning, trainer.epoch)
    if recorder:
        recorder.log(record)
    return record
