"""The program torch-dbn: a command of `dbn.cli.commands`, chosen by its name."""

import sys
from argparse import ArgumentParser

import dbn
from dbn.cli.command_line import refuse
from dbn.cli.commands import COMMANDS
from dbn.cli.help import Formatter, add_options
from dbn.cli.streams import lasting_streams
from dbn.errors import InputError

PROGRAM = "torch-dbn"


def main() -> None:
    """Run the command that the first argument names."""
    verb, *words = sys.argv[1:] or ["--help"]
    sys.argv = [PROGRAM, *words]  # as `python -m dbn` is the same program
    if verb in ("-h", "--help"):
        with lasting_streams():
            print(overview(), end="")
        return
    if verb == "--version":
        with lasting_streams():
            print(f"{PROGRAM} {dbn.__version__}")
        return
    try:
        command = COMMANDS[verb]
    except InputError as error:
        refuse(error)
    sys.argv[0] = f"{PROGRAM} {verb}"
    command.run()


def overview() -> str:
    """The help of the program: its commands, a sentence each."""
    width = max(map(len, COMMANDS))
    lines = [f"  {verb:{width}}  {' '.join(command.description.split())}" for verb, command in COMMANDS.items()]
    head = [f"usage: {PROGRAM} COMMAND [OPTIONS]", "", str(dbn.__doc__).partition("\n")[0], "", "commands:"]
    tail = ["", f"{PROGRAM} COMMAND --help lists the options of a command. python -m dbn is the same program.", ""]
    return "\n".join([*head, *lines, *tail])


def program_parser() -> ArgumentParser:
    """All commands with their options, for shell completion."""
    parser = ArgumentParser(prog=PROGRAM, description=str(dbn.__doc__).partition("\n")[0])
    commands = parser.add_subparsers(metavar="COMMAND")
    for verb, command in COMMANDS.items():
        about = " ".join(command.description.split())
        add_options(commands.add_parser(verb, help=about, description=about, formatter_class=Formatter), command.config)
    return parser
