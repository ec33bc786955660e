"""The command line: the program torch-dbn, and running a command of one's own with its conveniences."""

from dbn.cli.command_line import run_script
from dbn.cli.program import main

__all__ = ["main", "run_script"]
