"""Asynchronous, atomic checkpoint file."""

import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self, final

import torch

from dbn.errors import InputError
from dbn.storage.files import atomic_write, corrupt_file, flush, io_error, make_folder
from dbn.storage.owned import check_owned
from dbn.storage.tensors import load_state, state_bytes

SHARE = 0.02
"""The share of training time that checkpoints may take."""
UNKNOWN = 0.1
"""The cost in seconds that is assumed of the first one."""


@final
class Checkpoint:
    """One file, replaced atomically, written by a thread of its own, at most one at a time.

    An error of that thread is raised by the next `save` or `wait`. As a context it ends with `wait`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._thread: threading.Thread | None = None
        self._error: InputError | None = None
        self._held_up = UNKNOWN
        self._written = 0.0

    def save(self, state: Mapping[str, Any], *logs: Path) -> None:
        """Save `state`, nested dicts, lists and tuples of tensors and plain values, as it is now.

        `logs` reach the disk before the file does, so that they lack no epoch that the file counts as done. Waits for
        the last checkpoint first. InputError when the disk refuses.
        """
        begin = time.perf_counter()
        self.wait()
        data = state_bytes(state)
        self._thread = threading.Thread(target=self._write, args=(data, logs), name="checkpoint")
        self._thread.start()
        self._held_up = time.perf_counter() - begin

    def _write(self, data: bytes, logs: tuple[Path, ...]) -> None:
        path, begin = self.path, time.thread_time()
        try:
            check_owned(path)
            for path in logs:
                flush(path)
            path = self.path
            make_folder(path.parent)
            atomic_write(path, data)
        except OSError as error:
            self._error = self._lost() or io_error(path, "written", error)
        except InputError as error:
            self._error = self._lost() or error
        self._written = time.thread_time() - begin

    def _lost(self) -> InputError | None:
        """What explains a failure where the folder went away while this was being written."""
        try:
            check_owned(self.path)
        except InputError as error:
            return error
        return None

    @property
    def seconds_apart(self) -> float:
        """The time between two checkpoints of which one takes no more than `SHARE`.

        Its cost is the time that training waits, and the computing time of the thread.
        """
        return (self._held_up + self._written) / SHARE

    def wait(self) -> None:
        """Return when what was saved is on the disk; InputError when it could not be."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        error, self._error = self._error, None
        if error is not None:
            raise error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.wait()

    def load(self, device: torch.device | str = "cpu") -> dict[str, Any] | None:
        """The last saved state, tensors on `device`; None where there is none. InputError when the file is damaged."""
        self.wait()
        if not self.path.exists():
            return None
        state = load_state(self.path, device)
        if not isinstance(state, dict):
            raise corrupt_file(self.path, "it holds no checkpoint")
        return state
