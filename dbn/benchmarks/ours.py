"""Our training, as the scripts run it, on random bytes that every batch is gathered and converted from."""

from collections.abc import Callable
from dataclasses import replace
from statistics import median
from typing import Any

import torch

from dbn.benchmarks.running import CHAINS, CLASSES, PER_STEP, Runner, Setting, clocked, over
from dbn.config import Finetuning, Pretraining
from dbn.data.examples import Examples
from dbn.data.splits import Splits
from dbn.finetuning.problem import Problem
from dbn.finetuning.trainer import Trainer
from dbn.initializers.arms import parse_arm
from dbn.likelihood.ais import anneal, temperature_schedule
from dbn.models.annealing import Path, independent_base
from dbn.models.scaling import Scaling
from dbn.models.units.naming import make_units
from dbn.pretraining.layer_data import Unlabeled
from dbn.pretraining.stack import new_rbm
from dbn.pretraining.trainer import LayerTrainer
from dbn.training.device import synchronize
from dbn.training.distributed import all_reduce_sum
from dbn.training.loop import run_epochs

TEMPERATURES = 10


def layer_trainer(setting: Setting, device: torch.device | str | None = None, **options: Any) -> LayerTrainer:
    """Of the last layer, as `scripts/pretrain.py` makes it with its default options and these; on the setting's device
    unless another is given."""
    device = device or setting.device
    options = {"epochs": (10,)} | options | {"batch_size": setting.batch_size, "precision": setting.precision}
    options = {"compile": setting.compile and options.get("estimator") != "pt"} | options
    config = Pretraining(hidden=setting.sizes[1:], **options)
    codes: Any = make_units(config.visible, 0).codes
    shape = setting.examples, setting.sizes[0] // (codes or 1)
    x = torch.randint(codes or 256, shape, dtype=torch.uint8, device=device)
    below = [new_rbm(setting.sizes[0], layer, config).to(device) for layer in range(1, len(setting.sizes) - 1)]
    for rbm in below:
        torch.nn.init.normal_(rbm.requires_grad_(False).weight, 0.0, 0.01)
    rbm = new_rbm(setting.sizes[0], len(below) + 1, config).to(device)
    return LayerTrainer(rbm, below, Unlabeled(x, None, Scaling(codes=codes).to(device)), config)


def epoch_of(**options: Any) -> Callable[[Setting], Runner]:
    """Whole epochs: everything of `scripts/pretrain.py` but measuring, pictures and checkpoints."""

    def make(setting: Setting) -> Runner:
        trainer = layer_trainer(setting, **options)

        def epoch() -> None:
            trainer.epoch += 1
            run_epochs([trainer.epoch], trainer.batches, trainer.step, lambda *_: True, device=trainer.device)

        return Runner(clocked(epoch, setting.device), setting.steps, trainer)

    return make


def steps_of(**options: Any) -> Callable[[Setting], Runner]:
    """The steps of an epoch alone, in an order that is there already."""

    def make(setting: Setting) -> Runner:
        trainer = layer_trainer(setting, **options)
        work = over(trainer.batches(1), lambda *batch: trainer.step(*batch), setting.device)
        return Runner(work, setting.steps, trainer)

    return make


def tempered(make: Callable[[Setting], Runner]) -> Callable[[Setting], Runner]:
    """Fewer steps, as each has the chains of several."""
    return lambda setting: make(replace(setting, steps=-(-setting.steps // TEMPERATURES)))


def as_wide(make: Callable[..., Callable[[Setting], Runner]]) -> Callable[[Setting], Runner]:
    """CD-1 with as many chains as parallel tempering has at all its temperatures."""
    return tempered(lambda setting: make()(replace(setting, batch_size=TEMPERATURES * setting.batch_size)))


def fit(setting: Setting, seed: int = 0, **options: Any) -> Trainer:
    """Fine-tuning as `scripts/finetune.py` does it with its default options and these, for ever."""
    return Trainer(noise_problem(setting, seed, **options), parse_arm("xavier_uniform"), 0.1, seed)


def noise_problem(setting: Setting, seed: int = 0, **options: Any) -> Problem:
    """Classes of random bytes."""
    device, random = setting.device, torch.Generator(setting.device).manual_seed(seed)

    def noise(rows: int) -> Examples:
        x = torch.randint(256, (rows, setting.visible), dtype=torch.uint8, device=device, generator=random)
        return Examples(x, torch.arange(rows, device=device) % CLASSES)

    n = setting.examples
    splits = Splits("noise", noise(n), noise(CLASSES), None, tuple(map(str, range(CLASSES))), None, 255.0)
    # So many epochs that the learning rate does not fall to nothing while it is timed.
    plain = {"labels": n, "valid_labels": CLASSES, "batch_size": setting.batch_size, "epochs": 10**6}
    config = Finetuning(init=("xavier_uniform",), **plain | options)
    return Problem(splits, Scaling(255.0).to(device), setting.network, (), config)


def finetune_epoch(setting: Setting) -> Runner:
    """Whole epochs; the time spent on validation is not in their seconds."""
    made = fit(setting)
    records = made.epochs()
    return Runner(lambda: next(records)["seconds"], setting.steps, made)


def finetune_step(setting: Setting) -> Runner:
    """The steps of an epoch alone, in an order that is there already."""
    made = fit(setting)
    work = over(made.batches(1), lambda *batch: made._step(*batch), setting.device)
    return Runner(work, setting.steps, made)


def annealing(setting: Setting) -> Runner:
    """Annealed importance sampling, a step a temperature: the last estimates, (CHAINS,)."""
    rbm = new_rbm(setting.visible, 1, Pretraining(hidden=(setting.hidden,))).to(setting.device)
    mean = torch.full((setting.visible,), 0.2, device=setting.device)
    rbm.initialize(mean, mean * (1 - mean), 1000, torch.Generator(setting.device).manual_seed(0))
    path = Path(independent_base(rbm.requires_grad_(False), mean, mean * (1 - mean), 1000), rbm)
    steps = PER_STEP * setting.steps
    betas, generator = temperature_schedule(steps + 1), torch.Generator(setting.device).manual_seed(1)
    state: dict[str, Any] = {"path": path}

    def run() -> None:
        state["found"] = anneal(path, betas, CHAINS, generator)

    return Runner(clocked(run, setting.device), steps, state)


def of_several(trainer: LayerTrainer, repeats: int) -> tuple[float, float]:
    """Median milliseconds of a training step over several processes, and of the sum over them alone."""
    batches, flat = list(trainer.batches(1)), trainer.flat

    def sums() -> None:
        for _ in batches:
            if flat is not None:
                all_reduce_sum(flat.buffer)
        synchronize(trainer.device)

    def steps() -> None:
        for number, indices in enumerate(batches):
            trainer.step(indices, 1, number)
        synchronize(trainer.device)

    found = [[clocked(work)() for work in (steps, sums)] for _ in range(1 + repeats)][1:]
    step, alone = (1000 * median(seconds) / len(batches) for seconds in zip(*found, strict=True))
    return step, alone
