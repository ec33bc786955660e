"""The comparison of starts: every arm under every learning rate and seed, then one look at the test set."""

import math
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from signal import SIGTERM
from typing import Any, NamedTuple

from dbn.data.splits import labels_of
from dbn.errors import InputError
from dbn.finetuning.metrics import error_rate
from dbn.finetuning.problem import Problem
from dbn.finetuning.recorder import SignalsByTime, finalize_events, log_epoch, rewind_events, tag_prefix
from dbn.finetuning.results import FitResult, TunedArm, check_fit_result
from dbn.finetuning.trainer import Trainer
from dbn.initializers.arms import Arm, parse_arm
from dbn.interrupts import Stopped, deferred_interrupts
from dbn.models.mlp import meta_mlp
from dbn.runs.classifier import folder_name as folder_name
from dbn.runs.classifier import has_classifier as has_classifier
from dbn.runs.classifier import save_classifier
from dbn.runs.folder import RESULT as RESULT
from dbn.runs.folder import RunFolder
from dbn.runs.tensorboard import EventLog
from dbn.storage.files import corrupt_file
from dbn.storage.tensors import load_state, save_state
from dbn.training import distributed
from dbn.training.loop import progress_bar

CHECKPOINT_SECONDS = 30.0
"""At most, between two steps. After an epoch there is one as soon as it costs little: with few labels an epoch takes
milliseconds, and a checkpoint as long."""


class FitKey(NamedTuple):
    """Which fit of a comparison."""

    arm: str
    learning_rate: float
    seed: int
    stage: str
    """"tune", or "refit" on training and validation examples together."""


class Comparison:
    """Trains every arm, tunes each over the same learning rates on validation error, tests each once.

    Goes on where it stopped: a finished fit is a file, the fit under way a checkpoint. Of several ranks, which call
    `train` alike, rank 0 alone touches the run's folder.
    """

    def __init__(self, problem: Problem, run: RunFolder) -> None:
        self.problem, self.run = problem, run
        self.arms = [parse_arm(text) for text in problem.config.init]
        self.rates = sorted(problem.config.learning_rates)
        first = distributed.is_main()
        state = distributed.broadcast_state(run.load_checkpoint(problem.device) if first else None)
        self.current: dict[str, Any] | None = state
        if first:
            run.keep_metrics(self._is_kept)

    def _is_kept(self, record: dict[str, Any]) -> bool:
        key = FitKey(record["arm"], record["learning_rate"], record["seed"], record["stage"])
        return self._file(key).exists() or record["epoch"] <= self._epochs_done(key)

    def _epochs_done(self, key: FitKey) -> int:
        if self.current is None:
            return 0
        try:
            return int(self.current["fit"]["epoch"]) if self.current["key"] == list(key) else 0
        except (LookupError, TypeError, ValueError) as error:
            raise self._foreign(self.run.checkpoint.path) from error

    def _foreign(self, file: Path) -> InputError:
        return corrupt_file(file, "it is not of this comparison")

    def train(self, *, progress: bool = False) -> list[TunedArm]:
        """Every arm with its best learning rate: the least mean validation error, the smaller rate of equals."""
        chosen = []
        for arm in self.arms:
            fits = len(self.rates) * len(self.problem.seeds)
            with progress_bar(fits * self.problem.config.epochs, arm.name, shown=progress) as bar:
                tuned = {
                    rate: [self._fit(FitKey(arm.name, rate, s, "tune"), arm, bar) for s in self.problem.seeds]
                    for rate in self.rates
                }
            # Rounded, since sums that are equal on paper differ by their last digits.
            rate = min(self.rates, key=lambda rate: round(math.fsum(each.valid_error for each in tuned[rate]), 6))
            final = tuned[rate]
            if self.problem.config.refit:
                with progress_bar(
                    sum(outcome.best_epoch for outcome in tuned[rate]), f"{arm.name}, refit", shown=progress
                ) as bar:
                    final = [
                        self._fit(FitKey(arm.name, rate, seed, "refit"), arm, bar, refit_epochs=outcome.best_epoch)
                        for seed, outcome in zip(self.problem.seeds, tuned[rate], strict=True)
                    ]
            chosen.append(TunedArm(arm, rate, tuned[rate], final))
        return chosen

    def _fit(self, key: FitKey, arm: Arm, bar: Any, refit_epochs: int | None = None) -> FitResult:
        """The outcome of one fit, from its file if it is done."""
        planned = self.problem.config.epochs if refit_epochs is None else refit_epochs
        done = self._finished(key, arm)
        if done is not None:
            bar.update(planned)
            return done
        fit = Trainer(self.problem, arm, key.learning_rate, key.seed, refit_epochs)
        if self.current is not None and self.current.get("key") == list(key):
            try:
                fit.load_state(self.current["fit"])
            except (LookupError, TypeError, ValueError, RuntimeError, AttributeError) as error:
                raise self._foreign(self.run.checkpoint.path) from error
            bar.update(fit.epoch)
        saved, files = time.monotonic(), list[Path]()

        def save() -> None:
            nonlocal saved
            state = {"key": list(key), "fit": fit.state()}
            if distributed.is_main():
                self.run.save_checkpoint(state, *files)
            saved = time.monotonic()
            if distributed.any_rank(bool(asked())):
                raise Stopped(asked() or SIGTERM)

        def after_step() -> None:
            is_due = bool(asked()) or time.monotonic() - saved > CHECKPOINT_SECONDS
            if not (fit.position % distributed.SYNC_EVERY and distributed.size() > 1) and distributed.any_rank(is_due):
                save()

        def after_epoch() -> None:
            is_due = distributed.is_main() and time.monotonic() - saved > self.run.checkpoint.seconds_apart
            if not fit.done and distributed.any_rank(is_due):  # the end of a fit has a file of its own
                save()

        fit.after_step = after_step
        if not distributed.is_main():
            with deferred_interrupts() as asked:
                for _ in fit.epochs():
                    after_epoch()
            return fit.result()
        folder = self.folder(key.arm, key.seed)
        prefix = tag_prefix(key.learning_rate, key.stage, several=len(self.rates) > 1)
        rewind_events(folder, prefix, fit.epoch)
        with self.run.checkpoint, EventLog(folder) as events, deferred_interrupts() as asked:
            for record in fit.epochs():
                self.run.log({**key._asdict(), **record})
                log_epoch(events, prefix, fit)
                files = [events.file] if events.file else []
                bar.set_postfix({"seed": key.seed, "valid error": f"{record.get('valid_error', math.nan):.2f} %"})
                bar.update()
                after_epoch()
        bar.update(planned - fit.epoch)
        outcome = fit.result()
        save_state(self._file(key), {name: getattr(outcome, name) for name in FitResult.__dataclass_fields__})
        return outcome

    def _finished(self, key: FitKey, arm: Arm) -> FitResult | None:
        """What rank 0 finds in the file of that fit, if it is done."""
        file = self._file(key) if distributed.is_main() else self.run.path
        state = distributed.broadcast_state(load_state(file, self.problem.device) if file.is_file() else None)
        if state is None:
            return None
        try:
            outcome = FitResult(**state)
            network = meta_mlp(self.problem.description(arm))
            kept = outcome.weights, outcome.best_epoch, outcome.history, outcome.signals
            check_fit_result(network, *kept, len(outcome.history))
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            raise self._foreign(file) from error
        if not outcome.history or not outcome.best_epoch or type(outcome.diverged) is not bool:
            raise self._foreign(file)
        return outcome

    def _file(self, key: FitKey) -> Path:
        name = f"{folder_name(key.arm)}-{key.learning_rate}-{key.seed}-{key.stage}.safetensors"
        return self.run.subfolder("checkpoint") / name

    def folder(self, arm: str, seed: int) -> Path:
        """ARM/seed-N of the run."""
        return self.run.subfolder(f"{folder_name(arm)}/seed-{seed}")

    def test(self, chosen: Sequence[TunedArm]) -> dict[str, list[float]]:
        """Test error (%) of every arm, a seed each; the test set is touched here and nowhere else."""
        return {each.arm.name: list(self._tested(each)) for each in chosen}

    def _tested(self, chosen: TunedArm) -> Iterator[float]:
        test = self.problem.test
        for outcome in chosen.final:
            network = self.problem.network_with(chosen.arm, outcome.weights)
            yield error_rate(network.eval(), self.problem.scaling, test.x, labels_of(test))

    def write(self, chosen: Sequence[TunedArm], test_errors: dict[str, list[float]]) -> dict[str, list[SignalsByTime]]:
        """Curves and rows for TensorBoard, and each arm's best classifier (by validation error).

        By arm and seed: the signals, empty unless they are asked for.
        """
        signals: dict[str, list[SignalsByTime]] = {}
        for each in chosen:
            name = each.arm.name
            signals[name] = [
                finalize_events(self.folder(name, seed), self.problem, each, seed, error, several=len(self.rates) > 1)
                for seed, error in zip(self.problem.seeds, test_errors[name], strict=True)
            ]
            errors = [outcome.valid_error for outcome in each.tuned]
            best = errors.index(min(errors))
            network = self.problem.network_with(each.arm, each.final[best].weights)
            file = self.folder(name, self.problem.seeds[best]) / "classifier.safetensors"
            save_classifier(file, network, self.problem.description(each.arm))
        return signals
