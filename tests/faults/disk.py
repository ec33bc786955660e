"""A file layer with faults: counts what a process asks of the disk below a folder, and fails or dies at one of them.

Counted are opening for writing, every write, flush and close of such a file, `os.fsync`, renaming and making folders.
"""

import builtins
import errno
import io
import os
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

FULL, BROKEN, KILL, INTERRUPT, TERMINATE, TWICE = "full", "broken", "kill", "interrupt", "terminate", "twice"
"""No space from the chosen moment on; one input/output error; death halfway through; Ctrl-C, SIGTERM and two Ctrl-C
just then."""
SIGNALS = {INTERRUPT: [signal.SIGINT], TERMINATE: [signal.SIGTERM], TWICE: [signal.SIGINT, signal.SIGINT]}


class Disk:
    """Stands between Python and the files below `root`; `at` is the operation that fails, from 1; 0, none."""

    def __init__(self, root: str, at: int = 0, how: str = KILL) -> None:
        self.root, self.at, self.how = os.path.realpath(root), at, how
        self.count = 0
        self._lock = threading.RLock()

    def install(self) -> None:
        """For the rest of the process."""
        plain_open, plain_fsync, plain_replace, plain_mkdir = io.open, os.fsync, os.replace, os.mkdir

        def opened(file: Any, mode: str = "r", *arguments: Any, **options: Any) -> Any:
            if not set("wax+") & set(mode) or not self.holds(file):
                return plain_open(file, mode, *arguments, **options)
            self.operation(grows=not set("wax").isdisjoint(mode))
            return Watched(plain_open(file, mode, *arguments, **options), self)

        def fsync(descriptor: int) -> None:
            self.operation(grows=False)
            plain_fsync(descriptor)

        def replace(source: Any, target: Any) -> None:
            if self.holds(target):
                self.operation(grows=False)
            plain_replace(source, target)

        def mkdir(path: Any, *arguments: Any, **options: Any) -> None:
            if self.holds(path):
                self.operation(grows=True)
            plain_mkdir(path, *arguments, **options)

        builtins.open = io.open = opened  # pathlib goes through the latter
        os.fsync, os.replace, os.mkdir = fsync, replace, mkdir

    def holds(self, path: Any) -> bool:
        if isinstance(path, int):
            return False
        return os.path.realpath(os.fsdecode(path)).startswith(self.root + os.sep)

    def operation(self, *, grows: bool, half: Callable[[], object] = lambda: None) -> None:
        """Count one; raise or die if it is its turn. `grows`: whether it needs room on the disk."""
        with self._lock:
            self.count += 1
            if self.at and self.how == KILL and self.count == self.at:
                half()
                os.kill(os.getpid(), signal.SIGKILL)
            if self.count == self.at:
                for number in SIGNALS.get(self.how, []):
                    os.kill(os.getpid(), number)
                    time.sleep(0.002)
            if self.at and self.how == FULL and self.count >= self.at and grows:
                half()
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            if self.at and self.how == BROKEN and self.count == self.at:
                half()
                raise OSError(errno.EIO, os.strerror(errno.EIO))


class Watched:
    """A file that is written to."""

    def __init__(self, file: Any, disk: Disk) -> None:
        self._file, self._disk = file, disk

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def write(self, data: Any) -> Any:
        def half() -> None:
            self._file.write(data[: len(data) // 2])
            self._file.flush()

        self._disk.operation(grows=True, half=half)
        return self._file.write(data)

    def flush(self) -> None:
        self._disk.operation(grows=False)
        self._file.flush()

    def close(self) -> None:
        if not self._file.closed:
            try:
                self._disk.operation(grows=False)
            finally:
                self._file.close()

    def __enter__(self) -> "Watched":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __iter__(self) -> Any:
        return iter(self._file)
