"""`torch-dbn report` as a script."""

from dbn.cli.commands.report import COMMAND

if __name__ == "__main__":
    COMMAND.run()
