"""`torch-dbn sample` as a script."""

from dbn.cli.commands.sample import COMMAND

if __name__ == "__main__":
    COMMAND.run()
