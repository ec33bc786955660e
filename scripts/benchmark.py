"""Time a CD-1 epoch against as many times the five matrix products that it cannot do without."""

import json
import os
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from dbn.command_line import run_script
from dbn.errors import InputError


@dataclass(frozen=True, kw_only=True)
class BenchmarkConfig:
    """scripts/benchmark.py."""

    visible: int = 784
    """Visible units."""
    hidden: int = 500
    """Hidden units."""
    batch_size: int = 100
    """Examples in one step."""
    steps: int = 200
    """Steps in an epoch."""
    repeats: int = 7
    """Timed epochs of each kind, in alternation."""
    output: Path | None = None
    """A JSON file for the figures."""

    def __post_init__(self) -> None:
        for name in ("visible", "hidden", "batch_size", "steps", "repeats"):
            if getattr(self, name) < 1:
                raise InputError(f"--{name.replace('_', '-')} must be at least 1, not {getattr(self, name)}.")


def main(config: BenchmarkConfig) -> None:
    """Warm up, time both in alternation, print a table."""
    import torch

    epochs = {"five products": five_products(config), "CD-1 epoch": cd_epoch(config)}
    for run in epochs.values():
        run()
    seconds: dict[str, list[float]] = {name: [] for name in epochs}
    for _ in range(config.repeats):
        for name, run in epochs.items():
            begin = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - begin)
    ratios = [ours / bare for ours, bare in zip(seconds["CD-1 epoch"], seconds["five products"], strict=True)]
    print(
        f"{config.visible}-{config.hidden}, batch {config.batch_size}, {config.steps} steps an epoch, float32, CPU, "
        f"{torch.get_num_threads()} threads, torch {torch.__version__}, {platform.machine()}, {os.cpu_count()} cores"
    )
    print(f"{'':15}  {'ms a step':>9}  {'least':>6}  {'most':>6}")
    for name, values in seconds.items():
        step = [1000 * value / config.steps for value in values]
        print(f"{name:15}  {median(step):9.3f}  {min(step):6.3f}  {max(step):6.3f}")
    print(f"{'ratio':15}  {median(ratios):9.3f}  {min(ratios):6.3f}  {max(ratios):6.3f}")
    if config.output:
        found: dict[str, Any] = {"seconds": seconds, "ratio": median(ratios), "ratios": ratios}
        config.output.write_text(json.dumps(found, indent=2) + "\n")


def five_products(config: BenchmarkConfig) -> Callable[[], None]:
    """Up, down, up and the two outer products of CD-1, with nothing between them."""
    import torch

    v = torch.rand(config.batch_size, config.visible)
    h = torch.rand(config.batch_size, config.hidden)
    weight = torch.randn(config.hidden, config.visible)
    gradient = torch.empty_like(weight)
    up, down = torch.empty_like(h), torch.empty_like(v)

    def run() -> None:
        for _ in range(config.steps):
            torch.mm(v, weight.T, out=up)
            torch.mm(h, weight, out=down)
            torch.mm(v, weight.T, out=up)
            torch.mm(h.T, v, out=gradient)
            torch.addmm(gradient, h.T, v, alpha=-1.0, out=gradient)

    return run


def cd_epoch(config: BenchmarkConfig) -> Callable[[], None]:
    """The training part of an epoch as `scripts/pretrain.py` runs it with its defaults."""
    import torch

    from dbn.hyperparameters import Pretraining
    from dbn.layer_data import Unlabelled
    from dbn.layer_training import LayerTrainer
    from dbn.pretraining import new_rbm
    from dbn.scaling import Scaling
    from dbn.training import run_epochs

    x = torch.randint(256, (config.steps * config.batch_size, config.visible), dtype=torch.uint8)
    training = Pretraining(hidden=(config.hidden,), batch_size=config.batch_size)
    trainer = LayerTrainer(new_rbm(config.visible, 1, training), [], Unlabelled(x, None, Scaling()), training)

    def run() -> None:
        trainer.epoch += 1
        run_epochs([trainer.epoch], trainer.batches, trainer.step, lambda *_: True, device=trainer.device)

    return run


if __name__ == "__main__":
    run_script(main, BenchmarkConfig, __doc__)
