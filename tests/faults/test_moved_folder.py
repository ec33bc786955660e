"""A run folder that is moved, removed or replaced while its run is under way."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from same import check_same
from tiny import splits, steps

from dbn.config.common import to_dict
from dbn.config.pretraining import Pretraining
from dbn.errors import InputError
from dbn.pretraining.pretrain import unlabeled
from dbn.pretraining.stack import pretrain_stack
from dbn.runs import checkpoint
from dbn.runs.folder import RunFolder
from dbn.runs.lock import LOCK, acquire, release
from dbn.runs.projector import write_projector
from dbn.runs.resume import begin
from dbn.runs.tensorboard import EventLog
from dbn.storage.files import atomic_write, make_folder
from dbn.storage.owned import check_owned, disown, identity_of, own

LOST = "is not the folder that this process was writing to"
CONFIG = Pretraining(hidden=(7, 5), epochs=(3,), batch_size=50, learning_rate=(0.05,))


def moved(run: Path) -> None:
    run.rename(run.with_name("elsewhere"))


def removed(run: Path) -> None:
    shutil.rmtree(run)


def replaced(run: Path) -> None:
    """By another process, which has made its own run there: the lock of the first does not concern it."""
    moved(run)
    run.mkdir()
    for name in (LOCK, "config.yaml", "metrics.jsonl"):
        (run / name).write_text(f"{name} of another\n")


def copied_back(run: Path) -> None:
    moved(run)
    shutil.copytree(run.with_name("elsewhere"), run)


HOW = (moved, removed, replaced, copied_back)


def content(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def pretrain(path: Path, callback: Callable[[dict[str, object]], None] | None = None, *, resume: bool = False) -> None:
    with begin(path, to_dict(CONFIG), resume=resume, overwrite=False) as run:
        pretrain_stack(unlabeled(splits(), CONFIG, torch.device("cpu")), CONFIG, run, callback=callback)


@pytest.mark.parametrize("how", HOW)
def test_a_run_without_its_folder_says_so_and_ends(how: Callable[[Path], None], tmp_path: Path) -> None:
    run, before = tmp_path / "run", dict[str, bytes]()

    def change(record: dict[str, object]) -> None:
        if (record["layer"], record["epoch"]) == (1, 2):
            how(run)
            before.update(content(run) if run.exists() else {})

    with pytest.raises(InputError, match=LOST):
        pretrain(run, change)
    assert (content(run) if run.exists() else {}) == before
    assert run.exists() == bool(before)
    assert not identity_of(run)
    if how is moved:
        pretrain(tmp_path / "elsewhere", resume=True)
        pretrain(tmp_path / "whole")
        (tmp_path / "whole" / "config.yaml").write_bytes((tmp_path / "elsewhere" / "config.yaml").read_bytes())
        check_same(tmp_path / "elsewhere", tmp_path / "whole")
        assert steps(tmp_path / "elsewhere") == steps(tmp_path / "whole")


def test_a_folder_that_goes_away_while_a_checkpoint_is_written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    flushed = checkpoint.flush

    def go_away(path: Path) -> None:
        moved(tmp_path / "run")
        flushed(path)

    monkeypatch.setattr(checkpoint, "flush", go_away)
    with pytest.raises(InputError, match=LOST):
        pretrain(tmp_path / "run")


def write_event(run: RunFolder) -> None:
    with EventLog(run.path / "arm") as events:
        events.scalars({"x": 1.0}, step=0)


WRITERS: dict[str, Callable[[RunFolder], object]] = {
    "log": lambda run: run.log({"epoch": 1}),
    "result": lambda run: run.write_json("result.json", {}),
    "configuration": lambda run: run.write_config({}),
    "metrics": lambda run: run.keep_metrics(lambda _: True),
    "folder": lambda run: run.subfolder("arm/seed-0"),
    "checkpoint": lambda run: (run.save_checkpoint({"step": 1}), run.checkpoint.wait()),
    "events": write_event,
    "projector": lambda run: write_projector(run.path / "codes", torch.zeros(2, 2), None, None),
    "run": lambda run: RunFolder.create(run.path / "cells" / "one", overwrite=False),
    "lock": lambda run: acquire(run.path),
}


@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)
def test_no_writer_takes_another_folder_for_its_own(write: Callable[[RunFolder], object], tmp_path: Path) -> None:
    with RunFolder.create(tmp_path / "run", overwrite=False) as run:
        write(run)
        replaced(run.path)
        before = content(run.path)
        with pytest.raises(InputError, match=LOST):
            write(run)
        assert content(run.path) == before
        assert not (run.path / "checkpoint").exists()
        release(run.path)
        release(run.path)


def test_it_is_asked_again_once_a_file_is_written(tmp_path: Path) -> None:
    with RunFolder.create(tmp_path / "run", overwrite=False) as run:

        def write(beside: Path) -> None:
            beside.write_bytes(b"ours")
            (run.path / LOCK).unlink()
            (run.path / LOCK).touch()

        with pytest.raises(InputError, match=LOST):
            atomic_write(run.path / "file", write)
        assert not list(run.path.glob("file")) + list(run.path.glob(".writing-*"))


def test_a_link_to_where_it_was_moved_is_the_same_folder(tmp_path: Path) -> None:
    with RunFolder.create(tmp_path / "run", overwrite=False) as run:
        moved(run.path)
        run.path.symlink_to(tmp_path / "elsewhere")
        run.log({"epoch": 1})
        run.path.unlink()
        with pytest.raises(InputError, match=LOST):
            make_folder(run.path)
        (tmp_path / "elsewhere").rename(run.path)
        run.log({"epoch": 2})
    assert run.metrics() == [{"epoch": 1}, {"epoch": 2}]


def test_another_process_is_told_what_the_folder_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with RunFolder.create(tmp_path / "run", overwrite=False) as run:
        told = identity_of(run.path)
    assert told is not None
    assert identity_of(run.path) is None
    monkeypatch.chdir(tmp_path)
    own(Path("run"), *told)
    check_owned(Path("run/cells/x"))
    moved(run.path)
    with pytest.raises(InputError, match=f"^{os.path.abspath('run')} {LOST}"):
        check_owned(Path("run/cells/x"))
    disown(Path("run"))
    check_owned(Path("run/cells/x"))
