"""Signals that end a program. Imports little, as it is there before all else."""

import contextlib
import os
import signal
import sys
from types import FrameType

HANDLED = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
"""As in `dbn.training.interrupts`, whose import would come too early here."""

_before: dict[int, object] = {}
"""The handlers that `put_signals_back` restores."""


def end_at_once(number: int, _: FrameType | None = None) -> None:
    """A signal handler: one line on standard error, and the status of the signal. Nothing is cleaned up."""
    if os.environ.get("RANK", "0") == "0":  # of several processes one speaks
        name = os.path.basename(sys.argv[0]).replace("__main__.py", "torch-dbn")
        with contextlib.suppress(OSError):  # the terminal is gone
            os.write(2, f"{name}: interrupted\n".encode(errors="replace"))
    os._exit(128 + number)


def end_at_once_from_now_on() -> None:
    """Until a command begins: nothing is written yet, and an exception within an import may come out as another."""
    for each in HANDLED:
        if signal.getsignal(each) not in (None, signal.SIG_IGN):
            signal.signal(each, end_at_once)


def raise_stopped_from_now_on() -> None:
    """A signal raises `Stopped`, until `put_signals_back`; a second one, or one within an import, ends all at once."""
    for each in HANDLED:
        handler = signal.getsignal(each)
        if handler not in (None, signal.SIG_IGN):  # None: set by what is not Python, and cannot be set back
            _before.setdefault(each, handler)
            signal.signal(each, _stop)


def put_signals_back() -> None:
    """The handlers that were there before."""
    for each in tuple(_before):
        signal.signal(each, _before.pop(each))  # type: ignore[arg-type]


def _stop(number: int, frame: FrameType | None) -> None:
    if _is_importing(frame):
        end_at_once(number)
    from dbn.training.interrupts import Stopped

    for each in HANDLED:
        if signal.getsignal(each) is _stop:
            signal.signal(each, end_at_once)
    raise Stopped(number)


def _is_importing(frame: FrameType | None) -> bool:
    while frame is not None and frame.f_code.co_filename != "<frozen importlib._bootstrap>":
        frame = frame.f_back
    return frame is not None
