"""The command line: the program torch-dbn, and running a command of one's own with its conveniences."""

TYPE_CHECKING = False  # as in dbn: little may come before signals are handled

if TYPE_CHECKING:
    from dbn.cli.command_line import run_script as run_script


def main() -> None:
    """The program torch-dbn."""
    from dbn.cli.signals import end_at_once_from_now_on

    end_at_once_from_now_on()
    from dbn.cli.program import main

    main()


def run_command(module: str) -> None:
    """A command of `dbn.cli.commands` as a program of its own."""
    from dbn.cli.signals import end_at_once_from_now_on

    end_at_once_from_now_on()
    from importlib import import_module

    import_module(f"dbn.cli.commands.{module}").COMMAND.run()


def __getattr__(name: str) -> object:
    if name == "run_script":
        from dbn.cli.command_line import run_script

        return run_script
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
