"""When a checkpoint is due, and what a signal and a callback that raises make of it."""

import math
import os
import signal
from types import SimpleNamespace

import pytest

from dbn.training import checkpoint_control as module
from dbn.training.checkpoint_control import checkpoint_control
from dbn.training.interrupts import Stopped


class Clock:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: self.now))


def test_one_is_due_after_so_many_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, saved = Clock(monkeypatch), list[float]()
    with checkpoint_control(lambda: saved.append(clock.now), 10.0) as control:
        for clock.now in range(31):
            control.after_step(1)
        assert saved == [11, 22]
        clock.now = 31
        control.after_epoch([{}], None)  # in any case
        for clock.now in (33, 33.5, 35):
            control.after_epoch([{}], None, seconds=2.0)
        clock.now = 1e9
        control.after_epoch([{}], None, seconds=math.inf)
    assert saved == [11, 22, 31, 33.5]


def test_a_signal_is_answered_by_a_checkpoint_after_the_step(monkeypatch: pytest.MonkeyPatch) -> None:
    saved: list[int] = []
    with pytest.raises(Stopped) as stop, checkpoint_control(lambda: saved.append(1), 1e9) as control:  # noqa: PT012
        control.after_step(1)
        os.kill(os.getpid(), signal.SIGTERM)
        assert saved == []
        control.after_step(2)
    assert saved == [1]
    assert stop.value.number == signal.SIGTERM


def test_a_callback_that_raises_leaves_a_checkpoint() -> None:
    saved: list[int] = []
    given: list[dict[str, object]] = []

    def fail(record: dict[str, object]) -> None:
        given.append(record)
        raise ZeroDivisionError

    record = {"epoch": 1, "arm": "dbn", "loss": math.nan, "error": math.inf, "seconds": 0.5}
    with pytest.raises(ZeroDivisionError), checkpoint_control(lambda: saved.append(1), 1e9) as control:
        control.after_epoch([record], fail, seconds=math.inf)
    assert saved == [1]
    assert given == [{"epoch": 1, "arm": "dbn", "loss": None, "error": None, "seconds": 0.5}]


def test_where_nothing_is_kept_signals_are_not_deferred() -> None:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in a job of the background
    try:
        with pytest.raises(KeyboardInterrupt), checkpoint_control(None, 0.0) as control:  # noqa: PT012
            control.after_step(1)
            control.after_epoch([{}], None)
            os.kill(os.getpid(), signal.SIGINT)
            raise AssertionError("the signal came too late")
    finally:
        signal.signal(signal.SIGINT, before)
