"""`torch-dbn evaluate` as a script."""

from dbn.cli import run_command

if __name__ == "__main__":
    run_command("evaluate")
