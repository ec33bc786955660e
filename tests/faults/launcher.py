"""Real processes that run the scripts, forked from one that has imported all they need: a start takes milliseconds.

Run as a program it reads a request a line, as JSON, and answers each by a line when the process has ended.
"""

import json
import math
import os
import resource
import signal
import socket
import subprocess
import sys
import time
import traceback
from datetime import timedelta
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple, Self

ROOT = Path(__file__).parents[2]


class Ended(NamedTuple):
    """How a process ended: its exit status, or minus the signal; the operations on the disk that it came to.

    Of several ranks those of rank 0, with the standard error of all.
    """

    status: int
    out: str
    err: str
    seconds: float
    operations: int
    statuses: list[int]
    """Of all ranks."""


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
        signals: tuple[tuple[float, int] | tuple[float, int, int], ...] = (),
        fault: tuple[str, int] | None = None,
        checkpoint_seconds: float | None = None,
        memory: int | None = None,
        stdout: str | None = None,
        ranks: int = 1,
    ) -> Ended:
        """Call a script in `folder` with words, or a line of them, and wait for its end.

        signals: (seconds, number) to be sent, or (seconds, number, rank), each so long after the one before.
        fault: how and at which operation on
        `folder` the disk fails, see `disk.Disk`. checkpoint_seconds: in place of the modules' own. memory: bytes that
        the process may take beyond what it has. stdout: "gone", a pipe without a reader. ranks: processes, as torchrun
        starts them; the fault is that of rank 0.
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
            "stdout": stdout,
            "ranks": ranks,
        }
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        return Ended(**json.loads(self.process.stdout.readline()))


def serve() -> None:
    """Answer requests until there are no more."""
    import torch

    from dbn.data.torchvision_datasets import import_torchvision
    from dbn.evaluation import evaluate  # noqa: F401
    from dbn.study import runner as study_run  # noqa: F401

    torch.set_num_threads(1)
    import_torchvision()
    answers = os.fdopen(os.dup(1), "w")
    for line in sys.stdin:
        request = json.loads(line)
        print(json.dumps(answer(request)), file=answers, flush=True)


def answer(request: dict[str, Any]) -> dict[str, Any]:
    folder = Path(request["folder"])
    begin = time.monotonic()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    ranks = range(request["ranks"])
    notes = [
        [folder.parent / f"{folder.name}.{rank or ''}{name}" for name in ("out", "err", "operations")] for rank in ranks
    ]
    processes = [start(request, folder, notes[rank], rank, port) for rank in ranks]
    ended: dict[int, int] = {}

    def wait(until: float) -> None:
        """For the end of all, at most so long."""
        while len(ended) < len(processes) and time.monotonic() < until:
            for process in set(processes) - ended.keys():
                found, status = os.waitpid(process, os.WNOHANG)
                if found:
                    ended[process] = os.waitstatus_to_exitcode(status)
            time.sleep(0.002)

    for seconds, number, *rank in request["signals"]:
        wait(time.monotonic() + seconds)
        process = processes[rank[0] if rank else 0]
        if process not in ended:
            os.kill(process, number)
    wait(math.inf)
    out, err, operations = (
        [note.read_text() if note.exists() else "" for note in each] for each in zip(*notes, strict=True)
    )
    return {
        "status": ended[processes[0]],
        "out": out[0],
        "err": "".join(err),
        "seconds": time.monotonic() - begin,
        "operations": int(operations[0] or 0),
        "statuses": [ended[process] for process in processes],
    }


def start(request: dict[str, Any], folder: Path, notes: list[Path], rank: int, port: str) -> int:
    """The process of a rank."""
    process = os.fork()
    if process == 0:
        status = 1
        try:
            if request["ranks"] > 1:
                join(request["ranks"], rank, port)
            if rank:
                request["fault"] = None
            status = child(request, folder, notes)
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)
    return process


def join(size: int, rank: int, port: str) -> None:
    """What torchrun tells its processes; a rank that is lost is missed soon."""
    from dbn.training import distributed

    meet = {"WORLD_SIZE": size, "LOCAL_WORLD_SIZE": size, "RANK": rank, "LOCAL_RANK": rank, "MASTER_PORT": port}
    os.environ.update({name: str(value) for name, value in meet.items()} | {"MASTER_ADDR": "127.0.0.1"})
    distributed.TIMEOUT = timedelta(seconds=30)  # type: ignore[misc]


def child(request: dict[str, Any], folder: Path, notes: list[Path]) -> int:
    from disk import Disk

    from dbn.evaluation import checkpoint as evaluation
    from dbn.finetuning import fits
    from dbn.pretraining import layer_run as layer_training

    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job comes with Ctrl-C ignored
    for number, note in enumerate(notes[:2], start=1):
        note.unlink(missing_ok=True)
        os.dup2(os.open(note, os.O_WRONLY | os.O_CREAT), number)
    if request["stdout"] == "gone":
        reader, writer = os.pipe()
        os.dup2(writer, 1)
        os.close(reader)
    notes[2].unlink(missing_ok=True)
    os.chdir(folder)
    if request["memory"] is not None:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + request["memory"],) * 2)
    sys.argv = [f"{request['script']}.py", *request["words"]]
    if request["checkpoint_seconds"] is not None:
        for module in (layer_training, fits, evaluation):
            module.CHECKPOINT_SECONDS = request["checkpoint_seconds"]
    command = import_module(f"dbn.cli.commands.{request['script']}").COMMAND
    how, at = request["fault"] or ("kill", 0)
    disk = Disk(str(folder), at, how)
    disk.install()
    leave = os._exit

    def end(status: int) -> None:  # as several ranks do
        notes[2].write_text(str(disk.count))
        leave(status)

    os._exit = end  # type: ignore[assignment]
    try:
        command.run()
    except SystemExit as left:
        return int(left.code or 0)
    return 0


if __name__ == "__main__":
    serve()
