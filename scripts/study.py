"""`torch-dbn study` as a script."""

from dbn.cli.commands.study import COMMAND

if __name__ == "__main__":
    COMMAND.run()
