"""Comparison of initializations: every arm under every learning rate and seed, then one test on the test set."""

import math
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

from dbn.data.examples import labels_of
from dbn.finetuning.fits import FitKey, Fits
from dbn.finetuning.grouping import grouped
from dbn.finetuning.problem import Problem
from dbn.finetuning.recorder import SignalsByTime, finalize_events, write_codes
from dbn.finetuning.results import FitResult, TunedArm
from dbn.initializers.arms import Arm
from dbn.plotting.images import save_png
from dbn.runs.classifier import save_classifier
from dbn.runs.folder import RunFolder
from dbn.tasks.metrics import predict
from dbn.training.checkpoint_control import Callback
from dbn.training.loop import progress_bar


class Comparison:
    """Trains every arm, tunes each over the same learning rates on validation error, tests each once.

    Resumes from its run folder; without one nothing is written. All ranks call `train`; rank 0 alone uses the folder.

    callback: as for `Fits`.
    """

    def __init__(self, problem: Problem, run: RunFolder | None, callback: Callback | None = None) -> None:
        self.problem = problem
        self.fits = Fits(problem, run, callback)
        self.rates = sorted(problem.config.learning_rates)

    def train(self, *, progress: bool | None = False) -> list[TunedArm]:
        """Every arm with its best learning rate: the least mean validation error, the smaller rate of equals."""
        groups = grouped(self.problem, self.fits.arms.values())
        return [chosen for arms, at_once in groups for chosen in self._tuned(arms, at_once, progress)]

    def _tuned(self, arms: Sequence[Arm], at_once: int, progress: bool | None) -> list[TunedArm]:
        config, seeds, names = self.problem.config, self.problem.seeds, ", ".join(arm.name for arm in arms)
        planned = {
            FitKey(arm.name, rate, seed, "tune"): config.epochs for arm in arms for rate in self.rates for seed in seeds
        }
        with progress_bar(sum(planned.values()), names, shown=progress) as bar:
            found = self.fits.train(planned, at_once, bar)

        def of(arm: Arm, rate: float, stage: str = "tune") -> list[FitResult]:
            return [found[FitKey(arm.name, rate, seed, stage)] for seed in seeds]

        def total_error(arm: Arm, rate: float) -> float:
            # Rounded, since sums that are equal on paper differ by their last digits.
            return round(math.fsum(each.valid_error for each in of(arm, rate)), 6)

        rates = [min(self.rates, key=partial(total_error, arm)) for arm in arms]
        if config.refit:
            refits = {
                FitKey(arm.name, rate, seed, "refit"): tuned.best_epoch
                for arm, rate in zip(arms, rates, strict=True)
                for seed, tuned in zip(seeds, of(arm, rate), strict=True)
            }
            with progress_bar(sum(refits.values()), f"{names}, refit", shown=progress) as bar:
                found |= self.fits.train(refits, at_once, bar)
        last = "refit" if config.refit else "tune"
        return [TunedArm(arm, rate, of(arm, rate), of(arm, rate, last)) for arm, rate in zip(arms, rates, strict=True)]

    def test(self, chosen: Sequence[TunedArm]) -> dict[str, list[Any]]:
        """Scores of every arm on the test set, one per seed; the test set is used here and nowhere else."""
        return {each.arm.name: list(self._tested(each)) for each in chosen}

    def _tested(self, chosen: TunedArm) -> Iterator[Any]:
        test = self.problem.test
        for seed, result in zip(self.problem.seeds, chosen.final, strict=True):
            network = self.problem.network_with(chosen.arm, result.weights)
            outputs = predict(network.eval(), self.problem.scaling, test.x)
            yield self.problem.task_of(seed).scores(outputs, labels_of(test))

    def write(
        self, chosen: Sequence[TunedArm], tested: dict[str, list[Any]], *, codes: bool = False
    ) -> dict[str, list[SignalsByTime]]:
        """Curves and rows for TensorBoard, the task's picture, and each arm's best classifier (by validation error).

        codes: write those of test examples, of autoencoders in any case.

        By arm and seed: the signals, empty unless they are asked for.
        """
        signals: dict[str, list[SignalsByTime]] = {}
        for each in chosen:
            name = each.arm.name
            signals[name] = [
                finalize_events(
                    self.fits.folder(name, seed), self.problem, each, seed, found, several=len(self.rates) > 1
                )
                for seed, found in zip(self.problem.seeds, tested[name], strict=True)
            ]
            errors = [result.valid_error for result in each.tuned]
            best = errors.index(min(errors))
            network = self.problem.network_with(each.arm, each.final[best].weights)
            seed = self.problem.seeds[best]
            file = self.fits.folder(name, seed) / "classifier.safetensors"
            save_classifier(file, network, self.problem.description(each.arm, seed))
            if codes or self.problem.task.mirrored:
                write_codes(file.parent, self.problem, network.eval())
        picture = self.problem.task.drawn(tested)
        if picture is not None:
            save_png(picture / 255, self.fits.subfolder("") / self.problem.task.picture.split(",")[0])
        return signals
