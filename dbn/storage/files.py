"""Files: written atomically, read whole, and what is said when the file system refuses."""

import contextlib
import errno
import os
import secrets
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryFile

from dbn.errors import InputError
from dbn.storage.owned import check_owned

WRITING = ".writing-"
"""What the name of an unfinished file starts with."""
NO_FLUSHING = (errno.EINVAL, errno.ENOTSUP)
"""The errors of a file system that cannot flush folders."""
ADVICE = {
    errno.ENOENT: "make its folder first, or choose another place",
    **dict.fromkeys((errno.ENOTDIR, errno.EISDIR, errno.EEXIST), "choose another name"),
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), "make room or choose another place"),
    **dict.fromkeys((errno.EACCES, errno.EPERM), "permit it or choose another place"),
}
"""What to do when the file system refuses to write."""


def as_path(path: object, name: str = "run") -> Path:
    """The path that an argument of that name gives; InputError for what is none."""
    if not isinstance(path, str | os.PathLike):
        raise InputError(f"{name} must be a path, not {path!r}")
    return Path(path)


def atomic_write(path: Path, write: Callable[[Path], object] | bytes, unfinished: Path | None = None) -> None:
    """Write beside `path`, flush to the disk, rename: a reader sees the old file or the new one, never a part.

    `write` is the content, or is called with the path of the file to fill. InputError when the file system refuses,
    and in a folder that this process does not own any more. unfinished: a folder of the same disk to write in first.
    """
    beside = _beside(path if unfinished is None else unfinished / path.name)
    check_owned(beside)
    try:
        try:
            if isinstance(write, bytes):
                beside.write_bytes(write)
            else:
                write(beside)
            flush(beside)
            check_owned(beside)  # again, as a large file takes a while
            os.replace(beside, path)
            _flush_folder(path.parent)
        finally:
            with contextlib.suppress(OSError):
                beside.unlink()
    except OSError as error:
        raise io_error(path, "written", error) from error


def _beside(path: Path) -> Path:
    """A new name in the same folder, without the target's: TensorBoard reads whatever has "tfevents" in its name."""
    return path.with_name(f"{WRITING}{secrets.token_hex(8)}")


def flush(path: Path) -> None:
    """Bring what was written to the file to the disk. OSError as from the system."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def _flush_folder(path: Path) -> None:
    """Bring the names in the folder to the disk, where the system can."""
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


def read_file(path: Path) -> bytes:
    """The content of a file. InputError when it cannot be read, or is a device or pipe, which may never end."""
    try:
        if path.exists() and not path.is_file():
            raise InputError(f"{path} cannot be read (it is not a file): check the name")
        return path.read_bytes()
    except OSError as error:
        raise io_error(path, "read", error) from error


def make_folder(path: Path) -> Path:
    """The folder, made if need be; InputError as for `atomic_write`."""
    check_owned(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise io_error(path, "made", error) from error
    return path


def check_writable(path: Path) -> None:
    """InputError unless a file can be written there, before work that would be lost; its folder is made if need be."""
    if path.is_dir():
        raise InputError(f"{path} cannot be written (it is a folder): name a file in it")
    make_folder(path.parent)
    try:
        with TemporaryFile(
            prefix=WRITING, dir=path.parent
        ):  # without a name where the system can: a kill leaves nothing
            pass
    except OSError as error:
        raise io_error(path, "written", error) from error


def io_error(path: Path, what: str, error: OSError) -> InputError:
    """The sentence for a file system that does not let `path` be `what`."""
    reason = error.strerror or str(error) or type(error).__name__
    advice = "check the name" if what == "read" else ADVICE.get(error.errno or 0, "choose another place")
    return InputError(f"{path} cannot be {what} ({reason}): {advice}")


def corrupt_file(path: Path, why: str) -> InputError:
    """The sentence for a file whose content cannot be used."""
    return InputError(f"{path} is damaged or of another kind, {why}: take another copy or train again")
