"""Replayed steps of fine-tuning are the steps: the same bits, whatever the optimizer, schedule or interruption."""

import copy
from dataclasses import replace
from typing import Any

import pytest
import torch
from recording import CpuRecorder, Recording
from tiny import splits, stack
from torch.utils._pytree import tree_leaves

from dbn.config.finetuning import Finetuning
from dbn.data.examples import Examples
from dbn.finetuning import optimizer as optimizers
from dbn.finetuning.problem import Problem
from dbn.finetuning.trainer import Trainer
from dbn.initializers.arms import parse_arm
from dbn.models.scaling import Scaling

CONFIG = Finetuning(init=("xavier_uniform",), labels=24, valid_labels=9, seed=5, epochs=6, batch_size=10)
"""Epochs of two batches of ten and one of four."""
SETTINGS: dict[str, dict[str, Any]] = {
    "sgd": {},
    "all at once": {
        "input_dropout": 0.2, "hidden_dropout": 0.5, "max_norm": 1.0, "layer_rates": (0.1, 0.3, 1.0),
        "schedule": "1,0.1@3,0.03@5", "average": 0.8, "weight_decay": 0.01,
    },
    "adam": {"optimizer": "adam", "schedule": "1:0"},
    "frozen at first": {"freeze_epochs": 2},
    "batch normalization": {"init": ("batch_norm",), "average": 0.9},
}  # fmt: skip


def on(device: str) -> Any:
    data = splits()
    moved = {name: part.to(device) for name, part in vars(data).items() if isinstance(part, Examples)}
    return replace(data, **moved)


def made(captured: bool, patch: pytest.MonkeyPatch, device: str = "cpu", **options: Any) -> Trainer:
    config = replace(CONFIG, **options)
    problem = Problem(on(device), Scaling().to(device), (7, 5), (stack(),), config)
    with patch.context() as patches:
        if captured:  # the CPU is treated as CUDA is
            make = optimizers.make_optimizer
            patches.setattr(optimizers, "make_optimizer", lambda *a, **k: make(*a, **(k | {"capturable": True})))
            patches.setattr("dbn.capture.graph_recorder", CpuRecorder)
        return Trainer(problem, parse_arm(config.init[0]), 0.1, CONFIG.seed)


def trained(fit: Trainer) -> dict[str, Any]:
    """What a fit ends with, but for its seconds."""
    for _ in fit.epochs():
        pass
    return without_seconds(fit.state())


def without_seconds(state: dict[str, Any]) -> dict[str, Any]:
    history = [{name: each[name] for name in each if "seconds" not in name} for each in state["history"]]
    return state | {"history": history}


def assert_equal(one: Any, other: Any) -> None:
    torch.testing.assert_close(one, other, rtol=0, atol=0, equal_nan=True, check_dtype=False)


@pytest.mark.parametrize("name", SETTINGS)
def test_replayed_steps_are_the_steps(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    plain, captured = (made(how, monkeypatch, **SETTINGS[name]) for how in (False, True))
    recorder = captured.captured.recorder
    assert isinstance(recorder, CpuRecorder)
    assert_equal(trained(captured), trained(plain))
    # Each kind of step twice as it is: of the two lengths, and again with other layers that learn.
    counts = (8, 3, 10) if name == "frozen at first" else (4, 2, 14)
    assert (recorder.rehearsed, recorder.captured, recorder.replayed) == counts
    assert not captured.captured._graphs  # nor their memory


def test_an_epoch_is_resumed_in_its_middle(monkeypatch: pytest.MonkeyPatch) -> None:
    whole, first, second = (made(True, monkeypatch, **SETTINGS["all at once"]) for _ in range(3))
    epochs = first.epochs()
    for _ in range(4):
        next(epochs)
    batches = list(first.batches(5))
    first._counted_step(batches[0], 5, 0)
    kept = copy.deepcopy(first.state())
    first._counted_step(batches[1], 5, 1)  # what was saved stays as it was
    second.load_state(kept)
    assert_equal(trained(second), trained(whole))


def test_nothing_that_differs_between_steps_is_a_number_of_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    fit = made(True, monkeypatch, **SETTINGS["all at once"])
    numbers = []
    for epoch in (1, 2, 3):
        for number, indices in list(enumerate(fit.batches(epoch)))[:2]:
            fit._step(indices, epoch, number)
            with Recording() as seen:
                fit._update(indices, 10)
            assert seen.asked == []
            given = [(str(func), args, kwargs) for func, args, kwargs, _ in seen.calls]
            numbers.append([each for each in tree_leaves(given) if isinstance(each, bool | int | float | str)])
    assert len(numbers[1]) > 100
    assert all(each == numbers[1] for each in numbers[1:])


def test_a_capture_that_fails_leaves_all_as_it_was(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    plain, captured = (made(how, monkeypatch, **SETTINGS["all at once"]) for how in (False, True))
    capture = CpuRecorder.capture

    def fails(self: CpuRecorder, work: Any) -> Any:
        capture(self, work)
        raise RuntimeError("out of memory")

    monkeypatch.setattr(CpuRecorder, "capture", fails)
    assert_equal(trained(captured), trained(plain))
    assert [each.getMessage() for each in caplog.records] == [
        "a step of fine-tuning is not captured as a CUDA graph, and takes longer: out of memory"
    ]


needs_cuda = [pytest.mark.cuda, pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA here")]


@pytest.mark.parametrize("name", [pytest.param(name, marks=needs_cuda) for name in SETTINGS])
def test_cuda_graphs_replay_the_steps(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for switch in ("0", "1"):
        monkeypatch.setenv("DBN_CUDA_GRAPHS", switch)
        fit = made(False, monkeypatch, "cuda", **SETTINGS[name])
        assert (fit.captured.recorder is not None) == (switch == "1")
        found.append(trained(fit))
        assert (fit.captured.recorder is not None) == (switch == "1")
    assert_equal(found[1], found[0])
