"""`torch-dbn benchmark` as a script."""

from dbn.cli.commands.benchmark import COMMAND

if __name__ == "__main__":
    COMMAND.run()
