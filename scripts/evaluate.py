"""`torch-dbn evaluate` as a script."""

from dbn.cli.commands.evaluate import COMMAND

if __name__ == "__main__":
    COMMAND.run()
