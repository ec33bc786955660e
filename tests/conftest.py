"""What every test runs under."""

import os
from collections.abc import Iterator
from unittest import mock

import pytest

from dbn.cli import signals

if "PYTEST_XDIST_WORKER" in os.environ:  # as in the Makefile, and before torch is imported
    os.environ.setdefault("OMP_NUM_THREADS", "1")


def no_wait(descriptor: int) -> None:
    """In place of `os.fsync`: an error for a wrong descriptor alone.

    No file of a test outlives a power failure, and each wait for the disk takes ten milliseconds. Subprocesses wait.
    """
    os.fstat(descriptor)


os.fsync = no_wait

signals.end_at_once_from_now_on = lambda: None  # of a program, whose tests may run in this process


@pytest.fixture(autouse=True)
def _environment_as_before() -> Iterator[None]:
    """A study run in this process sets MKL_CBWR, and a process of a later test would compute with other last bits."""
    with mock.patch.dict(os.environ):
        yield
