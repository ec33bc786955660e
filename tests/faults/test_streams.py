"""Standard output and error that go away while a command works: what it writes is whole."""

import errno
import io
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from global_batch import GlobalBatch
from launcher import Launcher
from tiny import pictures

from dbn.cli.commands import COMMANDS
from dbn.cli.streams import LastingStream, lasting_streams

COMMANDS_AND_FILES = {
    "pretrain": ("--dataset tiny.npz --hidden 5 --epochs 1 --run new", "new/dbn.safetensors"),
    "label-model": ("--dataset tiny.npz --hidden 5 --epochs 1 --run label", "label/label_model.safetensors"),
    "finetune": ("--pretrained before --init dbn --labels 24 --seeds 1 --epochs 1 --run fine", "fine/result.json"),
    "evaluate": ("--run before --binarize threshold --ais 20 --chains 5", "before/result.json"),
    "sample": ("--run before --steps 1 --count 4 --start noise --output a.png", "a.png"),
    "predict": ("--run fine --data tiny.npz --output a.csv", "a.csv"),
    "features": ("--run before --data tiny.npz --output a.npy", "a.npy"),
    "impute": ("--run before --data holes.npz --output filled.npz", "filled.npz"),
    "report": ("before", "before/report.html"),
    "study": (
        "--dataset tiny.npz --hidden 4 --init he_normal --labels 24 --seeds 1 --epochs 1 --workers 1 --run study",
        "study/study.md",
    ),
}
"""In this order, as some need what others write."""


class Gone(io.TextIOBase):
    """Fails as a terminal that was closed."""

    def write(self, _: str) -> int:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    def flush(self) -> None:
        self.write("")

    def fileno(self) -> int:
        raise OSError(errno.EBADF, "no file")


@pytest.fixture(scope="module")
def folder(whole: GlobalBatch, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = whole.copy(tmp_path_factory.mktemp("streams"))
    x = pictures()[0] / np.float32(255)
    x[:, 2, 3] = np.nan
    np.savez(folder / "holes.npz", x=x)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        yield folder


@pytest.mark.parametrize("verb", COMMANDS_AND_FILES)
def test_what_is_printed_keeps_nothing_from_being_written(
    verb: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words, file = COMMANDS_AND_FILES[verb]
    monkeypatch.setattr(sys, "argv", [f"torch-dbn {verb}", *words.split()])
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", Gone())
        patch.setattr(sys, "stderr", Gone())
        with pytest.raises(SystemExit) as stop:
            COMMANDS[verb].run()
    assert stop.value.code == 2
    assert (folder / file).is_file()
    assert not list(folder.rglob(".writing-*"))


def test_the_first_error_is_kept_and_later_text_goes_nowhere(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    stream = os.fdopen(writer, "w", buffering=1)
    output = LastingStream(stream)
    output.write("heard\n")
    output.check()
    assert os.read(reader, 100) == b"heard\n"
    os.close(reader)
    for _ in range(3):
        assert output.write("lost\n") == 5
    with pytest.raises(BrokenPipeError):
        output.check()
    stream.close()  # no error here either
    assert output.error is not None


def test_streams_are_back_afterwards() -> None:
    before = sys.stdout, sys.stderr
    with lasting_streams() as output:
        assert sys.stdout is output
        assert sys.stdout.isatty() is before[0].isatty()
        print("x", file=sys.stderr)
    assert (sys.stdout, sys.stderr) == before


@pytest.mark.skipif(os.name == "nt", reason="no such pipes there")
def test_an_evaluation_whose_reader_is_gone(launcher: Launcher, whole: GlobalBatch, tmp_path: Path) -> None:
    folder = whole.copy(tmp_path / "folder")
    words = "--run before --binarize threshold --ais 20 --chains 5"
    expected = launcher.run("evaluate", words, folder)
    assert expected.status == 0, expected.err
    result = (folder / "before" / "result.json").read_bytes()
    (folder / "before" / "result.json").unlink()
    ended = launcher.run("evaluate", words, folder, stdout="gone")
    assert (ended.status, ended.err) == (1, "")
    assert (folder / "before" / "result.json").read_bytes() == result
