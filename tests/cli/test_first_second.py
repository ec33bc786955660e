"""Signals while a program still imports what it needs: one line and the status of the signal, never a traceback."""

import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tiny import save_pictures

ROOT = Path(__file__).parents[2]
TRAP = """
import os, signal, sys

class Trap:
    def find_spec(self, name, path=None, target=None):
        if name == os.environ["TRAP"]:
            for number in os.environ["SENT"].split():
                os.kill(os.getpid(), int(number))
        if name == "dbn.config":
            os.write(1, b".")

sys.meta_path.insert(0, Trap())
signal.signal(signal.SIGINT, signal.default_int_handler)
"""
"""Run by Python as it starts: sends signals when a module is asked for, and says when programs handle them."""
WORDS = ["--dataset", "tiny.npz", "--hidden", "4", "--epochs", "2", "--run", "run"]
PROGRAMS = {
    "torch-dbn": ["-c", "import sys; sys.argv[0] = 'torch-dbn'; from dbn.cli import main; main()", "pretrain", *WORDS],
    "python -m dbn": ["-m", "dbn", "pretrain", *WORDS],
    "pretrain.py": [str(ROOT / "scripts" / "pretrain.py"), *WORDS],
    "svm.py": [str(ROOT / "scripts" / "svm.py"), "--dataset", "tiny.npz"],
}
INT, TERM = int(signal.SIGINT), int(signal.SIGTERM)
CASES = [
    ("torch-dbn", "dbn.registry", [INT]),
    ("python -m dbn", "torch", [TERM, TERM]),
    ("pretrain.py", "torch._C", [INT, TERM, INT]),
    ("svm.py", "dbn.config", [TERM]),
]
MORE = [
    (program, module, sent)
    for program in PROGRAMS
    for module in ("dbn.errors", "dbn.cli.command_line", "yaml", "tqdm", "torch", "torch.nn", "numpy", "tensorboard")
    for sent in ([INT], [TERM, INT])
]


def start(program: str, folder: Path, trap: str = "", sent: tuple[int, ...] = ()) -> "subprocess.Popen[str]":
    (folder / "sitecustomize.py").write_text(TRAP)
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(folder), str(ROOT)]),
        "OMP_NUM_THREADS": "1",
        "TRAP": trap,
        "SENT": " ".join(map(str, sent)),
    }
    return subprocess.Popen(
        [sys.executable, *PROGRAMS[program]],
        cwd=folder,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("first")
    save_pictures(folder / "tiny.npz")
    return folder


@pytest.mark.parametrize(
    ("program", "module", "sent"),
    [*CASES, *(pytest.param(*case, marks=pytest.mark.slow) for case in MORE)],
)
def test_a_signal_within_an_import_is_one_line(program: str, module: str, sent: list[int], folder: Path) -> None:
    with start(program, folder, module, tuple(sent)) as process:
        _, err = process.communicate(timeout=120)
    name = program.replace("python -m dbn", "torch-dbn( pretrain)?")
    if process.returncode or module not in ("tensorboard",):  # svm.py imports none
        assert process.returncode == 128 + sent[0]
        assert re.fullmatch(rf"{name}( pretrain)?: interrupted[^\n]*\n", err), err
    assert not (folder / "run").exists()


@pytest.mark.slow
@pytest.mark.parametrize("number", range(80))
def test_a_signal_at_any_moment_of_the_first_seconds_is_one_line(number: int, tmp_path: Path) -> None:
    save_pictures(tmp_path / "tiny.npz")
    chance = random.Random(number)
    sent = chance.choice([INT, TERM])
    with start(chance.choice(list(PROGRAMS)), tmp_path) as process:
        assert process.stdout
        assert process.stdout.read(1) == "."
        for _ in range(chance.choice([1, 1, 2])):
            time.sleep(chance.random() * chance.choice([0.05, 0.5, 5.0]))
            process.send_signal(sent)
        _, err = process.communicate(timeout=120)
    assert process.returncode in (0, 128 + sent, -sent), err
    assert "Traceback" not in err
    assert err.count("\n") == (process.returncode == 128 + sent) or "note:" in err
