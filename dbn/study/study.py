"""A study: a grid of arms × depth × activation × number of labels × seeds.

Each arm in each cell is a comparison in a folder of its own, tuned on validation data; it is finished once its
result.json exists. Its results depend only on its own options: not on the grid around it, nor on the process or order.
"""

import shutil
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import Any, final

from dbn.config.common import DataConfig, to_dict
from dbn.config.defaults import hidden_layers
from dbn.config.pretraining import PretrainConfig, Pretraining
from dbn.config.study import StudyConfig
from dbn.data.datasets import load_splits
from dbn.data.splits import Splits
from dbn.errors import InputError
from dbn.finetuning.comparison import Comparison
from dbn.finetuning.loading import kinds_of, matched, on_device
from dbn.finetuning.problem import Problem
from dbn.finetuning.recorder import SignalsByTime
from dbn.finetuning.results import TunedArm
from dbn.finetuning.summary import result
from dbn.initializers.arms import parse_arm
from dbn.models.dbn import DBN
from dbn.models.scaling import Scaling
from dbn.pretraining.pretrain import unlabeled
from dbn.pretraining.stack import new_rbm, pretrain_stack
from dbn.runs.classifier import folder_name
from dbn.runs.folder import CONFIG, RESULT, SIGNALS_FILE, RunFolder
from dbn.runs.resume import begin, started_with
from dbn.runs.training_data import fingerprint, splits_for
from dbn.runs.weights import load
from dbn.storage.owned import check_owned
from dbn.study.grid import CellArm, grid, network_shapes
from dbn.tasks import TASKS
from dbn.training.device import pick_device

STACKS = 5


@final
class Study:
    """The grid of a configuration with its data; one per process.

    `recipe`: the options in the file `config.recipe`. InputError as for `load_splits` and `load`, and for a grid that
    does not fit its stacks.
    """

    def __init__(self, config: StudyConfig, recipe: PretrainConfig | None = None) -> None:
        self.config, self.recipe = config, recipe
        self.device = pick_device(config.device)
        if recipe and recipe.training.is_table:
            raise InputError(
                "a study takes no recipe with --visible auto: pre-train first, and name the runs with --pretrained"
            )
        self.given = [load(path) for path in config.pretrained]
        splits = self._load_splits()
        self.config = replace(
            config,
            training=config.training.for_data(splits.train.n_labeled or len(splits.train), splits.n_classes or 1),
        )
        if recipe:
            training = started_with(self.stack_folder(0), recipe.training)
            layers = training.hidden or hidden_layers(len(splits.train))
            recipe = self.recipe = replace(recipe, training=replace(training, hidden=layers))
        self.scaling: Scaling | None = None
        if not recipe:
            standardize = config.training.standardize
            splits, self.scaling = matched(splits, self.given, standardize=standardize, resumed=config.resume)
        self.splits = on_device(splits, self.device)
        self.shapes = network_shapes(config, recipe, [stack.sizes for stack in self.given])
        self.cell_arms = grid(config, self.shapes)

    def _load_splits(self) -> Splits:
        config, data = self.config, self._data()
        if config.pretrained:
            kinds, task = kinds_of(self.given), config.training.task
            return splits_for(config.dataset, config.pretrained, task=task, kinds=kinds, **config.reading())
        return load_splits(data.dataset, read_labels=TASKS[config.training.task].read, **data.reading())

    def _data(self) -> DataConfig:
        """The study's own options, and the recipe's where it has none."""
        config, data = self.config, self.recipe.data if self.recipe else DataConfig()
        own = {name: value for name, value in config.reading().items() if value is not None}
        return DataConfig(dataset=config.dataset or data.dataset, **data.reading() | own)

    @property
    def fingerprint(self) -> str:
        """A hash of the examples and the given stacks."""
        return fingerprint(self.splits, self.given)

    def check(self) -> None:
        """InputError for the first cell that cannot run, or stacks that were started with other options."""
        if len(self.config.pretrained) > max(self.config.training.seeds):
            raise InputError(f"--pretrained names {len(self.config.pretrained)} runs, more than there are seeds")
        self.splits.check_labels()
        n, labels = self.splits.train.n_labeled, self.config.training.labels
        if "all" in labels and n in labels:
            raise InputError(f"--labels names {n} and all, which are the same examples: keep one")
        stacks = self.given or self._untrained()
        for _, group in groupby(self.cell_arms, lambda cell_arm: cell_arm.cell):
            cell_arms = list(group)
            problem = self._problem(cell_arms[0], stacks, [cell_arm.full_arm for cell_arm in cell_arms])
            problem.check_initializers()
            _ = problem.test
        for number in self.stack_tasks:
            if self.config.resume and (self.stack_folder(number) / CONFIG).is_file():
                self._begin_stack(number).close()

    @property
    def stack_tasks(self) -> range:
        """The numbers of the stacks that the study trains itself."""
        return range((self.config.stacks or STACKS) if self.recipe else 0)

    def _pretraining(self, number: int) -> Pretraining:
        """The recipe for as many layers as are needed, with the stack's own seed."""
        assert self.recipe is not None
        hidden, options = max(self.shapes, key=len), self.recipe.training
        per_layer = {name: getattr(options, name) for name in ("epochs", "learning_rate", "gibbs_steps")}
        fewer = {name: values and values[: len(hidden)] for name, values in per_layer.items()}
        training = replace(options, hidden=hidden, seed=self.config.training.seed + number, **fewer)
        return training.for_data(*self.splits.train.x.shape)

    def stack_folder(self, number: int) -> Path:
        """The run folder of a stack of the study's own, like those of pretrain."""
        return self.config.run / "stacks" / f"seed-{self.config.training.seed + number}"

    def _begin_stack(self, number: int) -> RunFolder:
        path, training = self.stack_folder(number), self._pretraining(number)
        config = PretrainConfig(
            run=path,
            device=self.config.device,
            task=self.config.training.task,
            data=self._data(),
            training=training,
        )
        return _begin(path, to_dict(config), self.splits.fingerprint)

    def _untrained(self) -> list[DBN]:
        """A stack like those to be trained, for checks."""
        if not self.recipe:
            return []
        training = self._pretraining(0)
        data = unlabeled(self.splits, training, self.device)
        with self.device:
            rbms = [new_rbm(data.width, layer, training) for layer in range(1, len(training.hidden) + 1)]
        return [DBN(rbms, data.scaling)]

    def has_stack(self, number: int) -> bool:
        """Whether its training is complete."""
        return (self.stack_folder(number) / RESULT).is_file()

    def pretrain(self, number: int) -> None:
        """Train a stack of the study's own, unless it is complete."""
        if self.has_stack(number):
            return
        training = self._pretraining(number)
        data = unlabeled(self.splits, training, self.device)
        with self._begin_stack(number) as run:
            stack = pretrain_stack(data, training, run)
            run.write_json(RESULT, {"sizes": stack.sizes})
        _remove_checkpoints(run.path)

    @cached_property
    def stacks(self) -> list[DBN]:
        """The given stacks, or the trained ones, on the study's device."""
        stacks = self.given or [load(self.stack_folder(number)) for number in self.stack_tasks]
        return [stack.requires_grad_(False).to(self.device) for stack in stacks]

    def problem(self, cell_arm: CellArm) -> Problem:
        """The comparison of this one arm, as finetune has it."""
        return self._problem(cell_arm, self.stacks, [cell_arm.full_arm])

    def _problem(self, cell_arm: CellArm, stacks: list[DBN], arms: list[str]) -> Problem:
        depth = len(cell_arm.hidden)
        cut = tuple(DBN(stack.layers[:depth], stack.scaling, stack.image_shape) for stack in stacks)
        training = replace(self.config.training.at(cell_arm.labels), init=tuple(arms))
        scaling = (self.scaling or cut[0].scaling).to(self.device)
        return Problem(self.splits, scaling, cell_arm.hidden, cut[: training.seeds], training)

    def folder(self, cell_arm: CellArm) -> Path:
        """The run folder of an arm in a cell, like those of finetune."""
        return self.config.run / "cells" / cell_arm.cell / folder_name(parse_arm(cell_arm.arm).name)

    def is_done(self, cell_arm: CellArm) -> bool:
        """Whether it is finished and its checkpoints are removed."""
        path = self.folder(cell_arm)
        return (path / RESULT).is_file() and not (path / "checkpoint").exists()

    @property
    def is_complete(self) -> bool:
        """Whether every stack and every arm is done."""
        return all(map(self.has_stack, self.stack_tasks)) and all(map(self.is_done, self.cell_arms))

    def train(self, cell_arm: CellArm) -> None:
        """Tune the arm, train it under all seeds, test it and measure its signals, unless it is done."""
        path = self.folder(cell_arm)
        if not (path / RESULT).is_file():
            problem = self.problem(cell_arm)
            about = {"dataset": self.splits.name, "hidden": list(cell_arm.hidden)}
            with _begin(path, {**about, **to_dict(problem.config)}, problem.fingerprint) as run:
                self._train(problem, run)
        _remove_checkpoints(path)

    def _train(self, problem: Problem, run: RunFolder) -> None:
        comparison, chosen = self._chosen(problem, run)
        tested = comparison.test([chosen])
        (signals,) = comparison.write([chosen], tested).values()
        run.write_json(SIGNALS_FILE, _by_moment(signals))
        found = result(problem, [chosen], tested)
        (scores,) = tested.values()
        found["records"] = [
            {
                "seed": seed,
                **{f"test_{name}": value for name, value in each.figures().items()},
                **{name: bool(count) for name, count in problem.task.stuck([each]).items()},
                "valid_error": tuned.valid_error,
                "learning_rate": chosen.learning_rate,
                "best_epoch": tuned.best_epoch,
                "epochs": len(tuned.history),
                "diverged": tuned.diverged or final.diverged,
                "seconds": final.seconds,
            }
            for seed, each, tuned, final in zip(problem.seeds, scores, chosen.tuned, chosen.final, strict=True)
        ]
        run.write_json(RESULT, found)

    def _chosen(self, problem: Problem, run: RunFolder) -> tuple[Comparison, TunedArm]:
        """The arm at the rate that the tuning seeds selected, trained under all seeds."""
        config, few = problem.config, self.config.training.tuning_seeds
        comparison = Comparison(problem, run)
        if few is None or few >= config.seeds or len(config.learning_rates) == 1:
            return comparison, comparison.train()[0]
        tuning = replace(problem, config=replace(config, seeds=few), stacks=problem.stacks[:few])
        rate = Comparison(tuning, run).train()[0].learning_rate
        # Their fits at that rate are files by now, and are not repeated.
        whole = replace(problem, config=replace(config, learning_rate=(rate,)))
        return comparison, Comparison(whole, run).train()[0]


def _remove_checkpoints(path: Path) -> None:
    """Of what is done: the weights of every fit, which take most of the space."""
    check_owned(path)
    shutil.rmtree(path / "checkpoint", ignore_errors=True)


def _by_moment(seeds: Sequence[SignalsByTime]) -> dict[str, list[list[dict[str, float]]]]:
    """By moment, seed and layer; an epoch lacks the seeds that stopped before it."""
    moments = ["start", *map(str, sorted({int(each) for seed in seeds for each in seed if each.isdecimal()})), "end"]
    return {moment: [seed[moment] for seed in seeds if moment in seed] for moment in moments}


def _begin(path: Path, options: dict[str, Any], data: str) -> RunFolder:
    """The folder of a part of the study, resumed where it exists."""
    return begin(path, options, resume=(path / CONFIG).is_file(), overwrite=False, data=data)
