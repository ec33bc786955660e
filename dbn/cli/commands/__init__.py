"""The commands by name, one module each."""

from collections.abc import Callable
from typing import Any, NamedTuple

from dbn.cli.command_line import run_script
from dbn.cli.reports import reporting
from dbn.registry import Registry


class Command(NamedTuple):
    """What a command does, with its options and a sentence about it."""

    main: Callable[[Any], None]
    config: type
    description: str
    several: bool = False
    """Whether torchrun may start more than one process of it."""
    reports: bool = False
    """Whether it makes a run, of which a report is written where that took long."""

    def run(self) -> None:
        """Read the command line and do it."""
        main = reporting(self.main) if self.reports else self.main
        run_script(main, self.config, self.description, several=self.several)


VERBS = (
    "pretrain",
    "label-model",
    "finetune",
    "evaluate",
    "sample",
    "predict",
    "features",
    "impute",
    "study",
    "report",
    "dream",
    "benchmark",
    "recipes",
    "completion",
)
COMMANDS: Registry[Command] = Registry(
    "command", {verb: f"dbn.cli.commands.{verb.replace('-', '_')}:COMMAND" for verb in VERBS}
)
"""Every command by its name on the command line of torch-dbn."""
