"""Signals between two steps."""

import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import splits

from dbn.config.common import to_dict
from dbn.config.finetuning import Finetuning
from dbn.config.pretraining import Pretraining
from dbn.finetuning import comparison
from dbn.finetuning.problem import Problem
from dbn.finetuning.trainer import Trainer
from dbn.models.scaling import Scaling
from dbn.pretraining import layer_run as layer_training
from dbn.pretraining.pretrain import unlabeled
from dbn.pretraining.stack import pretrain_stack
from dbn.pretraining.trainer import LayerTrainer
from dbn.runs.folder import RunFolder
from dbn.runs.resume import begin
from dbn.runs.weights import load
from dbn.training.interrupts import Stopped, deferred_interrupts


def send(number: int = signal.SIGINT) -> None:
    os.kill(os.getpid(), number)


def raise_stopped(number: int, _: object) -> None:
    raise Stopped(number)


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    # A shell's background job comes with Ctrl-C ignored.
    ours = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: raise_stopped}
    before = {number: signal.signal(number, handler) for number, handler in ours.items()}
    yield
    assert {number: signal.signal(number, handler) for number, handler in before.items()} == ours


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_is_noted_and_the_second_is_not(number: int) -> None:
    with pytest.raises(KeyboardInterrupt), deferred_interrupts() as asked:  # noqa: PT012
        assert asked() == 0
        send(number)
        assert asked() == number
        send(number)
        raise AssertionError("this comes too late")


def test_what_nobody_asked_for_is_raised_at_the_end() -> None:
    with pytest.raises(Stopped) as stop, deferred_interrupts():
        send(signal.SIGTERM)
    assert stop.value.number == signal.SIGTERM


def test_an_error_is_not_hidden() -> None:
    with pytest.raises(ZeroDivisionError), deferred_interrupts():  # noqa: PT012
        send()
        raise ZeroDivisionError


def test_other_threads_and_whoever_does_not_want_it_note_nothing() -> None:
    seen: list[Any] = []

    def work() -> None:
        with deferred_interrupts() as asked:
            seen.append((asked(), signal.getsignal(signal.SIGINT)))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [(0, signal.default_int_handler)]
    with pytest.raises(KeyboardInterrupt), deferred_interrupts(wanted=False):
        send()


def after(monkeypatch: pytest.MonkeyPatch, owner: type, method: str, call: int) -> None:
    """Ctrl-C within the `call`-th call of a method."""
    calls, original = 0, getattr(owner, method)

    def count(self: Any, *arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == call:
            send()
        return original(self, *arguments)

    monkeypatch.setattr(owner, method, count)


CONFIG = Pretraining(hidden=(7, 5), epochs=(3,), batch_size=20, learning_rate=(0.05,), estimator="pcd", average=0.9)
"""Six steps an epoch."""


def pretrain(path: Path, *, resume: bool = False) -> None:
    data = unlabeled(splits(), CONFIG, torch.device("cpu"))
    with begin(path, to_dict(CONFIG), resume=resume, overwrite=False) as run:
        pretrain_stack(data, CONFIG, run)


@pytest.mark.parametrize(("call", "place"), [(1, (1, 0, 1)), (9, (1, 1, 3)), (12, (1, 1, 6)), (20, (2, 0, 2))])
def test_pretraining_ends_after_its_step_and_goes_on_there(
    call: int, place: tuple[int, int, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        after(patch, LayerTrainer, "step", call)
        with pytest.raises(Stopped):
            pretrain(tmp_path / "run")
    state = RunFolder(tmp_path / "run").load_checkpoint()
    assert state is not None
    assert (state["layer"], state["epoch"], state["position"]) == place
    assert state["seconds"] > 0
    pretrain(tmp_path / "run", resume=True)
    pretrain(tmp_path / "whole")
    stacks = [load(tmp_path / name).state_dict() for name in ("run", "whole")]
    assert all(stacks[0][name].equal(stacks[1][name]) for name in stacks[1])


def test_finetuning_ends_after_its_step_and_goes_on_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = Finetuning(init=("he_normal",), labels=24, seeds=1, epochs=3, batch_size=5, average=0.9)
    problem = Problem(splits(), Scaling(255.0), (6,), (), config)

    def train(name: str, *, resume: bool = False) -> Any:
        with begin(tmp_path / name, to_dict(config), resume=resume, overwrite=False) as run:
            return comparison.Comparison(problem, run).train()[0].tuned[0]

    with monkeypatch.context() as patch:
        after(patch, Trainer, "_step", 8)
        with pytest.raises(Stopped):
            train("run")
    state = RunFolder(tmp_path / "run").load_checkpoint()
    assert state is not None
    assert (state["fit"]["epoch"], state["fit"]["position"]) == (1, 3)
    ended, whole = train("run", resume=True), train("whole")
    assert all(ended.weights[name].equal(whole.weights[name]) for name in whole.weights)
    assert [each["train_loss"] for each in ended.history] == [each["train_loss"] for each in whole.history]


def test_long_epochs_have_checkpoints_within(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved: list[tuple[int, int]] = []
    monkeypatch.setattr(layer_training, "CHECKPOINT_SECONDS", -1.0)
    save = RunFolder.save_checkpoint

    def note(self: RunFolder, state: Any, *logs: Path) -> None:
        saved.append((state["epoch"], state["position"]))
        save(self, state, *logs)

    monkeypatch.setattr(RunFolder, "save_checkpoint", note)
    pretrain(tmp_path / "run")
    one_layer = [place for epoch in range(3) for place in [*((epoch, step) for step in range(1, 7)), (epoch + 1, 0)]]
    assert saved == 2 * one_layer
