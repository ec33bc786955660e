"""`torch-dbn pretrain` as a script."""

from dbn.cli.commands.pretrain import COMMAND

if __name__ == "__main__":
    COMMAND.run()
