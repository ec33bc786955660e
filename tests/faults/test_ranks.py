"""Several ranks of which one is killed, also within a checkpoint's write, or stopped for a while, and resumed."""

import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from disk import KILL
from global_batch import GlobalBatch
from launcher import ROOT, Ended, Launcher
from same import KINDS as KINDS_OF_RUNS
from same import check_same, go_on

JOBS = 200
"""Of torchrun on a busy machine."""
KINDS = ("cd", "pcd", "pt", "finetune")
STORIES = {"cd": 60, "pcd": 50, "pt": 50, "finetune": 40}
"""200 in all."""

Undisturbed = Callable[[str, int], tuple[Path, Ended]]


@pytest.fixture(scope="module")
def undisturbed(whole: GlobalBatch, launcher: Launcher, tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    """The run folder of a kind under so many ranks, and how it ended, made once."""
    made: dict[tuple[str, int], tuple[Path, Ended]] = {}

    def run(kind: str, ranks: int) -> tuple[Path, Ended]:
        if (kind, ranks) not in made:
            folder = whole.copy(tmp_path_factory.mktemp("undisturbed") / "folder")
            ended = go_on(launcher, kind, folder, ranks=ranks, checkpoint_seconds=-1.0)
            assert ended.statuses == [0] * ranks, ended.err
            made[kind, ranks] = folder / "run", ended
        return made[kind, ranks]

    return run


def disturbed(launcher: Launcher, kind: str, folder: Path, ranks: int, chance: random.Random, usual: Ended) -> bool:
    """Go on with a run of which one rank is killed at a random moment; whether it came to its end before."""
    moment = chance.random()
    pace = chance.choice([-1.0, 0.0, 0.01, None])
    if chance.random() < 0.4:
        fault = (KILL, 1 + int(moment * usual.operations))
        ended = go_on(launcher, kind, folder, ranks=ranks, fault=fault, checkpoint_seconds=pace)
    else:
        signals = ((moment * usual.seconds, signal.SIGKILL, chance.randrange(ranks)),)
        ended = go_on(launcher, kind, folder, ranks=ranks, signals=signals, checkpoint_seconds=pace)
    assert "Traceback" not in ended.err, ended.err
    assert set(ended.statuses) <= {0, 2, -signal.SIGKILL}, ended
    return ended.statuses == [0] * ranks


@pytest.mark.parametrize(
    ("kind", "number"),
    [
        pytest.param(kind, number, marks=[pytest.mark.slow] if number or kind != "cd" else [])
        for kind, most in STORIES.items()
        for number in range(most)
    ],
)
def test_a_killed_rank_costs_no_more_than_the_time_since_the_checkpoint(
    kind: str, number: int, undisturbed: Undisturbed, whole: GlobalBatch, launcher: Launcher, tmp_path: Path
) -> None:
    chance = random.Random(f"{kind} {number}")
    first, second = (2, 2) if number == 0 else (chance.choice([1, 2, 3]), chance.choice([1, 2, 3]))
    expected, usual = undisturbed(kind, first)
    folder = whole.copy(tmp_path / "folder")
    if not disturbed(launcher, kind, folder, first, chance, usual):
        shutil.copytree(folder, tmp_path / "copy")
        ended = go_on(launcher, kind, folder, ranks=first)
        assert ended.statuses == [0] * first, ended.err
    check_same(folder / "run", expected)
    if first == second or not (tmp_path / "copy" / "run" / "config.yaml").exists():
        return
    # The same sequence of ranks, with and without a kill under the second number of them.
    shutil.copytree(tmp_path / "copy", tmp_path / "other")
    ended = go_on(launcher, kind, tmp_path / "copy", ranks=second, checkpoint_seconds=-1.0)
    assert ended.statuses == [0] * second, ended.err
    if not disturbed(launcher, kind, tmp_path / "other", second, chance, ended):
        ended = go_on(launcher, kind, tmp_path / "other", ranks=second)
        assert ended.statuses == [0] * second, ended.err
    check_same(tmp_path / "other" / "run", tmp_path / "copy" / "run")


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("number", range(5))
def test_a_rank_that_is_stopped_for_a_while_is_waited_for(
    kind: str, number: int, undisturbed: Undisturbed, whole: GlobalBatch, launcher: Launcher, tmp_path: Path
) -> None:
    chance = random.Random(f"stop {kind} {number}")
    expected, usual = undisturbed(kind, 2)
    folder = whole.copy(tmp_path / "folder")
    rank = number % 2
    signals = (
        (chance.random() * usual.seconds, signal.SIGSTOP, rank),
        (chance.choice([0.2, 2.0, 8.0]), signal.SIGCONT, rank),
    )
    ended = go_on(launcher, kind, folder, ranks=2, signals=signals)
    assert ended.statuses == [0, 0], ended.err
    check_same(folder / "run", expected)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("rank", [0, 1])
def test_a_rank_that_is_asked_to_stop_stops_all_after_a_checkpoint(
    number: int, rank: int, undisturbed: Undisturbed, whole: GlobalBatch, launcher: Launcher, tmp_path: Path
) -> None:
    expected, usual = undisturbed("cd", 2)
    folder = whole.copy(tmp_path / "folder")
    signals = ((0.6 * usual.seconds, int(number), rank),)
    ended = go_on(launcher, "cd", folder, ranks=2, signals=signals, checkpoint_seconds=-1.0)
    assert set(ended.statuses) <= {0, 128 + number, 143}, ended
    assert "Traceback" not in ended.err
    ended = go_on(launcher, "cd", folder, ranks=2)
    assert ended.statuses == [0, 0], ended.err
    check_same(folder / "run", expected)


@pytest.mark.slow
def test_jobs_of_torchrun_end_well_on_a_busy_machine(whole: GlobalBatch, tmp_path: Path) -> None:
    folder = whole.copy(tmp_path / "folder")
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "--"]
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(2)]
    ended = []
    try:
        for number in range(JOBS):
            words = KINDS_OF_RUNS["short"][1].replace("--run run", f"--run run-{number}").split()
            command = [*torchrun, str(ROOT / "scripts" / "pretrain.py"), *words]
            job = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=600)
            ended.append(job.returncode)
            assert job.returncode == 0, f"job {number}: {job.stderr}"
    finally:
        for process in busy:
            process.kill()
            process.wait()
    assert ended == [0] * JOBS
