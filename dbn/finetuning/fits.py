"""The training runs of a comparison: each is trained with its curves and checkpoints, or read from its file."""

import math
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NamedTuple

from dbn.errors import InputError
from dbn.finetuning.problem import Problem
from dbn.finetuning.recorder import log_epoch, rewind_events, tag_prefix
from dbn.finetuning.results import FitResult, check_fit_result
from dbn.finetuning.trainer import Trainer
from dbn.initializers.arms import Arm, parse_arm
from dbn.models.mlp import meta_mlp
from dbn.runs.classifier import folder_name
from dbn.runs.folder import RunFolder
from dbn.runs.formats import FIT_RECORD
from dbn.runs.tensorboard import EventLog
from dbn.storage.files import corrupt_file
from dbn.storage.schema import FLAG, SIZE, check, reason
from dbn.storage.tensors import load_state, save_state
from dbn.training import distributed
from dbn.training.checkpoint_control import Callback, checkpoint_control

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


class Fits:
    """Trains, and resumes from its run folder: a finished fit is a file, the fit in progress a checkpoint.

    Without a folder nothing is written. All ranks call `fit`; rank 0 alone uses the folder.

    callback: called on rank 0 with each line of metrics.jsonl; an exception ends training after a checkpoint.
    """

    def __init__(self, problem: Problem, run: RunFolder | None, callback: Callback | None = None) -> None:
        self.callback = callback
        self.problem, self.run = problem, run if distributed.is_main() else None
        self.arms: Mapping[str, Arm] = {arm.name: arm for arm in map(parse_arm, problem.config.init)}
        self.several_rates = len(problem.config.learning_rates) > 1
        self.is_kept = distributed.any_rank(self.run is not None)
        state = distributed.broadcast_state(self.run.load_checkpoint(problem.device) if self.run else None)
        self.current: dict[str, Any] | None = state
        if self.run:
            self.run.keep_metrics(self._is_kept, FIT_RECORD)

    def _is_kept(self, record: dict[str, Any]) -> bool:
        key = FitKey(record["arm"], record["learning_rate"], record["seed"], record["stage"])
        if self._file(key).exists():
            return True
        try:
            current = self.current or {"key": None}
            done = int(current["fit"]["epoch"]) if current["key"] == list(key) else 0
        except (LookupError, TypeError, ValueError) as error:
            raise self._foreign(None, error) from error
        return bool(record["epoch"] <= done)

    def _foreign(self, file: Path | None, error: Exception) -> InputError:
        file = file or (self.run.checkpoint.path if self.run else Path("the checkpoint of rank 0"))
        return corrupt_file(file, f"it is not of this comparison{reason(error)}")

    def fit(self, key: FitKey, planned: int, bar: Any) -> FitResult:
        """One training run of at most so many epochs, read from its file if it is finished."""
        done = self._finished(key)
        if done is not None:
            bar.update(planned)
            return done
        fit = Trainer(
            self.problem, self.arms[key.arm], key.learning_rate, key.seed, planned if key.stage == "refit" else None
        )
        if self.current is not None and self.current.get("key") == list(key):
            try:
                fit.load_state(self.current["fit"])
            except (LookupError, TypeError, ValueError, RuntimeError, AttributeError) as error:
                raise self._foreign(None, error) from error
            bar.update(fit.epoch)
        files: list[Path] = []

        def save() -> None:
            state = {"key": list(key), "fit": fit.state()}
            if self.run:
                self.run.save_checkpoint(state, *files)

        folder = self.folder(key.arm, key.seed) if self.run else None
        prefix = tag_prefix(key.learning_rate, key.stage, several=self.several_rates)
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

    def _finished(self, key: FitKey) -> FitResult | None:
        """What rank 0 finds in the file of that fit, if it is finished."""
        file = self._file(key) if self.run else None
        state = distributed.broadcast_state(
            load_state(file, self.problem.device) if file is not None and file.is_file() else None
        )
        if state is None:
            return None
        try:
            result = FitResult(**state)
            network = meta_mlp(self.problem.description(self.arms[key.arm]))
            kept = result.weights, result.best_epoch, result.history, result.signals
            check_fit_result(network, *kept, len(result.history), tuned=key.stage == "tune")
            check(result.diverged, FLAG, "diverged")
            check(result.best_epoch, SIZE, "best_epoch")
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            raise self._foreign(file, error) from error
        return result

    def _file(self, key: FitKey) -> Path:
        name = f"{folder_name(key.arm)}-{key.learning_rate}-{key.seed}-{key.stage}.safetensors"
        return self.subfolder("checkpoint") / name

    def folder(self, arm: str, seed: int) -> Path:
        """ARM/seed-N of the run."""
        return self.subfolder(f"{folder_name(arm)}/seed-{seed}")

    def subfolder(self, name: str) -> Path:
        """A folder of the run."""
        if self.run is None:
            raise RuntimeError("a comparison without a run folder has no files")
        return self.run.subfolder(name)
