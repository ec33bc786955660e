"""Kill -9 at any moment, also within a write; the resumed run is the one that was never interrupted."""

import random
import signal
from pathlib import Path

import pytest
from disk import INTERRUPT, KILL, TERMINATE, TWICE
from global_batch import GlobalBatch
from launcher import Launcher
from same import check_same, go_on

KILLS = {
    "cd": 50,
    "pcd": 50,
    "pt": 50,
    "holes": 50,
    "finetune": 80,
    "together": 40,
    "adam": 40,
    "autoencode": 40,
    "evaluate": 200,
    "study": 200,
    "labels": 200,
}
"""200 of each command."""
ORDINARY = ("pcd", "finetune", "evaluate", "study", "labels")
"""Of these the first, where the long proofs are not asked for: one of each procedure."""


def cases() -> list[object]:
    return [
        pytest.param(kind, number, marks=[] if kind in ORDINARY and number == 0 else [pytest.mark.slow])
        for kind, kills in KILLS.items()
        for number in range(kills)
    ]


@pytest.mark.parametrize(("kind", "number"), cases())
def test_a_killed_run_gives_what_it_would_have_given(
    kind: str, number: int, whole: GlobalBatch, launcher: Launcher, tmp_path: Path
) -> None:
    chance = random.Random(f"{kind} {number}")
    folder = whole.copy(tmp_path / "run")
    expected, uninterrupted = whole.run(kind)
    kills, latest = 0, 1.0
    while kills < 1 or (kills < 4 and chance.random() < 0.3):
        pace = chance.choice([-1.0, 0.0, 0.01, None])
        moment = latest * chance.random()
        if chance.random() < 0.5:
            ended = go_on(
                launcher,
                kind,
                folder,
                fault=(KILL, 1 + int(moment * uninterrupted.operations)),
                checkpoint_seconds=pace,
            )
        else:
            signals = ((moment * uninterrupted.seconds, signal.SIGKILL),)
            ended = go_on(launcher, kind, folder, signals=signals, checkpoint_seconds=pace)
        assert ended.status in (0, -signal.SIGKILL), ended.err
        if ended.status == 0:  # too late, which shows that it went on rightly at least
            check_same(folder / "run", expected)
            latest /= 2
            folder = whole.copy(tmp_path / f"run{latest}")
            kills = 0
        else:
            kills += 1
    ended = go_on(launcher, kind, folder)
    assert ended.status == 0, ended.err
    check_same(folder / "run", expected)


@pytest.mark.parametrize(
    ("kind", "how", "status"),
    [
        ("pcd", TERMINATE, 143),
        ("finetune", INTERRUPT, 130),
        ("evaluate", TERMINATE, 143),
        pytest.param("pcd", INTERRUPT, 130, marks=pytest.mark.slow),
        pytest.param("finetune", TERMINATE, 143, marks=pytest.mark.slow),
    ],
)
def test_asked_to_stop_it_finishes_its_step_and_says_how_to_go_on(
    kind: str, how: str, status: int, whole: GlobalBatch, launcher: Launcher, tmp_path: Path
) -> None:
    folder = whole.copy(tmp_path / "run")
    expected, uninterrupted = whole.run(kind)
    fault = (how, int(0.6 * uninterrupted.operations))
    ended = go_on(launcher, kind, folder, fault=fault, checkpoint_seconds=-1.0)
    assert ended.status == status, ended.err
    how_to = "the same options and --resume" if kind == "evaluate" else "--resume --run run"
    assert ended.err.splitlines()[-1].endswith(f"interrupted: resume with {how_to}")
    assert "Traceback" not in ended.err
    assert go_on(launcher, kind, folder).status == 0
    check_same(folder / "run", expected)


def test_asked_twice_it_stops_now(whole: GlobalBatch, launcher: Launcher, tmp_path: Path) -> None:
    folder = whole.copy(tmp_path / "run")
    expected, uninterrupted = whole.run("cd")
    ended = go_on(launcher, "cd", folder, fault=(TWICE, uninterrupted.operations // 2), checkpoint_seconds=-1.0)
    assert ended.status == 130, ended.err
    assert "Traceback" not in ended.err
    assert go_on(launcher, "cd", folder).status == 0
    check_same(folder / "run", expected)
