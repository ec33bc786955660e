"""One writer a folder."""

import errno
import logging
import os
import socket
from pathlib import Path

import pytest

from dbn.errors import InputError
from dbn.runs import lock as locks
from dbn.runs.folder import RunFolder
from dbn.runs.lock import LOCK, acquire, release

fcntl = pytest.importorskip("fcntl")


def seized(folder: Path, text: str = "") -> int:
    """The lock as another process would have it: the system counts openings of the file, not processes."""
    descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT)
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.write(descriptor, text.encode())
    return descriptor


def test_a_folder_in_use_is_left_alone_until_its_user_is_gone(tmp_path: Path) -> None:
    other = seized(tmp_path, "process 12 on a host\n")
    for take in (acquire, lambda folder: RunFolder.create(folder, overwrite=True)):
        with pytest.raises(InputError, match=r"is in use by process 12 on a host: wait for its end, or name another"):
            take(tmp_path)
    os.close(other)  # as when the process dies; its text stays
    acquire(tmp_path)
    assert (tmp_path / LOCK).read_text() == f"process {os.getpid()} on {socket.gethostname()}\n"
    release(tmp_path)


def test_what_is_held_is_held_against_others_until_it_is_let_go_as_often(tmp_path: Path) -> None:
    acquire(tmp_path)
    acquire(tmp_path / ".." / tmp_path.name)
    for _ in range(2):
        with pytest.raises(BlockingIOError):
            seized(tmp_path)
        release(tmp_path)
    os.close(seized(tmp_path))
    assert (tmp_path / LOCK).read_text() == ""
    release(tmp_path)  # once too often


def test_a_run_that_is_in_use_is_not_overwritten(tmp_path: Path) -> None:
    with RunFolder.create(tmp_path / "run", overwrite=False) as run:
        run.write_config({"seed": 1})
    other = seized(run.path)
    with pytest.raises(InputError, match="in use by another process"):
        RunFolder.create(run.path, overwrite=True)
    assert run.read_config() == {"seed": 1}
    os.close(other)


def test_a_link_in_place_of_the_lock_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("mine")
    run = tmp_path / "run"
    run.mkdir()
    (run / LOCK).symlink_to(tmp_path / "precious")
    with pytest.raises(InputError, match="cannot be written"):
        acquire(run)
    assert (tmp_path / "precious").read_text() == "mine"


def test_a_file_system_without_locks_is_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(_: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(locks, "_seize", refuse)
    with caplog.at_level(logging.WARNING):
        acquire(tmp_path)
    release(tmp_path)
    assert "cannot be locked" in caplog.text
