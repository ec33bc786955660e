"""Real processes that run the scripts, forked from one that has imported all they need: a start takes milliseconds.

Run as a program it reads a request a line, as JSON, and answers each by a line when the process has ended.
"""

import json
import os
import resource
import signal
import subprocess
import sys
import time
import traceback
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple, Self

ROOT = Path(__file__).parents[2]


class Ended(NamedTuple):
    """How a process ended: its exit status, or minus the signal; the operations on the disk that it came to."""

    status: int
    out: str
    err: str
    seconds: float
    operations: int


class Launcher:
    """Starts scripts in processes of their own, one after another."""

    def __enter__(self) -> Self:
        environment = os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
        self.process = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        return self

    def __exit__(self, *error: object) -> None:
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.close()
        self.process.wait(timeout=60)
        self.process.stdout.close()

    def run(
        self,
        script: str,
        words: str | list[str],
        folder: Path,
        *,
        signals: tuple[tuple[float, int], ...] = (),
        fault: tuple[str, int] | None = None,
        checkpoint_seconds: float | None = None,
        memory: int | None = None,
    ) -> Ended:
        """Call a script in `folder` with words, or a line of them, and wait for its end.

        signals: (seconds, number) to be sent, each so long after the one before. fault: how and at which operation on
        `folder` the disk fails, see `disk.Disk`. checkpoint_seconds: in place of the modules' own. memory: bytes that
        the process may take beyond what it has.
        """
        assert self.process.stdin
        assert self.process.stdout
        request = {
            "script": script,
            "words": words.split() if isinstance(words, str) else words,
            "folder": str(folder),
            "signals": signals,
            "fault": fault,
            "checkpoint_seconds": checkpoint_seconds,
            "memory": memory,
        }
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        return Ended(**json.loads(self.process.stdout.readline()))


def serve() -> None:
    """Answer requests until there are no more."""
    import torch

    from dbn.data.torchvision_datasets import import_torchvision
    from dbn.study import runner as study_run  # noqa: F401

    torch.set_num_threads(1)
    import_torchvision()
    answers = os.fdopen(os.dup(1), "w")
    for line in sys.stdin:
        request = json.loads(line)
        print(json.dumps(answer(request)), file=answers, flush=True)


def answer(request: dict[str, Any]) -> dict[str, Any]:
    folder = Path(request["folder"])
    notes = [folder.parent / f"{folder.name}.{name}" for name in ("out", "err", "operations")]
    begin = time.monotonic()
    process = os.fork()
    if process == 0:
        status = 1
        try:
            status = child(request, folder, notes)
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)
    ended = 0
    for wait, number in request["signals"]:
        until = time.monotonic() + wait
        while time.monotonic() < until and not ended:
            time.sleep(min(0.002, max(0.0, until - time.monotonic())))
            ended, status = os.waitpid(process, os.WNOHANG)
        if not ended:
            os.kill(process, number)
    if not ended:
        _, status = os.waitpid(process, 0)
    out, err, operations = (note.read_text() if note.exists() else "" for note in notes)
    return {
        "status": os.waitstatus_to_exitcode(status),
        "out": out,
        "err": err,
        "seconds": time.monotonic() - begin,
        "operations": int(operations or 0),
    }


def child(request: dict[str, Any], folder: Path, notes: list[Path]) -> int:
    from disk import Disk

    from dbn.finetuning import comparison
    from dbn.pretraining import trainer as layer_training

    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job comes with Ctrl-C ignored
    for number, note in enumerate(notes[:2], start=1):
        note.unlink(missing_ok=True)
        os.dup2(os.open(note, os.O_WRONLY | os.O_CREAT), number)
    notes[2].unlink(missing_ok=True)
    os.chdir(folder)
    if request["memory"] is not None:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + request["memory"],) * 2)
    sys.argv = [f"{request['script']}.py", *request["words"]]
    if request["checkpoint_seconds"] is not None:
        layer_training.CHECKPOINT_SECONDS = comparison.CHECKPOINT_SECONDS = request["checkpoint_seconds"]
    command = import_module(f"dbn.cli.commands.{request['script']}").COMMAND
    how, at = request["fault"] or ("kill", 0)
    disk = Disk(str(folder), at, how)
    disk.install()
    try:
        command.run()
    except SystemExit as end:
        return int(end.code or 0)
    finally:
        notes[2].write_text(str(disk.count))
    return 0


if __name__ == "__main__":
    serve()
