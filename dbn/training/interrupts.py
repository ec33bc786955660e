"""Ctrl-C, SIGTERM and SIGHUP between two steps: the first waits for the step in progress, the second does not."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

HANDLED = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
"""Ctrl-C, a request to end, and a terminal that was closed."""


class Stopped(KeyboardInterrupt):
    """A signal has ended the program."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


@contextmanager
def deferred_interrupts(*, wanted: bool = True) -> Iterator[Callable[[], int]]:
    """In this context the first of these signals is noted; a second is left to the handlers before.

    Yields a function that returns the number of the noted signal, 0 for none, for the caller to raise `Stopped` between
    two steps; at the end of the context it is raised here. Other threads than the main one note nothing, nor does this
    unless `wanted`.
    """
    came: list[int] = []
    before: dict[signal.Signals, Any] = {}

    def note(number: int, _: FrameType | None) -> None:
        came.append(number)
        restore()

    def restore() -> None:
        for each, handler in before.items():
            signal.signal(each, handler)

    if wanted and threading.current_thread() is threading.main_thread():
        for each in HANDLED:
            handler = signal.getsignal(each)
            if handler not in (None, signal.SIG_IGN):  # None: set by what is not Python, and cannot be set back
                before[each] = handler
                signal.signal(each, note)
    try:
        yield lambda: came[0] if came else 0
    finally:
        restore()
    if came:
        raise Stopped(came[0])
