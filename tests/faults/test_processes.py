"""Two processes on one run, data that change under it, and a machine that is too small."""

import re
import sys
from pathlib import Path

import numpy as np
import pytest
from global_batch import GlobalBatch
from launcher import Launcher
from same import BASE, KINDS, check_same, go_on
from tiny import pictures

from dbn.runs.lock import acquire, release


@pytest.mark.parametrize(
    "words", ["--resume --run run", f"{BASE} --overwrite", pytest.param(BASE, marks=pytest.mark.slow)]
)
def test_the_second_process_says_so_and_leaves(
    words: str, whole: GlobalBatch, launcher: Launcher, tmp_path: Path
) -> None:
    folder = whole.copy(tmp_path / "folder")
    assert go_on(launcher, "cd", folder).status == 0
    acquire(folder / "run")
    try:
        ended = launcher.run("pretrain", words, folder)
    finally:
        release(folder / "run")
    assert (ended.status, ended.out) == (2, "")
    wanted = r"run is in use by process \d+ on [^\n]*: wait for its end"
    assert re.fullmatch(rf"pretrain\.py: error: {wanted}[^\n]*\n", ended.err)
    check_same(folder / "run", whole.run("cd")[0])


def test_data_that_change_while_a_run_is_under_way(whole: GlobalBatch, launcher: Launcher, tmp_path: Path) -> None:
    """What was read is what is learnt from; what is read again must be the same."""
    folder = whole.copy(tmp_path / "folder")
    expected, uninterrupted = whole.run("cd")
    stopped = go_on(launcher, "cd", folder, fault=("terminate", uninterrupted.operations // 2), checkpoint_seconds=-1.0)
    assert stopped.status == 143
    sound = (folder / "tiny.npz").read_bytes()
    x, y = pictures()
    np.savez(folder / "tiny.npz", x=x[::-1], y=y[::-1])
    ended = go_on(launcher, "cd", folder)
    assert ended.status == 2
    assert re.fullmatch(r"pretrain\.py: error: run was started on other examples \(fingerprint [^\n]*\n", ended.err)
    (folder / "tiny.npz").write_bytes(sound)
    assert go_on(launcher, "cd", folder).status == 0
    check_same(folder / "run", expected)


def test_a_stack_that_is_replaced_while_its_comparison_is_under_way(
    whole: GlobalBatch, launcher: Launcher, tmp_path: Path
) -> None:
    folder = whole.copy(tmp_path / "folder")
    assert launcher.run(*KINDS["finetune"], folder).status == 0
    again = BASE.replace("--run run", "--run before --seed 7 --epochs 1 --overwrite")
    assert launcher.run("pretrain", again, folder).status == 0
    ended = go_on(launcher, "finetune", folder)
    assert ended.status == 2
    assert "run was started on other examples (fingerprint" in ended.err


@pytest.mark.parametrize(
    ("script", "words", "named"),
    [
        ("pretrain", BASE.replace("9 6", "100000000000"), "--hidden (now 100000000000)"),
        ("pretrain", f"{BASE} --estimator pt --chains 1000000000 --temperatures 50", "--chains (now 1000000000)"),
        ("finetune", "--dataset tiny.npz --init he_normal --hidden 100000000000 --run run", "--hidden (now 1000"),
    ],
)
def test_too_little_memory_says_what_to_lower(
    script: str, words: str, named: str, whole: GlobalBatch, launcher: Launcher, tmp_path: Path
) -> None:
    folder = whole.copy(tmp_path / "folder")
    ended = launcher.run(script, words, folder)
    assert ended.status == 2, ended.err
    assert re.fullmatch(rf"{script}\.py: error: there is not enough memory: lower [^\n]*\n", ended.err)
    assert named in ended.err


@pytest.mark.skipif(sys.platform != "linux", reason="nothing else tells a process's size alike")
def test_a_process_that_may_not_grow(whole: GlobalBatch, launcher: Launcher, tmp_path: Path) -> None:
    folder = whole.copy(tmp_path / "folder")
    ended = launcher.run("pretrain", BASE.replace("9 6", "500000"), folder, memory=100_000_000)
    assert ended.status == 2, ended.err
    assert "there is not enough memory: lower --batch-size (now 30) or --hidden (now 500000)" in ended.err
    assert go_on(launcher, "cd", whole.copy(tmp_path / "other"), memory=2_000_000_000).status == 0


@pytest.mark.skipif(sys.platform != "linux", reason="nothing else tells a process's size alike")
def test_a_file_that_memory_is_too_small_for_is_not_called_damaged(
    whole: GlobalBatch, launcher: Launcher, tmp_path: Path
) -> None:
    folder = whole.copy(tmp_path / "folder")
    x = np.zeros((40, 500_000), np.uint8)
    np.savez(folder / "wide.npz", x=x)
    np.savez(folder / "model.npz", weight=x, visible_bias=x[0], hidden_bias=x[:, 0])
    for script, words in (("pretrain", "--dataset wide.npz --run new"), ("evaluate", "--run model.npz")):
        ended = launcher.run(script, words, folder, memory=8_000_000)
        assert ended.status == 2, ended.err
        assert re.match(rf"{script}\.py: error: there is not enough memory", ended.err), ended.err
