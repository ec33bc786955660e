"""Time training over several processes, started with torchrun."""

from dbn.cli import run_command

if __name__ == "__main__":
    run_command("benchmark_ranks")
