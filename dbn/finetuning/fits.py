"""The training runs of a comparison: each is trained with its curves and checkpoints, or read from its file."""

import math
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

from dbn.errors import InputError
from dbn.finetuning.problem import Problem
from dbn.finetuning.recorder import log_epoch, rewind_events, tag_prefix
from dbn.finetuning.results import FitResult, check_fit_result
from dbn.finetuning.together import train_together
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
    """Trains, and resumes from its run folder: a finished fit is a file, those in progress are one checkpoint.

    Without a folder nothing is written. All ranks call `train`; rank 0 alone uses the folder.

    callback: called on rank 0 with each line of metrics.jsonl; an exception ends training after a checkpoint.
    """

    def __init__(self, problem: Problem, run: RunFolder | None, callback: Callback | None = None) -> None:
        self.callback = callback
        self.problem, self.run = problem, run if distributed.is_main() else None
        self.arms: Mapping[str, Arm] = {arm.name: arm for arm in map(parse_arm, problem.config.init)}
        self.several_rates = len(problem.config.learning_rates) > 1
        self.is_kept = distributed.any_rank(self.run is not None)
        state = distributed.broadcast_state(self.run.load_checkpoint(problem.device) if self.run else None)
        try:
            parts = [] if state is None else state.get("fits", [state])
            self.current: dict[FitKey, Any] = {FitKey(*each["key"]): each["fit"] for each in parts}
        except (LookupError, TypeError, AttributeError) as error:
            raise self._foreign(None, error) from error
        if self.run:
            self.run.keep_metrics(self._is_kept, FIT_RECORD)

    def _is_kept(self, record: dict[str, Any]) -> bool:
        key = FitKey(record["arm"], record["learning_rate"], record["seed"], record["stage"])
        if self._file(key).exists():
            return True
        try:
            done = int(self.current[key]["epoch"]) if key in self.current else 0
        except (LookupError, TypeError, ValueError) as error:
            raise self._foreign(None, error) from error
        return bool(record["epoch"] <= done)

    def _foreign(self, file: Path | None, error: Exception) -> InputError:
        file = file or (self.run.checkpoint.path if self.run else Path("the checkpoint of rank 0"))
        return corrupt_file(file, f"it is not of this comparison{reason(error)}")

    def train(self, planned: Mapping[FitKey, int], at_once: int, bar: Any) -> dict[FitKey, FitResult]:
        """Runs of at most so many epochs, so many of them at the same time; those that are finished are read."""
        keys, found = list(planned), dict[FitKey, FitResult]()
        for start in range(0, len(keys), at_once):
            group = keys[start : start + at_once]  # the same when resumed, whichever of them are finished
            found |= self._group({key: planned[key] for key in group}, bar)
        return found

    def _group(self, planned: Mapping[FitKey, int], bar: Any) -> dict[FitKey, FitResult]:
        finished = {key: self._finished(key) for key in planned}
        fits = {key: self._trainer(key, planned[key]) for key, result in finished.items() if result is None}
        bar.update(sum(planned[key] if key not in fits else fits[key].epoch for key in planned))
        if fits:
            self._train(fits, bar)
            bar.update(sum(planned[key] - fit.epoch for key, fit in fits.items()))
        results = {key: result or fits[key].result() for key, result in finished.items()}
        for key in fits if self.run else ():
            state = {name: getattr(results[key], name) for name in FitResult.__dataclass_fields__}
            save_state(self._file(key), state)
        return results

    def _trainer(self, key: FitKey, planned: int) -> Trainer:
        refit_epochs = planned if key.stage == "refit" else None
        fit = Trainer(self.problem, self.arms[key.arm], key.learning_rate, key.seed, refit_epochs)
        if (state := self.current.pop(key, None)) is not None:
            try:
                fit.load_state(state)
            except (LookupError, TypeError, ValueError, RuntimeError, AttributeError) as error:
                raise self._foreign(None, error) from error
        return fit

    def _train(self, fits: Mapping[FitKey, Trainer], bar: Any) -> None:
        keys = {fit: key for key, fit in fits.items()}
        logs = self._rewound(fits)

        def save() -> None:
            parts = [{"key": list(key), "fit": fit.state()} for key, fit in fits.items()]
            if self.run:
                files = dict.fromkeys(log.file for log in logs.values() if log.file)
                self.run.save_checkpoint(parts[0] if len(parts) == 1 else {"fits": parts}, *files)

        with ExitStack() as until_done:
            checkpoint = until_done.enter_context(self.run.checkpoint) if self.run else None
            for log in logs.values():
                until_done.callback(log.close)
            control = until_done.enter_context(checkpoint_control(save if self.is_kept else None, CHECKPOINT_SECONDS))
            for trained in train_together(list(keys), control.after_step):
                lines = [{**keys[fit]._asdict(), **fit.history[-1]} for fit in trained]
                for fit, line in zip(trained, lines, strict=True):
                    if self.run:
                        self.run.log(line)
                        log_epoch(logs[keys[fit]], self._prefix(keys[fit]), fit)
                    shown = self.problem.task.shown(line.get("valid_error", math.nan))
                    bar.set_postfix({"seed": fit.seed, "valid error": shown})
                    bar.update()
                # The end of a fit has a file of its own.
                are_done = all(fit.done for fit in keys)
                seconds = checkpoint.seconds_apart if checkpoint and not are_done else math.inf
                control.after_epoch(lines, self.callback, seconds)
            if len(fits) > 1 and self.is_kept:
                save()  # or a resumed run could train some of them without those that have their files

    def _rewound(self, fits: Mapping[FitKey, Trainer]) -> dict[FitKey, EventLog]:
        """The logs of fits that are resumed or new, one for each folder."""
        if self.run is None:
            return {}
        folders = {key: self.folder(key.arm, key.seed) for key in fits}
        for key, fit in fits.items():
            rewind_events(folders[key], self._prefix(key), fit.epoch)
        logs = {folder: EventLog(folder) for folder in folders.values()}
        return {key: logs[folder] for key, folder in folders.items()}

    def _prefix(self, key: FitKey) -> str:
        return tag_prefix(key.learning_rate, key.stage, several=self.several_rates)

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
