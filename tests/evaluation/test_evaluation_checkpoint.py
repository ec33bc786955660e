"""An evaluation that is interrupted at any step, and resumed."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from recording import CpuRecorder
from tiny import stack

from dbn.cli.commands.evaluate import COMMAND
from dbn.config.evaluation import EvaluateConfig
from dbn.errors import InputError
from dbn.evaluation import checkpoint
from dbn.models.dbn import DBN
from dbn.runs.checkpoint import Checkpoint
from dbn.runs.lock import acquire, release
from dbn.runs.weights import save_stack
from dbn.storage.tensors import load_state, save_state
from dbn.training.checkpoint_control import CheckpointControl
from dbn.training.interrupts import Stopped

BITS = (np.random.default_rng(3).random((60, 36)) < 0.4).astype(np.uint8)
OPTIONS: dict[str, Any] = {"ais": 120, "chains": 6}
STEPS = 2 * 3 * 119 + 2 * (40 + 5)
"""Three runs of AIS per layer; then Gibbs steps and annealing from either of the two layers."""


@pytest.fixture(autouse=True)
def _every_step(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    monkeypatch.setattr(checkpoint, "SUMMED_STEPS", 50, raising=False)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("evaluated")
    save_stack(folder, stack())
    np.savez(folder / "bits.npz", x=BITS)
    np.savez(folder / "other.npz", x=BITS[::-1])
    evaluate(folder, "whole.json")
    return folder


def evaluate(folder: Path, name: str, **options: Any) -> None:
    given = OPTIONS | {"data": folder / "bits.npz", "run": folder / "dbn.safetensors"} | options
    COMMAND.main(EvaluateConfig(output=folder / name, device="cpu", **given))


def interrupted(folder: Path, name: str, at: int, patch: pytest.MonkeyPatch, **options: Any) -> None:
    """Ctrl-C within step `at`, from 1."""
    done, after_step = 0, CheckpointControl.after_step

    def count(self: CheckpointControl, position: int) -> None:
        nonlocal done
        done += 1
        if done == at:
            os.kill(os.getpid(), signal.SIGINT)
        after_step(self, position)

    with patch.context() as patched:
        patched.setattr(CheckpointControl, "after_step", count)
        with pytest.raises(Stopped):
            evaluate(folder, name, **options)


@pytest.mark.parametrize("at", [1, 119, 130, 400, 3 * 119 + 1, 6 * 119, 6 * 119 + 7, 6 * 119 + 60, STEPS])
def test_it_resumes_to_the_same_bytes(at: int, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"at-{at}.json"
    interrupted(folder, name, at, monkeypatch)
    assert not (folder / name).exists()
    if 200 < at < STEPS:  # once more, further on
        interrupted(folder, name, min(40, STEPS - at), monkeypatch, resume=True)
    steps = []
    after_step = CheckpointControl.after_step
    monkeypatch.setattr(
        CheckpointControl, "after_step", lambda self, position: (steps.append(0), after_step(self, position))
    )
    evaluate(folder, name, resume=True)
    assert len(steps) <= STEPS - at
    assert (folder / name).read_bytes() == (folder / "whole.json").read_bytes()
    assert not (folder / f"{name}.checkpoint").exists()


@pytest.mark.parametrize("captured_first", [True, False])
def test_it_resumes_with_graphs_and_without(
    captured_first: bool, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between two replays, in annealing from data, and in the Gibbs steps between the layers."""
    made: list[CpuRecorder] = []

    def recorder(generator: torch.Generator) -> CpuRecorder:
        made.append(CpuRecorder(generator))
        return made[-1]

    name = f"graphs-{captured_first}.json"
    stops = (23, 6 * 24 + 3) if captured_first else (130, 6 * 119 + 15)
    for number, at in enumerate(stops):
        with monkeypatch.context() as patch:
            if captured_first:
                patch.setattr("dbn.capture.graph_recorder", recorder)
                patch.setattr("dbn.capture.AT_ONCE", 5)
            interrupted(folder, name, at - (stops[0] if number else 0), patch, resume=number > 0)
    with monkeypatch.context() as patch:
        if not captured_first:
            patch.setattr("dbn.capture.graph_recorder", recorder)
            patch.setattr("dbn.capture.AT_ONCE", 5)
        evaluate(folder, name, resume=True)
    assert sum(each.replayed for each in made) > 2
    assert (folder / name).read_bytes() == (folder / "whole.json").read_bytes()


def test_checkpoints_are_written_on_the_way(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "CHECKPOINT_SECONDS", -1.0)
    saved, save = 0, Checkpoint.save

    def count(self: Checkpoint, state: Any, *logs: Path) -> None:
        nonlocal saved
        saved += 1
        save(self, state, *logs)
        if saved == 300:
            raise KeyboardInterrupt

    monkeypatch.setattr(Checkpoint, "save", count)
    with pytest.raises(KeyboardInterrupt):
        evaluate(folder, "often.json")
    monkeypatch.undo()
    runs = load_state(folder / "often.json.checkpoint" / "state.safetensors")["runs"]
    assert {name: run["step"] for name, run in runs.items()} == {
        "AIS 0": 119,
        "reverse AIS from data 0": 119,
        "reverse AIS from end points 0": 62,
    }
    evaluate(folder, "often.json", resume=True)
    assert (folder / "often.json").read_bytes() == (folder / "whole.json").read_bytes()


REFUSED = {
    "other options": (
        {"chains": 7, "seed": 1},
        r"with --seed 0 \(now 1\), --chains 6 \(now 7\): resume it with the same",
    ),
    "other examples": ({"data": "other.npz"}, "is of another model or other examples"),
    "not asked to": ({"resume": False}, "holds an interrupted evaluation: continue it with --resume, or remove it"),
}


@pytest.fixture(scope="module")
def begun(folder: Path) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        interrupted(folder, "begun.json", 150, patch)
        signal.signal(signal.SIGINT, before)
    return folder / "begun.json.checkpoint" / "state.safetensors"


@pytest.mark.parametrize(("options", "said"), REFUSED.values(), ids=REFUSED)
def test_another_evaluation_is_refused(options: dict[str, Any], said: str, begun: Path, folder: Path) -> None:
    options = {name: folder / value if name == "data" else value for name, value in options.items()}
    before = begun.read_bytes()
    with pytest.raises(InputError, match=said):
        evaluate(folder, "begun.json", **{"resume": True} | options)
    assert begun.read_bytes() == before
    assert not (folder / "begun.json").exists()


def other_model(folder: Path) -> DBN:
    changed = stack()
    changed.layers[1].weight[0, 0] += 1
    save_stack(folder, changed)
    return changed


def test_another_model_is_refused(begun: Path, folder: Path, tmp_path: Path) -> None:
    other_model(tmp_path)
    with pytest.raises(InputError, match="is of another model or other examples"):
        evaluate(folder, "begun.json", resume=True, run=tmp_path / "dbn.safetensors")


DAMAGE = {
    "step": lambda run: run | {"step": 1000},
    "shape": lambda run: run | {"v": run["v"][1:]},
    "type": lambda run: run | {"total": run["total"].float()},
    "generator": lambda run: run | {"generator": run["generator"] * 0 + 255},
    "chains": lambda run: run | {"v": run["v"] * float("nan")},
    "keys": lambda run: {"step": run["step"]},
    "no run": lambda run: 7,
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_checkpoint_is_a_sentence(damage: Any, begun: Path, folder: Path) -> None:
    sound = begun.read_bytes()
    state = load_state(begun)
    save_state(begun, state | {"runs": {name: damage(run) for name, run in state["runs"].items()}})
    try:
        with pytest.raises(InputError, match="is damaged or of another kind, it is not of this evaluation"):
            evaluate(folder, "begun.json", resume=True)
    finally:
        begun.write_bytes(sound)


def test_two_processes_do_not_evaluate_into_one_file(begun: Path, folder: Path) -> None:
    fcntl = pytest.importorskip("fcntl")
    with (begun.parent / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(
            InputError, match="is in use by another process: wait for its end, or name another --output"
        ):
            evaluate(folder, "begun.json", resume=True)


def test_a_folder_that_was_moved_gets_no_result(folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    place = tmp_path / "run"
    place.mkdir()

    def move(self: CheckpointControl, position: int) -> None:
        if place.exists() and not (tmp_path / "moved").exists():
            place.rename(tmp_path / "moved")
            place.mkdir()

    monkeypatch.setattr(CheckpointControl, "after_step", move)
    with pytest.raises(InputError, match="is not the folder that this process was writing to"):
        evaluate(folder, "../" * 20 + str(place / "result.json"))
    assert not list(place.iterdir())
    release(place)


def test_without_a_file_there_is_nothing_to_resume(folder: Path) -> None:
    config = EvaluateConfig(run=folder / "dbn.safetensors", data=folder / "bits.npz", resume=True)
    with pytest.raises(InputError, match="--resume needs the file of the result"):
        COMMAND.main(config)
    acquire(folder)
    release(folder)
