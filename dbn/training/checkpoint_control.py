"""When training writes a checkpoint, and how a signal ends it."""

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from signal import SIGTERM
from typing import Any, final

from dbn.errors import InputError
from dbn.training import distributed
from dbn.training.interrupts import Stopped, deferred_interrupts

Callback = Callable[[dict[str, Any]], object]


def check_callback(callback: object) -> None:
    """InputError for what cannot be called, before any training."""
    if callback is not None and not callable(callback):
        raise InputError(f"callback must be a function of one argument, a record, not {callback!r}")


@final
class CheckpointControl:
    """Saves when a checkpoint is due or a signal has arrived, which then raises `Stopped`; all ranks decide alike."""

    def __init__(self, save: Callable[[], None] | None, asked: Callable[[], int], seconds: float) -> None:
        self.save, self.asked, self.seconds = save, asked, seconds
        self.saved = time.monotonic()

    def after_step(self, position: int) -> None:
        """Save if `seconds` have passed or a signal has arrived; `position` steps of the epoch are done.

        Several ranks ask each other every `SYNC_EVERY` steps.
        """
        if distributed.size() == 1 or position % distributed.SYNC_EVERY == 0:
            self._save_if(bool(self.asked()) or time.monotonic() - self.saved > self.seconds)

    def after_epoch(
        self, records: Iterable[Mapping[str, Any]], callback: Callback | None, seconds: float = -math.inf
    ) -> None:
        """Call back with the epoch's lines of metrics.jsonl, on rank 0; save if it raises or `seconds` have passed."""
        is_due = True
        try:
            if callback and distributed.is_main():
                for record in records:
                    callback({name: _finite(value) for name, value in record.items()})
            is_due = time.monotonic() - self.saved > seconds
        finally:
            self._save_if(is_due)

    def _save_if(self, is_due: bool) -> None:
        if self.save is None or not distributed.any_rank(is_due):
            return
        self.save()
        self.saved = time.monotonic()
        if distributed.any_rank(bool(self.asked())):
            raise Stopped(self.asked() or SIGTERM)


def _finite(value: Any) -> Any:
    return None if value in (math.inf, -math.inf) or value != value else value


@contextmanager
def checkpoint_control(save: Callable[[], None] | None, seconds: float) -> Iterator[CheckpointControl]:
    """Within, a signal waits for the next checkpoint; `seconds` between two of them within an epoch.

    save: writes one, called on every rank; None where nothing is kept, and signals are not deferred.
    """
    with deferred_interrupts(wanted=save is not None) as asked:
        yield CheckpointControl(save, asked, seconds)
