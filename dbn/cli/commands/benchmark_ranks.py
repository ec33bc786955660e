"""Time steps of CD-1 over several processes, started with torchrun, and the sum of gradients in them."""

from dataclasses import dataclass

from dbn.cli.commands import Command
from dbn.config.common import DeviceOption
from dbn.config.validation import Count


@dataclass(frozen=True, kw_only=True)
class RanksConfig(DeviceOption):
    """Options of benchmark_ranks.py."""

    sizes: tuple[Count, ...] = (784, 500, 500, 2000)
    """Units of the data and of each layer."""
    batch_size: tuple[Count, ...] = (100, 1000)
    """Examples per step, of all processes together."""
    steps: Count = 50
    """Steps that are timed together."""
    repeats: Count = 7
    """Repetitions of each case."""


def main(config: RanksConfig) -> None:
    """Print a line for each layer and batch size."""
    import torch

    from dbn.benchmarks.ours import layer_trainer, of_several
    from dbn.benchmarks.running import Setting
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
                step, alone = of_several(trainer, config.repeats)
                summed = 0 if trainer.flat is None else trainer.flat.buffer.nbytes
                if is_main():
                    units = "-".join(map(str, setting.sizes))
                    print(f"{units:12}  {batch_size:5}  {summed / 1e6:9.2f}  {step:9.2f}  {alone:16.2f}", flush=True)


COMMAND = Command(main, RanksConfig, __doc__, several=True)
