"""`torch-dbn label-model` as a script."""

from dbn.cli.commands.label_model import COMMAND

if __name__ == "__main__":
    COMMAND.run()
