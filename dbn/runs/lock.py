"""Single-writer lock per run folder, released when the process exits, however it does.

The system keeps the lock (`flock`, on Windows `msvcrt.locking`) on a file that stays in the folder; the file's text is
for people alone. A process may lock a folder several times. (`filelock` would not do: versions of it empty the file of
another owner or follow links, and on Windows it keeps others from reading who the owner is.)
"""

import contextlib
import logging
import os
import socket
import sys
from pathlib import Path

from dbn.errors import InputError
from dbn.storage.files import io_error
from dbn.storage.owned import check_owned, disown, own

LOCK = ".lock"

LOGGER = logging.getLogger(__name__)

if sys.platform == "win32":
    import msvcrt

    FAR = 1 << 30
    """Behind the text: Windows keeps others from reading a locked byte."""

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
"""The folders that this process has locked: descriptor, and how many times."""


def acquire(folder: Path, option: str = "--run") -> None:
    """Lock the folder against other processes, until `release` or the end of this process.

    From then on whatever is written there is refused when the folder is not in its place any more: see `check_owned`.
    InputError when another process has locked it (`option` names another), or the file cannot be made.
    """
    key = folder.resolve()
    if key in _held:
        check_owned(folder)
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
            raise InputError(f"{folder} is in use by {owner}: wait for its end, or name another {option}") from error
        except OSError as error:  # some network file systems have no locks
            LOGGER.warning("%s cannot be locked (%s): make sure that no other process writes there", folder, error)
        state = os.fstat(descriptor)
        own(folder, LOCK, (state.st_dev, state.st_ino))
        check_owned(folder)  # it may have been moved before it was locked
        with contextlib.suppress(OSError):  # a full disk: the text is not needed
            os.ftruncate(descriptor, 0)
            os.write(descriptor, f"process {os.getpid()} on {socket.gethostname()}\n".encode())
    except BaseException:
        disown(folder)
        os.close(descriptor)
        raise
    _held[key] = [descriptor, 1]


def release(folder: Path) -> None:
    """Unlock the folder, if this was the first `acquire` of it; nothing for one that is not locked."""
    key = folder.resolve()
    if key not in _held:
        return
    _held[key][1] -= 1
    if _held[key][1] == 0:
        descriptor, _ = _held.pop(key)
        disown(folder)
        with contextlib.suppress(OSError):
            os.ftruncate(descriptor, 0)
        os.close(descriptor)
