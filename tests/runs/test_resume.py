"""What a run may go on with, and what is refused."""

import json
import logging
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from tiny import metrics, pictures, splits, stack

import dbn
from dbn.config.common import to_dict
from dbn.config.pretraining import Pretraining
from dbn.config.study import StudyConfig, StudyTraining
from dbn.data.cut import splits_from_arrays
from dbn.errors import InputError
from dbn.models.dbn import DBN
from dbn.pretraining import layer_run as layer_training
from dbn.pretraining.pretrain import unlabeled
from dbn.pretraining.stack import is_complete, pretrain_stack, train_longer
from dbn.runs import checkpoint as checkpoints
from dbn.runs import weights
from dbn.runs.folder import RunFolder
from dbn.runs.resume import begin
from dbn.runs.training_data import fingerprint
from dbn.runs.weights import load
from dbn.storage.tensors import load_state, save_state
from dbn.study.runner import _worker

SMALL = Pretraining(hidden=(7, 5), epochs=(3, 2), batch_size=40, learning_rate=(0.05,))
LONGER = replace(SMALL, epochs=(3, 5))


def train(path: Path, config: Pretraining = SMALL, *, resume: bool = False) -> DBN:
    data = splits()
    harmless = partial(train_longer, config)
    options = {"resume": resume, "overwrite": False, "data": data.fingerprint}
    with begin(path, to_dict(config), harmless=harmless, **options) as run:  # type: ignore[arg-type]
        return pretrain_stack(unlabeled(data, config, torch.device("cpu")), config, run)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("done") / "run"
    train(path)
    return path


@pytest.fixture
def run(done: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(done, tmp_path / "run"))


# What must be the same


def test_other_examples_are_noticed(run: Path) -> None:
    x, y = pictures()
    x[3, 0, 0] ^= 1
    other = splits_from_arrays(x, y, name="tiny", cut_test=True)
    with pytest.raises(
        InputError, match=r"was started on other examples \(fingerprint \w+, not \w+\): restore the data"
    ):
        begin(run, to_dict(SMALL), resume=True, overwrite=False, data=other.fingerprint)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"hidden": (7, 6)}, "--hidden 7 5 (now 7 6): resume it with the same, or"),
        ({"seed": 1}, "--seed 0 (now 1)"),
        ({"estimator": "pcd"}, "--estimator cd (now pcd), --chains none (now 40)"),
        ({"batch_size": 20}, "--batch-size 40 (now 20)"),
        ({"epochs": (4, 2)}, "--epochs 3 2 (now 4 2)"),
        ({"epochs": (3, 1)}, "--epochs 3 2 (now 3 1)"),
        ({"epochs": (3, 4), "learning_rate": ("0.05:0",)}, "--epochs 3 2 (now 3 4), --learning-rate"),
    ],
)
def test_other_options_are_listed(changed: dict[str, object], said: str, run: Path) -> None:
    with pytest.raises(InputError, match=re.escape(f"was started with {said}")):
        train(run, replace(SMALL, **changed), resume=True)  # type: ignore[arg-type]
    assert RunFolder(run).read_config() == to_dict(SMALL)


ALONE = ".* and this dbn resumes format 2 alone: .* --overwrite$"


@pytest.mark.parametrize(
    ("version", "said"),
    [(None, f"a run of format 1{ALONE}"), (3, f"a run of format 3{ALONE}"), ("x", "format is 'x', not a whole number")],
)
def test_another_format_is_said(version: object, said: str, run: Path) -> None:
    made_with = json.loads((run / "versions.json").read_text())
    del made_with["format"]
    (run / "versions.json").write_text(json.dumps(made_with | ({"format": version} if version else {})))
    with pytest.raises(InputError, match=said):
        train(run, resume=True)
    load(run)  # what it came to is still of use


# What may change


def test_the_last_layer_may_learn_for_longer(run: Path, tmp_path: Path) -> None:
    longer = replace(SMALL, epochs=(3, 5), momentum="0.5,0.9@4")
    assert train_longer(longer, to_dict(SMALL)) == ("epochs",)
    resumed, whole = train(run, LONGER, resume=True), train(tmp_path / "whole", LONGER)
    for name, value in whole.state_dict().items():
        assert resumed.state_dict()[name].equal(value)
    assert metrics(run) == metrics(tmp_path / "whole")
    assert RunFolder(run).read_config() == RunFolder(tmp_path / "whole").read_config()


@pytest.mark.parametrize("option", ["learning_rate", "gibbs_steps", "momentum"])
def test_schedules_over_all_epochs_allow_no_more_of_them(option: str) -> None:
    lines = {"learning_rate": (0.1, "0.1:0"), "gibbs_steps": (1, "1:3"), "momentum": "0.5:0.9"}
    was = replace(SMALL, **{option: lines[option]})  # type: ignore[arg-type]
    assert train_longer(replace(was, epochs=(3, 5)), to_dict(was)) == ()
    if option != "momentum":  # a line of the lower layer, which is done, is no hindrance
        was = replace(SMALL, **{option: lines[option][::-1]})  # type: ignore[arg-type]
        assert train_longer(replace(was, epochs=(3, 5)), to_dict(was)) == ("epochs",)


def test_the_machine_may_change(run: Path) -> None:
    before = to_dict(SMALL) | {"device": "cpu", "data_dir": "/a", "run": "a"}
    RunFolder(run).write_config(before, "f")
    begin(
        run, before | {"device": "cuda", "data_dir": "/b", "run": "b"}, resume=True, overwrite=False, data="f"
    ).close()


def test_a_run_from_before_an_option_was_renamed_is_resumed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped by a kill at its end, with the options written under their old names, as versions before did."""
    config = replace(SMALL, centered=True)
    whole = train(tmp_path / "whole", config)

    def kill(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(weights, "write_tensors", kill)
        with pytest.raises(KeyboardInterrupt):
            train(tmp_path / "run", config)
    file = tmp_path / "run" / "config.yaml"
    old = file.read_text().replace("centered: true", "centred: true")
    assert "centred: true" in old
    file.write_text(old)
    resumed = train(tmp_path / "run", config, resume=True)
    for name, value in whole.state_dict().items():
        assert resumed.state_dict()[name].equal(value)
    with pytest.raises(InputError, match=r"was started with --centered true \(now false\): resume"):
        train(tmp_path / "run", SMALL, resume=True)


# What is complete


def contents(path: Path) -> dict[str, tuple[bytes, int]]:
    """Every file, with the time it was written."""
    files = [file for file in path.rglob("*") if file.is_file() and file.name != ".lock"]
    return {str(file.relative_to(path)): (file.read_bytes(), file.stat().st_mtime_ns) for file in files}


@pytest.mark.parametrize("average", [None, 0.5])
@pytest.mark.parametrize("keeps_checkpoint", [True, False])
def test_a_complete_run_is_left_as_it_is(average: float | None, keeps_checkpoint: bool, tmp_path: Path) -> None:
    run, config = tmp_path / "run", replace(SMALL, average=average)
    whole = train(run, config)
    if not keeps_checkpoint:
        shutil.rmtree(run / "checkpoint")
    before = contents(run)
    assert is_complete(RunFolder(run), config)
    resumed = train(run, config, resume=True)
    assert contents(run) == before
    assert resumed.description() == whole.description()
    assert not resumed.training
    assert not any(parameter.requires_grad for parameter in resumed.parameters())
    for name, value in whole.state_dict().items():
        assert resumed.state_dict()[name].equal(value)


@pytest.mark.parametrize("has_checkpoint", [True, False])
def test_what_tells_of_fewer_epochs_is_not_complete(has_checkpoint: bool, run: Path) -> None:
    """The checkpoint, where a kill came between it and the line of the last epoch; metrics.jsonl, where it is gone."""
    assert is_complete(RunFolder(run), SMALL)
    if has_checkpoint:
        RunFolder(run).log(metrics(run)[-1] | {"epoch": LONGER.epochs[-1]})
    else:
        shutil.rmtree(run / "checkpoint")
    assert not is_complete(RunFolder(run), LONGER)


@pytest.mark.parametrize("name", ["dbn.safetensors", "encoder.safetensors"])
@pytest.mark.parametrize("spoil", [lambda data: None, lambda data: data[:-1] + bytes([data[-1] ^ 1])])
def test_a_stack_that_is_gone_or_damaged_is_written_again(
    name: str, spoil: Callable[[bytes], bytes | None], run: Path
) -> None:
    sound = (run / name).read_bytes()
    (run / name).unlink()
    if (data := spoil(sound)) is not None:
        (run / name).write_bytes(data)
    train(run, resume=True)
    assert (run / name).read_bytes() == sound


@pytest.mark.parametrize("written", [0, 1])
def test_a_stack_of_fewer_epochs_is_not_taken_for_the_last(
    written: int, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed when so many of the two files of a run that learns for longer are written."""
    write, done = weights.write_tensors, []

    def kill(path: Path, *content: Any) -> None:
        if len(done) == written:
            raise KeyboardInterrupt
        write(path, *content)
        done.append(path)

    train(run.parent / "whole", LONGER)
    with monkeypatch.context() as patch:
        patch.setattr(weights, "write_tensors", kill)
        with pytest.raises(KeyboardInterrupt):
            train(run, LONGER, resume=True)
    assert not is_complete(RunFolder(run), LONGER)
    train(run, LONGER, resume=True)
    for name in ("dbn.safetensors", "encoder.safetensors"):
        assert (run / name).read_bytes() == (run.parent / "whole" / name).read_bytes()
    assert is_complete(RunFolder(run), LONGER)


# Python


def test_from_python_a_run_is_gone_on_with_or_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    x, path = pictures()[0], tmp_path / "run"
    options = {"hidden": (7, 5), "epochs": 2, "batch_size": 40, "run": path}
    whole = dbn.pretrain(x, **{**options, "run": tmp_path / "whole"})

    def kill(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(import_module("dbn.pretraining.stack"), "save_stack", kill)
        with pytest.raises(KeyboardInterrupt):
            dbn.pretrain(x, **options)
    before = contents(path)
    with pytest.raises(
        InputError, match=r"run exists already: continue it with resume=True, .* overwrite=True, or .* run$"
    ):
        dbn.pretrain(x, **options)
    with pytest.raises(
        InputError,
        match=r"run was started with batch_size=40 \(now 30\): resume it with the same, or .* overwrite=True or",
    ):
        dbn.pretrain(x, **{**options, "batch_size": 30}, resume=True)
    assert contents(path) == before
    assert dbn.pretrain(x, **options, resume=True).layers[1].weight.equal(whole.layers[1].weight)
    longer = dbn.pretrain(x, **{**options, "epochs": (2, 3)}, resume=True)
    assert not longer.layers[1].weight.equal(whole.layers[1].weight)
    other = dbn.pretrain(x, **options, seed=1, overwrite=True)
    assert load(path).layers[0].weight.equal(other.layers[0].weight)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"resume": True}, "resume=True needs a run folder: name it with run"),
        ({"overwrite": True}, "overwrite=True needs a run folder: name it with run"),
        ({"resume": True, "overwrite": True, "run": "a"}, "resume=True does not go with overwrite=True"),
        ({"batch_size": 0}, "^batch_size must be a whole number of at least 1, not 0"),
        ({"momentum": 0.5, "optimizer": "adam"}, "^momentum does not go with optimizer adam: leave it out"),
        ({"learning_rate": 1e38}, "lower learning_rate, which is 1e.38 there"),
    ],
)
def test_python_hears_of_arguments(options: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said) as error:
        dbn.pretrain(pictures()[0], **{"hidden": (5,), "epochs": 1, **options})
    assert "--" not in str(error.value)


# Checkpoints that are of no use


def other_run(path: Path) -> None:
    train(path.parent / "other", replace(SMALL, hidden=(7, 6)))
    shutil.copy(path.parent / "other" / "checkpoint" / "state.safetensors", path / "checkpoint")


def with_state(**changes: object) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        file = path / "checkpoint" / "state.safetensors"
        save_state(file, load_state(file) | changes)

    return change


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (other_run, "is damaged or of another kind, it is not of this run"),
        (with_state(layer=3), "not of a layer of this run"),
        (with_state(layer="1"), "not of a layer of this run"),
        (with_state(epoch=77), "not of this run"),
        (with_state(position=-1), "not of this run"),
        (with_state(optimizer={0: {"momentum_buffer": torch.zeros(3)}}), "not of this run"),
        (with_state(optimizer={"a": 1}), "not of this run"),
        (with_state(rbms=[]), "not of this run"),
        (with_state(chains={"v": torch.zeros(2)}), "not of this run"),
        (lambda path: (path / "checkpoint" / "state.safetensors").unlink(), "has reached layer 2, .* is missing"),
        (lambda path: (path / "metrics.jsonl").write_text('{"layer": 1}\n{"layer": 1}\n'), "line 1: epoch is missing"),
    ],
)
def test_a_checkpoint_of_no_use_is_said(spoil: Callable[[Path], None], said: str, run: Path) -> None:
    spoil(run)
    before = (run / "metrics.jsonl").read_bytes(), (run / "dbn.safetensors").read_bytes()
    with pytest.raises(InputError, match=said):
        train(run, LONGER, resume=True)
    assert ((run / "metrics.jsonl").read_bytes(), (run / "dbn.safetensors").read_bytes()) == before


def test_lost_metrics_are_said(run: Path, caplog: pytest.LogCaptureFixture) -> None:
    (run / "metrics.jsonl").unlink()
    with caplog.at_level(logging.WARNING):
        train(run, resume=True)
    assert "has no record of layer 2, epoch 2" in caplog.text


def test_what_diverges_within_an_epoch_leaves_the_last_sound_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layer_training, "CHECKPOINT_SECONDS", -1.0)
    config = replace(SMALL, learning_rate=(0.05, "0.05,1e38@2"), weight_decay=0.1, epochs=(3, 3))
    with pytest.raises(InputError, match=r"layer 2 diverged in epoch 2, .*keeps the stack as of layer 2, epoch 1"):
        train(tmp_path / "run", config)
    assert load(tmp_path / "run").sizes == [36, 7, 5]


def test_leftovers_of_dead_processes_go(run: Path) -> None:
    (run / "checkpoint" / ".writing-0123").write_bytes(b"half")
    (run / ".writing-4567").write_bytes(b"half")
    train(run, resume=True)
    assert not list(run.rglob(".writing-*"))


@pytest.mark.parametrize("left", [[], [".lock"], [".lock", "versions.json"], [".lock", ".writing-1"]])
def test_a_folder_that_was_hardly_begun_is_begun_again(left: list[str], tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    for name in left:
        (tmp_path / "run" / name).touch()
    train(tmp_path / "run")
    assert load(tmp_path / "run").sizes == [36, 7, 5]


# The disk behind training


def test_a_checkpoint_that_was_refused_is_told_by_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint = checkpoints.Checkpoint(tmp_path / "folder" / "state")
    checkpoint.save({"epoch": 1})
    checkpoint.wait()

    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoints, "atomic_write", refuse)
    checkpoint.save({"epoch": 2})
    with pytest.raises(InputError, match="No space left"):
        checkpoint.save({"epoch": 3})
    monkeypatch.undo()
    assert checkpoint.load() == {"epoch": 1}


def test_a_checkpoint_is_what_was_at_its_time(tmp_path: Path) -> None:
    weight = torch.zeros(3)
    checkpoint = checkpoints.Checkpoint(tmp_path / "state")
    checkpoint.save({"weight": weight})
    weight += 1
    assert checkpoint.load()["weight"].tolist() == [0.0, 0.0, 0.0]  # type: ignore[index]


def test_logs_are_on_the_disk_before_the_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    monkeypatch.setattr(checkpoints, "flush", lambda path: order.append(path.name))
    monkeypatch.setattr(checkpoints, "atomic_write", lambda path, data: order.append(path.name))
    run = RunFolder(tmp_path)
    run.log({"epoch": 1})
    run.save_checkpoint({"epoch": 1}, tmp_path / "events")
    run.checkpoint.wait()
    assert order == ["metrics.jsonl", "events", "state.safetensors"]


def test_what_a_checkpoint_costs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What training waited for, and what its thread computed: not what that waited for the disk."""
    checkpoint = checkpoints.Checkpoint(tmp_path / "state")
    clock, work = [0.0], [0.0]

    def taking(seconds: list[float], spent: float) -> Callable[..., bytes]:
        def act(*_: object) -> bytes:
            seconds[0] += spent
            return b""

        return act

    clocks = SimpleNamespace(perf_counter=lambda: clock[0], thread_time=lambda: work[0])
    monkeypatch.setattr(checkpoints, "time", clocks)
    monkeypatch.setattr(checkpoints, "state_bytes", taking(clock, 0.75))
    monkeypatch.setattr(checkpoints, "atomic_write", taking(work, 0.25))
    checkpoint.save({})
    checkpoint.wait()
    assert checkpoint.seconds_apart == 1.0 / checkpoints.SHARE


# Studies


def test_a_worker_that_finds_other_data_ends(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", **dict(zip("xy", pictures(), strict=True)))
    config = StudyConfig(dataset=str(tmp_path / "a.npz"), hidden=(5,), training=StudyTraining(init=("he_normal",)))
    with pytest.raises(InputError, match=r"has changed since the study started: .* --resume"):
        _worker(config, None, "0" * 16, None, lambda study, task: None)


def test_a_fingerprint_tells_of_examples_and_of_weights() -> None:
    data = splits()
    prints = {fingerprint(data, []), fingerprint(data, [stack(0)]), fingerprint(data, [stack(1)])}
    assert len(prints) == 3
    assert data.fingerprint in prints
    assert fingerprint(splits(), [stack(0)]) in prints
