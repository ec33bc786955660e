"""Time training over several processes, started with torchrun."""

from dbn.cli.commands.benchmark_ranks import COMMAND

if __name__ == "__main__":
    COMMAND.run()
