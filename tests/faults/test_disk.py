"""A disk that is full, broken or dies with the process at every single operation in turn."""

import random
import re
import signal
from pathlib import Path

import pytest
from disk import BROKEN, FULL, KILL
from global_batch import GlobalBatch
from launcher import Launcher
from same import check_same, go_on

from dbn.runs.folder import RunFolder
from dbn.runs.weights import load

MOST = {"short": 250, "short finetune": 220}
"""Operations of the runs, at least; those beyond the last one are left out."""


def cases() -> list[object]:
    """One while the folder is made, and one later, in pre-training; one in fine-tuning. The others are long proofs."""
    made = []
    for kind, most in MOST.items():
        for how in (FULL, BROKEN, KILL):
            few = {random.Random(f"{kind} {how}").randrange(8, most // 2), *([3] if kind == "short" else [])}
            made += [
                pytest.param(kind, how, at, marks=[] if at in few else [pytest.mark.slow]) for at in range(1, most + 1)
            ]
    return made


@pytest.mark.parametrize(("kind", "how", "at"), cases())
def test_no_fault_of_the_disk_costs_more_than_the_time_since_the_checkpoint(
    kind: str, how: str, at: int, whole: GlobalBatch, launcher: Launcher, tmp_path: Path
) -> None:
    expected, uninterrupted = whole.run(kind)
    assert uninterrupted.operations <= MOST[kind]
    if at > uninterrupted.operations:
        pytest.skip("there are not so many operations")
    folder = whole.copy(tmp_path / "run")
    ended = go_on(launcher, kind, folder, fault=(how, at), checkpoint_seconds=-1.0)
    if how == KILL:
        assert ended.status in (0, -signal.SIGKILL)
    else:
        assert ended.status in (0, 2), ended.err  # 0: what failed was the text in the lock, which nobody needs
        refusals = [line for line in ended.err.splitlines() if ": warning: " not in line]
        assert len(refusals) == (ended.status == 2), ended.err
        for line in refusals:
            assert re.search(r"error: .*(No space left on device|Input/output error)", line), line
        assert not list((folder / "run").rglob(".writing-*"))
    is_loadable(folder / "run")
    ended = go_on(launcher, kind, folder)
    assert ended.status == 0, ended.err
    check_same(folder / "run", expected)


def is_loadable(run: Path) -> None:
    """Whatever is there is whole."""
    if (run / "dbn.safetensors").exists():
        load(run)
    RunFolder(run).load_checkpoint()
    RunFolder(run).metrics()
    if (run / "config.yaml").exists():
        RunFolder.open(run).read_config()
        assert RunFolder(run).read_json("versions.json")["format"] == 2


def test_a_folder_that_cannot_be_written_is_a_sentence(whole: GlobalBatch, launcher: Launcher, tmp_path: Path) -> None:
    folder = whole.copy(tmp_path / "run")
    (folder / "run").write_text("a file where the folder should be")
    ended = go_on(launcher, "short", folder)
    assert ended.status == 2
    assert re.fullmatch(r"pretrain\.py: error: run cannot be made a run folder \([^\n]*\n", ended.err)
