"""`torch-dbn features` as a script."""

from dbn.cli.commands.features import COMMAND

if __name__ == "__main__":
    COMMAND.run()
