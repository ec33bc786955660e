"""Standard output and error that outlast their reader: work goes on when a terminal or the end of a pipe is gone."""

import contextlib
import io
import os
import sys
from collections.abc import Iterator
from typing import Any, final


@final
class LastingStream:
    """A text stream whose errors wait for `check`; after the first what is written is lost."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self.error: OSError | None = None

    def write(self, text: str) -> int:
        """As of any stream, and never an error of the system."""
        try:
            self._stream.write(text)
        except OSError as error:
            self._lose(error)
        return len(text)

    def flush(self) -> None:
        """As `write`."""
        try:
            self._stream.flush()
        except OSError as error:
            self._lose(error)

    def check(self) -> None:
        """Flush, and raise the first error."""
        self.flush()
        if self.error is not None:
            raise self.error

    def _lose(self, error: OSError) -> None:
        self.error = self.error or error
        with contextlib.suppress(OSError):  # what is still in the buffer must go somewhere when Python ends
            os.dup2(os.open(os.devnull, os.O_WRONLY), self._stream.fileno())

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextlib.contextmanager
def lasting_streams() -> Iterator[LastingStream]:
    """In this context standard output and error raise nothing; yields the first of them."""
    _open_closed_streams()
    before = sys.stdout, sys.stderr
    if isinstance(sys.stdout, io.TextIOWrapper):  # a terminal without ± must not end the work
        sys.stdout.reconfigure(errors="backslashreplace")
    output, errors = map(LastingStream, before)
    sys.stdout, sys.stderr = output, errors
    try:
        yield output
    finally:
        output.flush()
        errors.flush()
        sys.stdout, sys.stderr = before


def _open_closed_streams() -> None:
    """Behind >&- and the like there is no stream, and the next file that is opened would take its number."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115
