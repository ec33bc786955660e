"""One writer a folder: a lock that ends with its process, however that ends.

The system keeps the lock (`flock`, on Windows `msvcrt.locking`), on a file that stays in the folder; what the file
says is for people alone. A process may hold a folder several times over.
"""

import contextlib
import logging
import os
import socket
import sys
from pathlib import Path

from dbn.errors import InputError
from dbn.storage.files import io_error

LOCK = ".lock"

LOGGER = logging.getLogger(__name__)


if sys.platform == "win32":
    import msvcrt

    FAR = 1 << 30
    """Behind what is written: Windows keeps others from reading a byte that is locked."""

    def _seize(descriptor: int) -> None:
        os.lseek(descriptor, FAR, os.SEEK_SET)
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except OSError as error:
            raise BlockingIOError from error
        finally:
            os.lseek(descriptor, 0, os.SEEK_SET)
else:
    import fcntl

    def _seize(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


_held: dict[Path, list[int]] = {}
"""Of this process: descriptor and number of holders of each folder."""


def acquire(folder: Path) -> None:
    """Keep other processes from `acquire` of the same folder until `release`, or this process's end.

    InputError when another process has it, or its file cannot be made.
    """
    key = folder.resolve()
    if key in _held:
        _held[key][1] += 1
        return
    file = folder / LOCK
    try:
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o644)
    except OSError as error:
        raise io_error(file, "written", error) from error
    try:
        try:
            _seize(descriptor)
        except BlockingIOError as error:
            owner = os.read(descriptor, 200).decode(errors="replace").strip() or "another process"
            raise InputError(f"{folder} is in use by {owner}: wait for its end, or name another --run") from error
        except OSError as error:  # some network file systems know no locks
            LOGGER.warning("%s cannot be locked (%s): see to it that no other process writes there", folder, error)
        with contextlib.suppress(OSError):  # a full disk: what it says is not needed
            os.ftruncate(descriptor, 0)
            os.write(descriptor, f"process {os.getpid()} on {socket.gethostname()}\n".encode())
    except BaseException:
        os.close(descriptor)
        raise
    _held[key] = [descriptor, 1]


def release(folder: Path) -> None:
    """Let others `acquire` the folder, unless this process holds it once more. Nothing for one that is not held."""
    key = folder.resolve()
    if key not in _held:
        return
    _held[key][1] -= 1
    if _held[key][1] == 0:
        descriptor, _ = _held.pop(key)
        with contextlib.suppress(OSError):
            os.ftruncate(descriptor, 0)
        os.close(descriptor)
