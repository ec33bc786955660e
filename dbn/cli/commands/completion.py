"""Print a script for shell completion, to be sourced: source <(torch-dbn completion bash)."""

from argparse import ArgumentParser, _SubParsersAction
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from dbn.cli.commands import Command
from dbn.config.common import Options


@dataclass(frozen=True, kw_only=True)
class CompletionConfig(Options):
    """Options of completion."""

    shell: Literal["bash", "zsh"] = field(default="bash", metadata={"positional": True})
    """bash: add `source <(torch-dbn completion bash)` to ~/.bashrc. zsh: save the output as _torch-dbn in a folder of
    $fpath."""


def main(config: CompletionConfig) -> None:
    """Make the script from the parsers that print the help."""
    import shtab

    from dbn.cli.program import program_parser

    parser = program_parser()
    _complete_paths(parser, shtab.FILE)
    print(shtab.complete(parser, config.shell))


def _complete_paths(parser: ArgumentParser, how: object) -> None:
    for action in parser._actions:
        if isinstance(action, _SubParsersAction):
            for command in action.choices.values():
                _complete_paths(command, how)
        elif action.type is Path:
            action.complete = how  # type: ignore[attr-defined]


COMMAND = Command(main, CompletionConfig, __doc__)
