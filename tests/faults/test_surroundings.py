"""Names, streams and rights that a process may be given, and what it makes of them."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from global_batch import GlobalBatch
from launcher import ROOT, Launcher
from same import BASE, KINDS, check_same
from tiny import pictures

NAMES = ["new\nline", "emoji 🙂", "-dash", "quote'\"", "%s {x}", "#", "[a]*?", " lead", "null", "~", "\x1b[31m"]
if sys.platform == "linux":
    NAMES.append(os.fsdecode(b"no text\xff"))


@pytest.fixture(scope="module")
def folder(whole: GlobalBatch, launcher: Launcher, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With a comparison in `fine`, on the stack in `before`."""
    folder = whole.copy(tmp_path_factory.mktemp("surroundings"))
    words = "--pretrained before --init dbn --labels 24 --seeds 1 --epochs 1 --run fine"
    assert launcher.run("finetune", words, folder).status == 0
    return folder


@pytest.mark.skipif(os.name == "nt", reason="such names are not allowed there")
@pytest.mark.parametrize("name", NAMES)
def test_any_name_will_do(name: str, launcher: Launcher, folder: Path) -> None:
    shutil.copy(folder / "tiny.npz", folder / f"{name}.npz")
    calls = {
        "pretrain": ["--hidden", "4", "--epochs", "1", f"--dataset={name}.npz", f"--run={name}"],
        "finetune": [f"--pretrained={name}", "--init=dbn", "--labels=24", "--seeds=1", "--epochs=1", f"--run={name}-f"],
        "sample": [f"--run={name}", "--steps=1", "--count=4", f"--output={name}.png"],
        "predict": [f"--run={name}-f", f"--data={name}.npz", f"--output={name}.csv"],
    }
    for script, words in calls.items():
        ended = launcher.run(script, words, folder)
        assert ended.status == 0, ended.err
    ended = launcher.run("pretrain", ["--resume", f"--run={name}"], folder)
    assert ended.out.startswith("This run is complete"), ended.err


LONG, USERLESS = "p" * 5000, "~nobody-of-this-name/a.npz"
PREDICT, SAMPLE = "--run fine --data tiny.npz --output out.csv", "--run before --start noise --output out.png"
REFUSED = [
    ("pretrain", f"--dataset {USERLESS} --run new", "a.npz does not exist"),
    ("pretrain", f"{BASE} --run {LONG}", "--run ppp"),
    ("pretrain", f"--resume --run {LONG}", "--run ppp|p/config.yaml cannot be used"),
    ("pretrain", f"{BASE} --l1 1e39", "--l1 must be at most 3e[+]38"),
    ("pretrain", f"{BASE} --seed {2**64}", "--seed must be at most"),
    ("evaluate", "--run pipe.npz", "pipe.npz cannot be read .it is not a file"),
    ("evaluate", "--run pipe.safetensors", "pipe.safetensors cannot be read .it is not a file|a file of named arrays"),
    ("evaluate", f"--run {LONG}", "--run ppp"),
    ("evaluate", "--run before --output before/dbn.safetensors --data before/dbn.safetensors", "would be replaced"),
    ("predict", f"{PREDICT} --output tiny.npz", "--output tiny.npz is also the input, which would be replaced"),
    ("predict", f"{PREDICT} --output link.npz", "--output link.npz is also the input, which would be replaced"),
    ("predict", f"{PREDICT} --output {LONG}", "--output ppp"),
    ("sample", f"{SAMPLE} --output {LONG}.png", "--output ppp"),
]


@pytest.mark.skipif(os.name == "nt", reason="no pipes with names there")
@pytest.mark.parametrize(("script", "words", "said"), REFUSED)
def test_a_path_of_no_use_is_one_sentence(
    script: str, words: str, said: str, launcher: Launcher, folder: Path, tmp_path: Path
) -> None:
    place = tmp_path / "place"
    shutil.copytree(folder / "fine", place / "fine")
    shutil.copytree(folder / "before", place / "before")
    shutil.copy(folder / "tiny.npz", place)
    (place / "link.npz").symlink_to("tiny.npz")
    for name in ("pipe.npz", "pipe.safetensors"):
        os.mkfifo(place / name)
    before = (place / "tiny.npz").read_bytes()
    ended = launcher.run(script, words, place, signals=((60, 9),))
    assert ended.status == 2, ended.err
    assert re.fullmatch(rf"{script}\.py: error: [^\n]*\n", ended.err)
    assert re.search(said, ended.err), ended.err
    assert (place / "tiny.npz").read_bytes() == before


@pytest.mark.parametrize("text", ['dataset: "a\\0.npz"', 'dataset: "\\ud800.npz"', 'run: "a\\0"', 'data_dir: "a\\0"'])
def test_what_no_command_line_can_say(text: str, launcher: Launcher, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(text)
    ended = launcher.run("pretrain", ["--config", str(tmp_path / "a.yaml")], folder)
    assert ended.status == 2, ended.err
    name = text.partition(":")[0].replace("_", "-")
    assert re.fullmatch(rf"pretrain\.py: error: --{name} [^\n]* cannot be looked for [^\n]*\n", ended.err)


def test_labels_that_no_file_takes(launcher: Launcher, whole: GlobalBatch, tmp_path: Path) -> None:
    folder = whole.copy(tmp_path / "folder")
    x, y = pictures()
    np.savez(folder / "tiny.npz", x=x, y=np.array(["a", "b", "\ud800"])[y])
    ended = launcher.run("pretrain", f"{BASE} --epochs 1", folder)
    assert ended.status == 2
    assert ended.err == "pretrain.py: error: tiny.npz: text holds numbers that are no characters: save it again\n"


@pytest.mark.skipif(os.name == "nt", reason="closes streams as a POSIX shell does")
@pytest.mark.parametrize(
    ("streams", "status"),
    [("<&- >&- 2>&-", 0), pytest.param("2>&-", 0, marks=pytest.mark.slow), ("> /dev/full", 2)],
)
def test_streams_that_are_closed_or_full(streams: str, status: int, whole: GlobalBatch, tmp_path: Path) -> None:
    if "/dev/full" in streams and not Path("/dev/full").exists():
        pytest.skip("nothing here is always full")
    folder = whole.copy(tmp_path / "folder")
    script, words = KINDS["cd"]
    command = f"{sys.executable} {ROOT / 'scripts' / script}.py {words} {streams}"
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    ended = subprocess.run(["sh", "-c", command], cwd=folder, env=environment, capture_output=True, text=True)
    assert ended.returncode == status, ended.stderr
    if status:
        assert re.fullmatch(
            r"pretrain\.py: error: standard output cannot be used \(No space left [^\n]*\n", ended.stderr
        )
    else:
        assert ended.stderr == ""
        check_same(folder / "run", whole.run("cd")[0])


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may enter every folder")
def test_a_folder_that_may_not_be_entered(launcher: Launcher, whole: GlobalBatch, tmp_path: Path) -> None:
    folder = whole.copy(tmp_path / "folder")
    (folder / "before").chmod(0)
    try:
        for words in ("--resume --run before", BASE.replace("--run run", "--run before")):
            ended = launcher.run("pretrain", words, folder)
            assert re.fullmatch(r"pretrain\.py: error: [^\n]*Permission denied[^\n]*\n", ended.err), ended.err
    finally:
        (folder / "before").chmod(0o700)
