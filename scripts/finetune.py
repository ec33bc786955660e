"""`torch-dbn finetune` as a script."""

from dbn.cli.commands.finetune import COMMAND

if __name__ == "__main__":
    COMMAND.run()
