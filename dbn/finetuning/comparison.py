"""Comparison of initializations: every arm under every learning rate and seed, then one test on the test set."""

import math
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NamedTuple

from dbn.data.splits import labels_of
from dbn.errors import InputError
from dbn.finetuning.problem import Problem
from dbn.finetuning.recorder import SignalsByTime, finalize_events, log_epoch, rewind_events, tag_prefix, write_codes
from dbn.finetuning.results import FitResult, TunedArm, check_fit_result
from dbn.finetuning.trainer import Trainer
from dbn.initializers.arms import Arm, parse_arm
from dbn.models.mlp import meta_mlp
from dbn.plotting.images import save_png
from dbn.runs.classifier import folder_name, save_classifier
from dbn.runs.folder import RunFolder
from dbn.runs.tensorboard import EventLog
from dbn.storage.files import corrupt_file
from dbn.storage.tensors import load_state, save_state
from dbn.tasks.metrics import predict
from dbn.training import distributed
from dbn.training.checkpoint_control import Callback, checkpoint_control
from dbn.training.loop import progress_bar

CHECKPOINT_SECONDS = 30.0
"""Between two steps. After an epoch a checkpoint is written as soon as it costs little: with few labels an epoch takes
milliseconds, and a checkpoint as long."""


class FitKey(NamedTuple):
    """Which training run of a comparison."""

    arm: str
    learning_rate: float
    seed: int
    stage: str
    """"tune", or "refit" on training and validation examples together."""


class Comparison:
    """Trains every arm, tunes each over the same learning rates on validation error, tests each once.

    Resumes from its run folder: a finished fit is a file, the fit in progress a checkpoint. Without a folder nothing is
    written. All ranks call `train`; rank 0 alone uses the folder.

    callback: called on rank 0 with each line of metrics.jsonl; an exception ends training after a checkpoint.
    """

    def __init__(self, problem: Problem, run: RunFolder | None, callback: Callback | None = None) -> None:
        self.callback = callback
        self.problem, self.run = problem, run if distributed.is_main() else None
        self.arms = [parse_arm(text) for text in problem.config.init]
        self.rates = sorted(problem.config.learning_rates)
        self.is_kept = distributed.any_rank(self.run is not None)
        state = distributed.broadcast_state(self.run.load_checkpoint(problem.device) if self.run else None)
        self.current: dict[str, Any] | None = state
        if self.run:
            self.run.keep_metrics(self._is_kept)

    def _is_kept(self, record: dict[str, Any]) -> bool:
        key = FitKey(record["arm"], record["learning_rate"], record["seed"], record["stage"])
        if self._file(key).exists():
            return True
        try:
            current = self.current or {"key": None}
            done = int(current["fit"]["epoch"]) if current["key"] == list(key) else 0
        except (LookupError, TypeError, ValueError) as error:
            raise self._foreign() from error
        return bool(record["epoch"] <= done)

    def _foreign(self, file: Path | None = None) -> InputError:
        file = file or (self.run.checkpoint.path if self.run else Path("the checkpoint of rank 0"))
        return corrupt_file(file, "it is not of this comparison")

    def train(self, *, progress: bool | None = False) -> list[TunedArm]:
        """Every arm with its best learning rate: the least mean validation error, the smaller rate of equals."""
        chosen = []
        config, seeds = self.problem.config, self.problem.seeds
        for arm in self.arms:
            fits = len(self.rates) * len(seeds)
            with progress_bar(fits * config.epochs, arm.name, shown=progress) as bar:
                tuned = {
                    rate: [self._fit(FitKey(arm.name, rate, seed, "tune"), arm, config.epochs, bar) for seed in seeds]
                    for rate in self.rates
                }
            # Rounded, since sums that are equal on paper differ by their last digits.
            rate = min(self.rates, key=lambda rate: round(math.fsum(each.valid_error for each in tuned[rate]), 6))
            final = tuned[rate]
            if config.refit:
                epochs = [result.best_epoch for result in final]
                with progress_bar(sum(epochs), f"{arm.name}, refit", shown=progress) as bar:
                    final = [
                        self._fit(FitKey(arm.name, rate, seed, "refit"), arm, planned, bar)
                        for seed, planned in zip(seeds, epochs, strict=True)
                    ]
            chosen.append(TunedArm(arm, rate, tuned[rate], final))
        return chosen

    def _fit(self, key: FitKey, arm: Arm, planned: int, bar: Any) -> FitResult:
        """One training run of at most so many epochs, read from its file if it is finished."""
        done = self._finished(key, arm)
        if done is not None:
            bar.update(planned)
            return done
        fit = Trainer(self.problem, arm, key.learning_rate, key.seed, planned if key.stage == "refit" else None)
        if self.current is not None and self.current.get("key") == list(key):
            try:
                fit.load_state(self.current["fit"])
            except (LookupError, TypeError, ValueError, RuntimeError, AttributeError) as error:
                raise self._foreign() from error
            bar.update(fit.epoch)
        files: list[Path] = []

        def save() -> None:
            state = {"key": list(key), "fit": fit.state()}
            if self.run:
                self.run.save_checkpoint(state, *files)

        folder = self.folder(key.arm, key.seed) if self.run else None
        prefix = tag_prefix(key.learning_rate, key.stage, several=len(self.rates) > 1)
        if folder:
            rewind_events(folder, prefix, fit.epoch)
        with (
            self.run.checkpoint if self.run else nullcontext() as checkpoint,
            EventLog(folder) if folder else nullcontext() as events,
            checkpoint_control(save if self.is_kept else None, CHECKPOINT_SECONDS) as control,
        ):
            fit.after_step = lambda: control.after_step(fit.position)
            for record in fit.epochs():
                line = {**key._asdict(), **record}
                if self.run and events:
                    self.run.log(line)
                    log_epoch(events, prefix, fit)
                    files = [events.file] if events.file else []
                shown = self.problem.task.shown(record.get("valid_error", math.nan))
                bar.set_postfix({"seed": key.seed, "valid error": shown})
                bar.update()
                # The end of a fit has a file of its own.
                seconds = checkpoint.seconds_apart if checkpoint and not fit.done else math.inf
                control.after_epoch(line, self.callback, seconds)
        bar.update(planned - fit.epoch)
        result = fit.result()
        if self.run:
            save_state(self._file(key), {name: getattr(result, name) for name in FitResult.__dataclass_fields__})
        return result

    def _finished(self, key: FitKey, arm: Arm) -> FitResult | None:
        """What rank 0 finds in the file of that fit, if it is finished."""
        file = self._file(key) if self.run else None
        state = distributed.broadcast_state(
            load_state(file, self.problem.device) if file is not None and file.is_file() else None
        )
        if state is None:
            return None
        try:
            result = FitResult(**state)
            network = meta_mlp(self.problem.description(arm))
            kept = result.weights, result.best_epoch, result.history, result.signals
            check_fit_result(network, *kept, len(result.history))
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            raise self._foreign(file) from error
        if not result.history or not result.best_epoch or type(result.diverged) is not bool:
            raise self._foreign(file)
        return result

    def _file(self, key: FitKey) -> Path:
        name = f"{folder_name(key.arm)}-{key.learning_rate}-{key.seed}-{key.stage}.safetensors"
        return self._subfolder("checkpoint") / name

    def folder(self, arm: str, seed: int) -> Path:
        """ARM/seed-N of the run."""
        return self._subfolder(f"{folder_name(arm)}/seed-{seed}")

    def _subfolder(self, name: str) -> Path:
        if self.run is None:
            raise RuntimeError("a comparison without a run folder has no files")
        return self.run.subfolder(name)

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
                finalize_events(self.folder(name, seed), self.problem, each, seed, found, several=len(self.rates) > 1)
                for seed, found in zip(self.problem.seeds, tested[name], strict=True)
            ]
            errors = [result.valid_error for result in each.tuned]
            best = errors.index(min(errors))
            network = self.problem.network_with(each.arm, each.final[best].weights)
            seed = self.problem.seeds[best]
            file = self.folder(name, seed) / "classifier.safetensors"
            save_classifier(file, network, self.problem.description(each.arm, seed))
            if codes or self.problem.task.mirrored:
                write_codes(file.parent, self.problem, network.eval())
        picture = self.problem.task.drawn(tested)
        if picture is not None:
            save_png(picture / 255, self._subfolder("") / self.problem.task.picture.split(",")[0])
        return signals
