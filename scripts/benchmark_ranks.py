"""Time a step of CD-1 over several processes, started with torchrun, and the sum of gradients in it."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from dbn.cli.command_line import run_script
from dbn.config.validation import check_device, check_integer, check_not_empty, normalize_fields

if TYPE_CHECKING:
    from dbn.pretraining.trainer import LayerTrainer


@dataclass(frozen=True, kw_only=True)
class RanksConfig:
    """scripts/benchmark_ranks.py."""

    sizes: tuple[int, ...] = (784, 500, 500, 2000)
    """Units of the data and of each layer."""
    batch_size: tuple[int, ...] = (100, 1000)
    """Examples in one step, of all processes together."""
    steps: int = 50
    """Steps that are timed at once."""
    repeats: int = 7
    """Times that they are."""
    device: str = "auto"
    """auto, cpu or cuda."""

    def __post_init__(self) -> None:
        normalize_fields(self)
        check_not_empty(self, "sizes", "batch_size")
        check_integer(self, 1, "sizes", "batch_size", "steps", "repeats")
        check_device(self.device)


def main(config: RanksConfig) -> None:
    """A line for each layer and batch size."""
    import torch
    from bench.ours import layer_trainer
    from bench.running import Setting

    from dbn.training.device import pick_device
    from dbn.training.distributed import is_main, process_group, size

    device = pick_device(config.device)
    with process_group(device):
        if is_main():
            print(f"{size()} processes on {device.type}, {torch.get_num_threads()} threads each; ms are medians")
            print("layer         batch  MB summed  ms a step  ms the sum alone")
        for layer in range(2, len(config.sizes) + 1):
            for batch_size in config.batch_size:
                setting = Setting(config.sizes[layer - 2 : layer], batch_size, config.steps)
                trainer = layer_trainer(setting, device)
                step, alone = milliseconds(trainer, config.repeats)
                summed = 0 if trainer.flat is None else trainer.flat.buffer.nbytes
                if is_main():
                    units = "-".join(map(str, setting.sizes))
                    print(f"{units:12}  {batch_size:5}  {summed / 1e6:9.2f}  {step:9.2f}  {alone:16.2f}", flush=True)


def milliseconds(trainer: "LayerTrainer", repeats: int) -> tuple[float, float]:
    """Of a step, and of the sum over processes alone."""
    from statistics import median

    from bench.running import clocked

    from dbn.training.device import synchronize
    from dbn.training.distributed import all_reduce_sum

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


if __name__ == "__main__":
    run_script(main, RanksConfig, __doc__, several=True)
