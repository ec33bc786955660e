"""A run that is interrupted in any way, gone on with for longer and robbed of its files ends as if told all at once."""

import random
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from disk import BROKEN, FULL, INTERRUPT, KILL, TERMINATE, TWICE
from global_batch import GlobalBatch
from launcher import Ended, Launcher
from same import BASE, drawn
from tiny import curves, metrics

WORDS, LAST = f"{BASE} --average 0.9", 6
STATUS = {FULL: 2, BROKEN: 2, KILL: -signal.SIGKILL, INTERRUPT: 130, TERMINATE: 143, TWICE: 130}


@pytest.fixture(scope="module")
def told_at_once(
    whole: GlobalBatch, launcher: Launcher, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Ended]:
    folder = whole.copy(tmp_path_factory.mktemp("told"))
    ended = launcher.run("pretrain", f"{WORDS} --epochs 2 {LAST}", folder, checkpoint_seconds=-1.0)
    assert ended.status == 0, ended.err
    return folder / "run", ended


def episodes(chance: random.Random, operations: int) -> Iterator[tuple[int, str, int]]:
    """Epochs of the last layer, which only grow; what fails and when, or nothing."""
    epochs = 2
    while epochs < LAST or chance.random() < 0.5:
        yield epochs, chance.choice([*STATUS, "", ""]), chance.randint(1, operations)
        epochs = min(LAST, epochs + chance.choice([0, 0, 1, 2]))
    yield LAST, "", 0


@pytest.mark.parametrize(
    "number", [pytest.param(number, marks=[pytest.mark.slow] if number else []) for number in range(50)]
)
def test_any_story_has_the_same_end(
    number: int, told_at_once: tuple[Path, Ended], whole: GlobalBatch, launcher: Launcher, tmp_path: Path
) -> None:
    chance, (expected, uninterrupted) = random.Random(number), told_at_once
    folder = whole.copy(tmp_path / "folder")
    run = folder / "run"
    for epochs, how, at in episodes(chance, uninterrupted.operations):
        words = "--resume --run run" if (run / "config.yaml").exists() else WORDS
        ended = launcher.run(
            "pretrain",
            f"{words} --epochs 2 {epochs}",
            folder,
            fault=(how, at) if how else None,
            checkpoint_seconds=chance.choice([-1.0, None]),
        )
        assert ended.status in (0, STATUS.get(how, 0)), (epochs, how, at, ended.err)
        assert "Traceback" not in ended.err
        if ended.status == 0 and how and chance.random() < 0.5:
            (run / chance.choice(["dbn.safetensors", "encoder.safetensors"])).unlink()
    for name in ("dbn.safetensors", "encoder.safetensors", "config.yaml"):
        assert (run / name).read_bytes() == (expected / name).read_bytes(), name
    assert metrics(run) == metrics(expected)
    assert curves(run) == curves(expected)
    ours = drawn(run)
    for tag, shown in drawn(expected).items():  # what were last epochs for a while are shown as well
        assert [each for each in ours[tag] if each[0] in {step for step, _ in shown}] == shown
    assert not list(run.rglob(".writing-*"))
