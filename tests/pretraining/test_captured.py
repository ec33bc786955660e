"""Replayed steps are the steps: the same bits, whatever the estimator, optimizer, schedule or interruption."""

import copy
import importlib
from typing import Any

import pytest
import torch
from recording import CpuRecorder, Recording, tensors
from tiny import pictures
from torch.utils._pytree import tree_leaves

from dbn.capture import graph_recorder
from dbn.config.label_model import LabelTraining
from dbn.config.pretraining import Pretraining
from dbn.data.cut import splits_from_arrays
from dbn.models.label_model import label_rbm
from dbn.models.missing import Missing
from dbn.models.scaling import Scaling
from dbn.models.units.bernoulli import Bernoulli
from dbn.pretraining import trainer as trainers
from dbn.pretraining.label_trainer import LabelTrainer
from dbn.pretraining.layer_data import Unlabeled
from dbn.pretraining.pretrain import unlabeled
from dbn.pretraining.stack import new_rbm
from dbn.pretraining.trainer import LayerTrainer
from dbn.sampling.persistent_chains import PersistentChains
from dbn.training.loop import run_epochs

CPU = torch.device("cpu")
SMALL: dict[str, Any] = {"hidden": (9,), "epochs": (4,), "batch_size": 40, "seed": 3}


def made(captured: bool, monkeypatch: pytest.MonkeyPatch, **options: Any) -> LayerTrainer:
    weights, missing = options.pop("weights", None), options.pop("missing", None)
    device = options.pop("device", CPU)
    config = Pretraining(**(SMALL | options))
    data = unlabeled(splits_from_arrays(pictures(200)[0]), config, device)
    if missing:
        x = torch.rand(160, 36, generator=torch.Generator().manual_seed(1))
        data = Unlabeled(
            torch.where(x < 0.1, torch.nan, x).to(device), None, Scaling().to(device), missing=Missing(missing, 2)
        )
    if weights:
        drawn = torch.rand(len(data.train), generator=torch.Generator().manual_seed(1)) + 0.5
        data = data._replace(weights=(drawn / drawn.mean()).to(device))
    with monkeypatch.context() as patches, device:
        if captured:
            swap_in(patches)
        return LayerTrainer(new_rbm(36, 1, config), [], data, config)


def swap_in(patches: pytest.MonkeyPatch) -> None:
    """The CPU is treated as CUDA is."""
    make = trainers.make_optimizer
    patches.setattr(trainers, "make_optimizer", lambda *a, **k: make(*a, **(k | {"capturable": True})))
    patches.setattr("dbn.capture.graph_recorder", CpuRecorder)


def numbers_of(*values: Any) -> list[Any]:
    """Of the host, in what an operation is given."""
    return [each for each in tree_leaves(values) if isinstance(each, bool | int | float)]


def indices_of(calls: list[Any]) -> list[Any]:
    return [each for each in calls if "index_select" in each[0]]


def recorder_of(layer: LayerTrainer) -> CpuRecorder:
    assert isinstance(layer.captured.recorder, CpuRecorder)
    return layer.captured.recorder


def train(layer: LayerTrainer, epochs: range | None = None) -> dict[str, Any]:
    """All epochs, with what an epoch's end does to the chains; the state, and the metrics of the chains."""
    found = []
    epochs = epochs or range(1, layer.setting.epochs + 1)
    run_epochs(
        epochs, layer.batches, layer.step, lambda *_: bool(found.append(layer.chains.metrics())), device=layer.device
    )
    return layer.state() | {"metrics": found}


def assert_equal(one: Any, other: Any) -> None:
    torch.testing.assert_close(one, other, rtol=0, atol=0, equal_nan=True, check_dtype=False)


SETTINGS: dict[str, dict[str, Any]] = {
    "cd": {},
    "cd, more and more steps": {"gibbs_steps": "1,3@3"},
    "pcd": {"estimator": "pcd"},
    "lagged": {"estimator": "lagged-pcd"},
    "pt": {"estimator": "pt"},
    "schedules": {"learning_rate": "0.4:0", "momentum": "0,0.8@3", "weight_decay": 0.01, "warmup_epochs": 1},
    "penalties": {"l1": 0.1, "sparsity_target": 0.1, "max_norm": 1.0},
    "all at once": {
        "estimator": "pt", "centered": True, "l1": 0.01, "sparsity_target": 0.1, "average": 0.9,
        "binarize": "sample", "weights": True, "batch_size": 30,
    },
    "gaussian, centered": {"visible": "gaussian", "centered": True},
    "relu": {"hidden_units": ("relu",), "learning_rate": 0.001},
    "drelu": {"hidden_units": ("drelu",), "learning_rate": 0.001},
    "gibbs": {"missing": "gibbs"},
    "absent": {"missing": "absent"},
    **{name: {"optimizer": name} for name in ("adam", "adamw", "adagrad")},
}  # fmt: skip


@pytest.mark.parametrize("name", SETTINGS)
def test_replayed_steps_are_the_steps(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    plain, captured = (made(how, monkeypatch, **SETTINGS[name]) for how in (False, True))
    recorder = recorder_of(captured)
    assert_equal(train(captured), train(plain))
    assert recorder.captured >= 1
    assert recorder.replayed >= 2 * captured.steps - 4


@pytest.mark.parametrize("name", ["rmsprop", "nadam"])
def test_optimizers_that_count_on_the_device(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("torch.optim.rmsprop", "torch.optim.nadam"):
        where = importlib.import_module(module)
        monkeypatch.setattr(where, "_get_capturable_supported_devices", lambda *_, **__: ["cpu"])
    eager, captured = (made(True, monkeypatch, optimizer=name) for _ in range(2))
    eager.captured.recorder = None
    assert_equal(train(captured), train(eager))
    assert recorder_of(captured).replayed > 10


@pytest.mark.parametrize("estimator", ["cd", "class-pcd"])
def test_labels(estimator: str, monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.rand(120, 20, generator=torch.Generator().manual_seed(1))
    y = torch.eye(3).repeat(40, 1)
    y[::5] = 0
    data = Unlabeled(torch.cat([x, y], 1), None, Scaling(1.0))
    layers = []
    for recorder in (None, CpuRecorder):
        config = LabelTraining(**SMALL, gradient="hybrid", estimator=estimator)
        with monkeypatch.context() as patches:
            if recorder:
                swap_in(patches)
            layers.append(LabelTrainer(label_rbm("bernoulli", 20, Bernoulli(9), 3), data, config, 3))
    assert_equal(train(layers[1]), train(layers[0]))
    assert recorder_of(layers[1]).replayed > 4


def test_a_run_goes_on_in_the_middle_of_an_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    options: dict[str, Any] = {"estimator": "pt", "average": 0.9, "momentum": "0.5,0.9@3"}
    whole, first, second = (made(True, monkeypatch, **options) for _ in range(3))
    train(whole, range(1, 4))
    train(first, range(1, 3))
    for number, indices in enumerate(list(first.batches(3))[:3]):
        first.step(indices, 3, number)
    kept = copy.deepcopy(first.state()) | {"epoch": 2, "position": 3}
    for number, indices in list(enumerate(first.batches(3)))[3:]:  # what was saved stays as it was
        first.step(indices, 3, number)
    second.load_state(kept)
    for number, indices in list(enumerate(second.batches(3)))[3:]:
        second.step(indices, 3, number)
    for layer in (first, second):
        for name in ("rbms", "optimizer", "averaged"):
            assert_equal(layer.state()[name], whole.state()[name])
        assert_equal(layer.state()["chains"]["v"], whole.state()["chains"]["v"])


# What is in a capture


def test_nothing_that_differs_between_steps_is_a_number_of_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every step but those that a schedule changes records the same operations with the same numbers."""
    layer = made(True, monkeypatch, **SETTINGS["all at once"] | {"momentum": None, "optimizer": "adam"})
    numbers = []
    for epoch in (1, 2):
        for number, indices in enumerate(layer.batches(epoch)):
            with Recording() as seen:
                layer._update(number, *layer._batch(indices))
            assert seen.asked == [] or (epoch, number) == (1, 0)  # which makes the chains
            numbers.append([(str(func), numbers_of(args, kwargs)) for func, args, kwargs, _ in seen.calls])
    same = [each for each in numbers if len(indices_of(each)) == len(indices_of(numbers[2]))]
    assert len(same) > 4
    assert all(each == same[1] for each in same[1:])


def test_no_memory_of_a_step_outlives_it_but_what_is_copied_to_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    layer = made(True, monkeypatch, **SETTINGS["all at once"])
    train(layer)
    recording = recorder_of(layer).recordings[-1]
    lasting = [*layer.rbm.parameters(), *layer.kept.parameters(), *(p.grad for p in layer.rbm.parameters())]
    lasting += [value for state in layer.optimizer.state.values() for value in state.values()]
    lasting += tensors(layer.chains.state(), layer.offsets.state(), [p.state() for p in layer.penalties.values()])
    assert len(lasting) > 15
    assert not {each.untyped_storage().data_ptr() for each in lasting if each is not None} & recording.made


# Where it does not go


class Counting(PersistentChains):  # type: ignore[misc]
    """Whose calls count."""

    capturable = False


def test_what_cannot_be_captured_runs_as_it_is_and_says_so_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(trainers, "make_chains", lambda *_: Counting(1, 20))
    plain, captured = (made(how, monkeypatch) for how in (False, True))
    assert_equal(train(captured), train(plain))
    (record,) = caplog.records
    assert record.getMessage() == (
        "a step of layer 1 is not captured as a CUDA graph, and takes longer: Counting may keep more than tensors"
    )


def test_a_step_that_asks_for_a_value_is_not_captured(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    plain, captured = (made(how, monkeypatch, l1=0.1) for how in (False, True))
    for layer in (plain, captured):
        monkeypatch.setattr(layer.penalties["l1"], "after_step", lambda rbm: float(rbm.weight.sum()))
    assert_equal(train(captured), train(plain))
    assert captured.captured.recorder is None
    assert "the host asks for a value in aten._local_scalar_dense" in caplog.text
    assert len(caplog.records) == 1


def test_a_capture_that_fails_leaves_all_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    plain, captured = (made(how, monkeypatch, estimator="pt") for how in (False, True))
    recorder = recorder_of(captured)
    capture = recorder.capture

    def fails(work: Any) -> Any:
        capture(work)
        raise RuntimeError("out of memory\nand more")

    monkeypatch.setattr(recorder, "capture", fails)
    assert_equal(train(captured), train(plain))
    assert (recorder.captured, recorder.replayed, captured.captured.recorder) == (1, 0, None)


def test_on_the_cpu_nothing_is_captured() -> None:
    assert graph_recorder(torch.Generator()) is None


# On a GPU

needs_cuda = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA here"),
]


@pytest.mark.parametrize("name", [pytest.param(name, marks=needs_cuda) for name in SETTINGS])
def test_cuda_graphs_replay_the_steps(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for switch in ("0", "1"):
        monkeypatch.setenv("DBN_CUDA_GRAPHS", switch)
        layer = made(False, monkeypatch, device=torch.device("cuda"), **SETTINGS[name])
        found.append(train(layer))
        assert (layer.captured.recorder is not None) == (switch == "1")
    assert_equal(found[1], found[0])
