"""A pool of worker processes, each with its share of the cores."""

import multiprocessing
import os
import signal
import threading
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection, wait
from typing import Any, TypeVar

import torch
from tqdm import tqdm

from dbn.errors import OUT_OF_MEMORY, InputError, is_out_of_memory
from dbn.training.interrupts import Stopped

Task = TypeVar("Task")

ENDED = "a worker was killed, as when memory runs out: resume with --resume and fewer --workers"


def run_tasks(
    prepare: Callable[[], Callable[[Task], None]], tasks: Sequence[Task], *, workers: int, threads: int
) -> Iterator[Task]:
    """Call `work = prepare()` in every process and `work(task)` for each task; yield a task when it is done.

    Tasks start in their order; one worker is this process itself. Several are new processes, so that `prepare` and the
    tasks must be picklable; they end with this process.

    Raises:
        InputError: a task did, or a worker was killed.
    """
    if workers == 1:
        yield from _alone(prepare, tasks, threads)
        return
    context = multiprocessing.get_context("spawn")
    left, doing = deque(tasks), dict[Any, Task]()
    processes = []
    try:
        for _ in range(min(workers, len(tasks))):
            ours, theirs = context.Pipe()
            processes.append(context.Process(target=_serve, args=(theirs, prepare, threads), daemon=True))
            with _ctrl_c_blocked():
                processes[-1].start()
            theirs.close()
            doing[ours] = left.popleft()
            _send(ours, doing[ours])
        while doing:
            ready: list[Any] = wait(list(doing))
            for link in ready:
                task = doing.pop(link)
                _check(link)
                if left:
                    doing[link] = left.popleft()
                    _send(link, doing[link])
                yield task
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.join()


def _alone(prepare: Callable[[], Callable[[Task], None]], tasks: Sequence[Task], threads: int) -> Iterator[Task]:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        work = prepare()
        for task in tasks:
            work(task)
            yield task
    finally:
        torch.set_num_threads(before)


@contextmanager
def _ctrl_c_blocked() -> Iterator[None]:
    """For a process that is started here, for good: it need not end with a traceback while it imports torch."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _send(link: Any, task: Any) -> None:
    try:
        link.send(task)
    except ConnectionError:
        raise InputError(ENDED) from None


def _check(link: Any) -> None:
    """Raise the error of a task, if it had one."""
    try:
        failure = link.recv()
    except (EOFError, ConnectionError):  # the latter if it had not read its task yet
        raise InputError(ENDED) from None
    if failure is not None:
        expected, text = failure
        raise InputError(text) if expected else RuntimeError(text)


def _serve(link: "Connection[Any, Any]", prepare: Callable[[], Callable[[Any], None]], threads: int) -> None:
    # The parent gets Ctrl-C as well, and ends its workers by SIGTERM, upon which training writes a checkpoint.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    tqdm.set_lock(threading.RLock())  # tqdm's own is a semaphore, which a killed worker leaves behind
    torch.set_num_threads(threads)
    work = None
    while True:
        try:
            task = link.recv()
        except EOFError:
            return
        try:
            work = work or prepare()
            work(task)
        except Stopped:
            return
        except InputError as error:
            link.send((True, str(error)))
        except Exception as error:
            if is_out_of_memory(error):
                link.send((True, OUT_OF_MEMORY.format(": fewer --workers, or smaller --batch-size or --hidden")))
                continue
            link.send((False, traceback.format_exc()))
        else:
            link.send(None)


def _end_with_parent() -> None:
    """Otherwise a task would continue after its parent was killed, beside those of a resumed run."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        # At once, since a resumed run may use the same folder; on Windows SIGTERM is immediate.
        os.kill(os.getpid(), getattr(signal, "SIGKILL", signal.SIGTERM))
