"""`torch-dbn predict` as a script."""

from dbn.cli.commands.predict import COMMAND

if __name__ == "__main__":
    COMMAND.run()
