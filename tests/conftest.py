"""What every test runs under."""

import os
import signal
from importlib import import_module


def no_wait(descriptor: int) -> None:
    """In place of `os.fsync`: an error for a wrong descriptor alone.

    No file of a test outlives a power failure, and each wait for the disk takes ten milliseconds. Subprocesses wait.
    """
    os.fstat(descriptor)


os.fsync = no_wait

# What programs import first handles signals for the rest of the process, and here pytest does.
handlers = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
import_module("dbn.cli.first")
for each, handler in handlers.items():
    signal.signal(each, handler)
