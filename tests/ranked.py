"""What is done by one process and by two, to be compared; run as a script, by one rank of several."""

import math
import os
import runpy
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from tiny import pictures, splits, stack
from torch import Tensor, distributed

from dbn.config.common import to_dict
from dbn.config.finetuning import Finetuning
from dbn.config.pretraining import Pretraining
from dbn.data.cut import splits_from_arrays
from dbn.errors import InputError
from dbn.finetuning.comparison import Comparison
from dbn.finetuning.problem import Problem
from dbn.finetuning.trainer import Trainer
from dbn.initializers.arms import parse_arm
from dbn.models.scaling import Scaling
from dbn.models.units import UNITS
from dbn.models.units.base import Units
from dbn.pretraining.pretrain import unlabeled
from dbn.pretraining.stack import new_rbm, pretrain_stack
from dbn.pretraining.trainer import LayerTrainer, set_gradient
from dbn.runs.folder import RunFolder
from dbn.runs.resume import begin
from dbn.storage.tensors import save_state
from dbn.training import distributed as ranks
from dbn.training.loop import run_epochs

CPU = torch.device("cpu")
CHAINS = 7
ROWS = 135
"""For training, of `pictures()`."""

PRETRAINING: dict[str, dict[str, Any]] = {
    "cd": {"batch_size": 41, "gibbs_steps": (2,)},
    "a last batch of one": {"batch_size": 67, "momentum": 0.5},
    "centered and penalised": {
        "batch_size": 40,
        "centered": True,
        "l1": 0.01,
        "sparsity_target": 0.1,
        "max_norm": 1.0,
        "average": 0.9,
    },
    "pcd": {"batch_size": 41, "estimator": "pcd", "chains": CHAINS},
    "weighted": {"batch_size": 67, "weighted": True, "sparsity_target": 0.1},
    "weighted pcd": {"batch_size": 41, "weighted": True, "estimator": "pcd", "chains": CHAINS, "centered": True},
    "gaussian": {"batch_size": 41, "visible": "gaussian", "learning_rate": (0.01,), "binarize": "none"},
}
"""Under these, N ranks learn what one learns, but for rounding, when all units are at their means."""

NOISY: dict[str, dict[str, Any]] = {
    "cd": {"centered": True},
    "pcd": {"estimator": "pcd", "chains": CHAINS, "centered": True},
    "pt": {"estimator": "pt", "chains": CHAINS, "temperatures": 3},
}

FINETUNING: dict[str, dict[str, Any]] = {
    "plain": {"batch_size": 11, "patience": 2},
    "an empty share": {"batch_size": 23, "momentum": 0.5},
    "frozen at first": {"freeze_epochs": 2, "average": 0.8},
    "frozen": {"freeze_epochs": "all", "optimizer": "rmsprop"},
    "restrained": {"max_norm": 1.0, "layer_rates": (0.1, 0.3, 1.0), "weight_decay": 0.01},
    "pseudo-labels": {"pseudo_labels": "0,21@2"},
}
COMPARED = Finetuning(init=("dbn", "he_normal"), labels=24, valid_labels=9, seeds=2, epochs=2, refit=True)
STACKED = Pretraining(hidden=(7, 5), epochs=(2,), batch_size=40, estimator="pcd", chains=CHAINS, binarize="sample")

INTERRUPTED = replace(STACKED, centered=True, average=0.9, sparsity_target=0.1, epochs=(3,))


@contextmanager
def without_noise() -> Iterator[None]:
    """All units at their means."""
    with ExitStack() as patches:
        for units in UNITS.values():
            mean = mock.patch.object(units, "sample", lambda self, field, generator=None: self.mean(field))
            patches.enter_context(mean)
            patches.enter_context(mock.patch.object(units, "sample_and_expect", Units.sample_and_expect))
        yield


def trainer(*, weighted: bool = False, **options: Any) -> LayerTrainer:
    config = Pretraining(**({"hidden": (9,), "epochs": (2,), "seed": 3, "binarize": "sample"} | options))
    x = pictures()[0]
    data = unlabeled(splits_from_arrays(x, sample_weight=np.arange(len(x)) % 5 + 1 if weighted else None), config, CPU)
    made = LayerTrainer(new_rbm(36, 1, config), [], data, config)
    if config.estimator != "cd":
        made.chains.load_state(chain_state(config))
    return made


def chain_state(config: Pretraining) -> dict[str, Tensor]:
    """Some states of all chains, each another."""
    generator = torch.Generator().manual_seed(0)
    v = (torch.rand(CHAINS, 36, generator=generator) < 0.4).float()
    if config.estimator == "pcd":
        return {"v": v, "reference": 1 - v}
    return {
        "base.visible.bias": torch.zeros(36),
        "base.hidden.bias": torch.zeros(9),
        "v": torch.cat([v.roll(1, 0), v.roll(2, 0), v]),
        "reference": 1 - v,
        "rounds": torch.tensor(3),
        "swaps": torch.tensor([[1, 2], [8, 9]]),
    }


def pretrained(options: dict[str, Any]) -> dict[str, Any]:
    """What two epochs without noise come to, and the examples that they took."""
    with without_noise():
        made, taken = trainer(**options), []
        step, start = made.step, {name: value.clone() for name, value in made.rbm.state_dict().items()}

        def watch(indices: Tensor, epoch: int, number: int) -> None:
            taken.append((epoch, number, indices))
            step(indices, epoch, number)

        run_epochs((1, 2), made.batches, watch, lambda *_: False, device=CPU)
        state = made.state()
    kept = {name: state[name] for name in ("chains", "penalties", "offsets", "averaged")}
    return kept | {"rbm": made.rbm.state_dict(), "start": start, "update_ratio": made.update_ratio, "taken": taken}


def one_step(options: dict[str, Any]) -> dict[str, Any]:
    """The share of a step with all its noise, and the gradient and means that came of it."""
    made, seen = trainer(batch_size=41, momentum=0.0, **options), dict[str, Any]()

    def watch(rbm: Any, data: Tensor, negatives: Tensor, *rest: Any, **more: Any) -> Any:
        seen.update(data=data, negatives=negatives)
        seen["before"] = {name: value.clone() for name, value in rbm.state_dict().items()}
        means = set_gradient(rbm, data, negatives, *rest, **more)
        seen["means"] = list(means)
        seen["gradient"] = {name: parameter.grad.clone() for name, parameter in rbm.named_parameters()}
        return means

    with mock.patch("dbn.pretraining.trainer.set_gradient", watch):
        made.step(next(iter(made.batches(1))), 1, 0)
    return seen


def chains(options: dict[str, Any]) -> dict[str, Any]:
    """A state of chains that was taken and given back, what it tells, and the state after a step."""
    made = trainer(batch_size=41, **options)
    before = made.chains.state()
    told = made.chains.metrics()
    made.step(next(iter(made.batches(1))), 1, 0)
    return {"before": before, "told": told, "after": made.chains.state()}


def problem(**options: Any) -> Problem:
    config = replace(COMPARED, **({"init": ("xavier_uniform",), "epochs": 4, "batch_size": 10} | options))
    return Problem(splits(), Scaling(), (7, 5), (stack(),), config)


def finetuned(options: dict[str, Any]) -> dict[str, Any]:
    """A fit without dropout, times aside."""
    fit = Trainer(problem(**options), parse_arm("xavier_uniform"), 0.1, 0)
    history = [{name: record[name] for name in ("train_loss", "valid_error", "valid_loss")} for record in fit.epochs()]
    return {"history": history, "best_epoch": fit.best_epoch, "network": fit.network.state_dict()}


def dropout_masks() -> Tensor:
    """Of the inputs of a first batch: where they are kept."""
    fit = Trainer(problem(input_dropout=0.5), parse_arm("xavier_uniform"), 0.1, 0)
    seen: list[Tensor] = []
    fit.learner[0].register_forward_hook(lambda _, given, made: seen.append(made != 0))
    fit._step(next(fit.batches(1)), 1, 0)
    return seen[0]


def begun(folder: Path, config: Any, *, resume: bool) -> AbstractContextManager[RunFolder | None]:
    """The folder, for rank 0 alone."""
    if not ranks.is_main():
        return nullcontext()
    return begin(folder, to_dict(config), resume=resume, overwrite=False)


def compared(folder: Path, *, resume: bool = False) -> list[dict[str, Any]]:
    """A comparison, written by rank 0 alone; the others are given a folder that must not come to be."""
    made = Problem(splits(), Scaling(), (7, 5), (stack(),), COMPARED)
    with begun(folder, COMPARED, resume=resume) as run:
        chosen = Comparison(made, run or RunFolder(folder / "not here")).train()
    return [{"rate": each.learning_rate, "weights": [fit.weights for fit in each.final]} for each in chosen]


def stacked(folder: Path, config: Pretraining = STACKED, *, resume: bool = False) -> dict[str, Tensor]:
    data = unlabeled(splits_from_arrays(pictures()[0]), config, CPU)
    with begun(folder, config, resume=resume) as run:
        return dict(pretrain_stack(data, config, run).state_dict())


def stacked_so_far(folder: Path) -> None:
    """`INTERRUPTED` without noise, up to the first epoch of its second layer."""
    save = RunFolder.save_checkpoint

    def stop(self: RunFolder, state: dict[str, Any], *logs: Path) -> None:
        save(self, state, *logs)
        if (state["layer"], state["epoch"]) == (2, 1):
            raise KeyboardInterrupt

    with without_noise(), mock.patch.object(RunFolder, "save_checkpoint", stop), suppress(KeyboardInterrupt):
        stacked(folder, INTERRUPTED)
        raise AssertionError("it was not interrupted")


def stacked_to_the_end(folder: Path, *, resume: bool) -> dict[str, Tensor]:
    with without_noise():
        return stacked(folder, INTERRUPTED, resume=resume)


def exchanged() -> dict[str, Any]:
    """How often and how many bytes the steps of an epoch exchange."""
    made, sizes = trainer(batch_size=30), list[int]()
    batches = list(made.batches(1))
    all_reduce = distributed.all_reduce

    def watch(tensor: Tensor) -> None:
        sizes.append(tensor.numel() * tensor.element_size())
        all_reduce(tensor)

    with mock.patch.object(distributed, "all_reduce", watch):
        for number, batch in enumerate(batches):
            made.step(batch, 1, number)
    return {"steps": len(batches), "bytes": sizes}


def states() -> dict[str, Any]:
    """From rank 0 alone."""
    state = {"n": 3, 4: [True, None, "ä"], "pair": (math.inf, 0.1), "bytes": torch.arange(5, dtype=torch.uint8)}
    state |= {"bits": torch.tensor([[True, False]]), "number": torch.tensor(7), "half": torch.ones(2).bfloat16()}
    given = state | {"strided": torch.arange(6.0).view(2, 3).T}
    ranks.check_alike({"alike": [1.5, None, "x"]})
    io_error = ""
    try:
        ranks.check_alike([7 + ranks.rank()])
    except InputError as error:
        io_error = str(error)
    return {"received": ranks.broadcast_state(given if ranks.is_main() else {"other": 1}), "refused": io_error}


def pretrain_and_die(words: list[str]) -> None:
    """scripts/pretrain.py, of which rank 1 is killed in the middle of an epoch."""
    step = LayerTrainer.step

    def watch(self: LayerTrainer, indices: Tensor, epoch: int, number: int) -> None:
        if (ranks.rank(), self.layer, epoch, number) == (1, 2, 3, 1):
            os.kill(os.getpid(), signal.SIGKILL)
        step(self, indices, epoch, number)

    sys.argv = ["pretrain.py", *words]
    with mock.patch.object(LayerTrainer, "step", watch):
        runpy.run_path(str(Path(__file__).parents[1] / "scripts" / "pretrain.py"), run_name="__main__")


def main(folder: Path) -> None:
    done: dict[str, Callable[[], Any]] = {
        "states": states,
        "exchanged": exchanged,
        "masks": dropout_masks,
        "compared": lambda: compared(folder / "compared"),
        "resumed": lambda: compared(folder / "compared", resume=True),
        "stacked": lambda: stacked(folder / "stacked"),
        "continued": lambda: stacked_to_the_end(folder / "begun", resume=True),
        **{f"pretrained {name}": lambda options=options: pretrained(options) for name, options in PRETRAINING.items()},
        **{f"step {name}": lambda options=options: one_step(options) for name, options in NOISY.items()},
        **{f"chains {name}": lambda options=NOISY[name]: chains(options) for name in ("pcd", "pt")},
        **{f"finetuned {name}": lambda options=options: finetuned(options) for name, options in FINETUNING.items()},
    }
    with ranks.process_group(CPU):
        found = {name: do() for name, do in done.items()}
        found["threads"] = torch.get_num_threads()
        rank = ranks.rank()
        save_state(folder / f"rank-{rank}", found)
    alive = sorted(file.read_text().strip() for file in Path("/proc/self/task").glob("*/comm"))
    (folder / f"threads-{rank}").write_text("\n".join(alive))


if __name__ == "__main__":
    what, *words = sys.argv[1:]
    ranks.TIMEOUT = timedelta(seconds=30)  # type: ignore[misc]
    if what == "main":
        main(Path(words[0]))
    else:
        pretrain_and_die(words)
