"""`torch-dbn impute` as a script."""

from dbn.cli.commands.impute import COMMAND

if __name__ == "__main__":
    COMMAND.run()
