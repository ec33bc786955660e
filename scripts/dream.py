"""`torch-dbn dream` as a script."""

from dbn.cli.commands.dream import COMMAND

if __name__ == "__main__":
    COMMAND.run()
