"""Tasks for several processes at once, each with its share of the cores."""

import multiprocessing
import os
import signal
import threading
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection, wait
from typing import Any, TypeVar

import torch
from tqdm import tqdm

from dbn.errors import OUT_OF_MEMORY, InputError, is_out_of_memory
from dbn.interrupts import Stopped

Task = TypeVar("Task")


ENDED = (
    "a worker was ended from outside, as by a machine that is short of memory: go on with --resume, and with fewer "
    "--workers"
)


def run_tasks(
    prepare: Callable[[], Callable[[Task], None]], tasks: Sequence[Task], *, workers: int, threads: int
) -> Iterator[Task]:
    """Do `work = prepare()` in every process, `work(task)` for each task; yield a task when it is done.

    Tasks are handed out in their order, so one worker, which is this process itself, does them in it. Several are
    fresh processes: `prepare` and the tasks must be such as `multiprocessing` can send. Whatever ends this process
    ends them too.

    Raises:
        InputError: a task did, or a worker was ended from outside.
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
            processes[-1].start()
            theirs.close()
            doing[ours] = left.popleft()
            _say(ours, doing[ours])
        while doing:
            ready: list[Any] = wait(list(doing))
            for link in ready:
                task = doing.pop(link)
                _check(link)
                if left:
                    doing[link] = left.popleft()
                    _say(link, doing[link])
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


def _say(link: Any, task: Any) -> None:
    try:
        link.send(task)
    except ConnectionError:
        raise InputError(ENDED) from None


def _check(link: Any) -> None:
    """Raise what ended a task, if anything did."""
    try:
        failure = link.recv()
    except (EOFError, ConnectionError):  # the latter where it had not read its task yet
        raise InputError(ENDED) from None
    if failure is not None:
        expected, text = failure
        raise InputError(text) if expected else RuntimeError(text)


def _serve(link: "Connection[Any, Any]", prepare: Callable[[], Callable[[Any], None]], threads: int) -> None:
    # Ctrl-C comes to the parent as well, which ends its workers: SIGTERM, upon which training says where it is.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    tqdm.set_lock(threading.RLock())  # its own is a semaphore, which a worker that is ended leaves behind
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
    """Without this a task would go on after its parent was killed, beside those of the parent's successor."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        # At once, since a successor may begin where this one is; on Windows SIGTERM is.
        os.kill(os.getpid(), getattr(signal, "SIGKILL", signal.SIGTERM))
