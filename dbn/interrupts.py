"""Ending between two steps: a signal asks once, and what is under way is finished first; twice means now."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

HANDLED = (signal.SIGINT, signal.SIGTERM)


class Stopped(KeyboardInterrupt):
    """A signal asked for the end."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


def raise_stopped(number: int, _: FrameType | None) -> None:
    """A handler: raises `Stopped` wherever the program is."""
    raise Stopped(number)


@contextmanager
def deferred_interrupts(*, wanted: bool = True) -> Iterator[Callable[[], int]]:
    """Within the context Ctrl-C and SIGTERM are noted, the second of either is left to whoever handled it before.

    Gives a function that tells the number of the signal that came, 0 for none. Whoever asks it between two steps
    writes down where it is and raises `Stopped`; what nobody asked for in time is raised at the end. Signals reach the
    main thread only: in others, and where this is not wanted, nothing is noted.
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
