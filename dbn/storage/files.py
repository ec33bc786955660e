"""Files that appear whole or not at all, and tensors in them without pickle.

A file of tensors is a safetensors file with one metadata key, `dbn`, of sorted JSON with the number of the format and
a checksum of all else in it: the same content gives the same bytes, and other bytes are noticed. Nothing in a file is
executed, no path in it is followed.
"""

import contextlib
import errno
import os
import secrets
from collections.abc import Callable
from pathlib import Path

from dbn.errors import InputError

WRITING = ".writing-"
"""How the name of a file begins that is not whole yet."""


NO_FLUSHING = (errno.EINVAL, errno.ENOTSUP)
"""What a file system answers that flushes no folders."""


def atomic_write(path: Path, write: Callable[[Path], object] | bytes) -> None:
    """Write beside `path`, flush to the disk, rename: a reader sees the old file or the new one, never a part.

    `write` is the content, or is called with the path of the file to fill. InputError when the file system refuses.
    """
    # The name carries nothing of the target's: TensorBoard reads whatever has "tfevents" in its name.
    beside = path.with_name(f"{WRITING}{secrets.token_hex(8)}")
    try:
        try:
            if isinstance(write, bytes):
                beside.write_bytes(write)
            else:
                write(beside)
            flush(beside)
            os.replace(beside, path)
            flush_folder(path.parent)
        finally:
            with contextlib.suppress(OSError):
                beside.unlink()
    except OSError as error:
        raise io_error(path, "written", error) from error


def flush(path: Path) -> None:
    """What was written to the file reaches the disk. OSError as from the system."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def flush_folder(path: Path) -> None:
    """The names in the folder reach the disk, where that can be asked for. OSError as from the system."""
    if os.name == "nt":
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in NO_FLUSHING:
            raise
    finally:
        os.close(descriptor)


ADVICE = {
    errno.ENOENT: "make its folder first, or choose another place",
    errno.ENOTDIR: "choose another name",
    errno.EISDIR: "choose another name",
    errno.EEXIST: "choose another name",
    errno.ENOSPC: "make room or choose another place",
    errno.EDQUOT: "make room or choose another place",
    errno.EACCES: "permit it or choose another place",
    errno.EPERM: "permit it or choose another place",
}
"""What to do when the file system refuses to write."""


def read_file(path: Path) -> bytes:
    """The content of a file. InputError when it cannot be read, or is a device or pipe, which may never end."""
    try:
        if path.exists() and not path.is_file():
            raise InputError(f"{path} cannot be read (it is no file): check the name")
        return path.read_bytes()
    except OSError as error:
        raise io_error(path, "read", error) from error


def io_error(path: Path, what: str, error: OSError) -> InputError:
    """The sentence for a file system that does not let `path` be `what`."""
    reason = error.strerror or str(error) or type(error).__name__
    advice = "check the name" if what == "read" else ADVICE.get(error.errno or 0, "choose another place")
    return InputError(f"{path} cannot be {what} ({reason}): {advice}")


def check_writable(path: Path) -> None:
    """Make its folder if need be; InputError unless a file can be written there. For before work that would be lost."""
    if path.is_dir():
        raise InputError(f"{path} cannot be written (it is a folder): name a file in it")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise io_error(path.parent, "made", error) from error
    beside = path.with_name(f"{WRITING}{secrets.token_hex(8)}")
    try:
        beside.touch(exist_ok=False)
        beside.unlink()
    except OSError as error:
        raise io_error(path, "written", error) from error


def corrupt_file(path: Path, why: str) -> InputError:
    """The sentence for a file whose content cannot be used."""
    return InputError(f"{path} is damaged or of another kind, {why}: take another copy or train again")
