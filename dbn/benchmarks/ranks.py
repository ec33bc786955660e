"""Timing a training step over several processes."""

from statistics import median

from dbn.benchmarks.running import clocked
from dbn.pretraining.trainer import LayerTrainer
from dbn.training.device import synchronize
from dbn.training.distributed import all_reduce_sum


def milliseconds(trainer: LayerTrainer, repeats: int) -> tuple[float, float]:
    """Medians of a step, and of the sum over processes alone."""
    batches = list(trainer.batches(1))

    def steps() -> None:
        for number, indices in enumerate(batches):
            trainer.step(indices, 1, number)
        synchronize(trainer.device)

    def sums() -> None:
        if trainer.flat is not None:
            for _ in batches:
                all_reduce_sum(trainer.flat.buffer)
        synchronize(trainer.device)

    found = [[clocked(work)() for work in (steps, sums)] for _ in range(1 + repeats)][1:]
    step, alone = (1000 * median(seconds) / len(batches) for seconds in zip(*found, strict=True))
    return step, alone
