"""Every file that is read, damaged at random: one sentence or a correct load, and no memory that it does not need."""

import json
import random
import signal
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from mutations import mutate
from safetensors.torch import save_file
from tiny import comparison, pictures, stack

from dbn.cli.config_files import read_config_file
from dbn.cli.options import options_of
from dbn.config.pretraining import PretrainConfig
from dbn.data.readers import read_table
from dbn.errors import InputError
from dbn.evaluation.external_rbm import read_model
from dbn.finetuning.report import comparison_text
from dbn.models.label_model import LabelModel, label_rbm
from dbn.models.mlp import mlp
from dbn.models.units.bernoulli import Bernoulli
from dbn.runs.classifier import best_classifier, read_classifier, save_classifier
from dbn.runs.folder import RunFolder
from dbn.runs.formats import LAYER_RECORD
from dbn.runs.label_model import load_label_model, save_label_model
from dbn.runs.tensorboard import EventLog
from dbn.runs.weights import load, save_stack
from dbn.storage.tensors import load_state, save_state

SECONDS = 20
"""For one file: more is a hang."""
SLACK = 1_000_000
"""Bytes for the parsers themselves, besides twice the file."""


class Format(NamedTuple):
    """A kind of file: how one is made in a folder, and how it is read; whether damage to its values is noticed."""

    make: Callable[[Path], Path]
    read: Callable[[Path], Any]
    checked: bool = False


def table(folder: Path, suffix: str, *, packed: bool = False) -> Path:
    x, y = pictures(n=40)
    path = folder / f"table{suffix}"
    if suffix == ".npz":
        (np.savez_compressed if packed else np.savez)(path, x=x, y=y)
    elif suffix == ".npy":
        np.save(path, x)
    else:
        lines = [",".join([f"p{n}" for n in range(36)] + ["kind"])]
        lines += [",".join(map(str, [*row.flatten() / 256, f"class {label}"])) for row, label in zip(x, y, strict=True)]
        path.write_text("\n".join(lines) + "\n")
    return path


def values(path: Path) -> list[Any]:
    read = read_table(path, "kind" if path.suffix == ".csv" else None)
    return [None if each is None else each.tolist() for each in (read.train.x, read.train.y)]


def rbm(folder: Path, suffix: str) -> Path:
    generator = torch.Generator().manual_seed(0)
    shapes = {"weight": (7, 36), "visible_bias": (36,), "hidden_bias": (7,)}
    arrays = {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    path = folder / f"rbm{suffix}"
    if suffix == ".npz":
        np.savez(path, **{name: array.numpy() for name, array in arrays.items()})
    else:
        save_file(arrays, path)
    return path


def weights(path: Path, read: Callable[[Path], Any]) -> list[Any]:
    model = read(path)
    model = model[0] if isinstance(model, tuple) else model
    return [tensor.tolist() for tensor in model.state_dict().values()]


def saved_stack(folder: Path) -> Path:
    save_stack(folder, stack())
    return folder / "dbn.safetensors"


def saved_classifier(folder: Path) -> Path:
    about = {"sizes": [36, 7, 3], "activation": "relu", "classes": ["a", "b", "c"], "divisor": 255.0}
    torch.manual_seed(0)
    save_classifier(folder / "c", mlp([36, 7, 3], "relu"), about | {"shift": None, "spread": None})
    return folder / "c"


def saved_label_model(folder: Path) -> Path:
    torch.manual_seed(0)
    save_label_model(folder, LabelModel(label_rbm("bernoulli", 36, Bernoulli(5), 3), ["a", "b", "c"]))
    return folder / "label_model.safetensors"


def saved_state(folder: Path) -> Path:
    layer = torch.nn.Linear(30, 20)
    torch.nn.init.zeros_(layer.weight)
    torch.nn.init.zeros_(layer.bias)
    save_state(folder / "s", {"epoch": 3, "weights": layer.state_dict(), "list": [1, (2.5, "a"), None, True]})
    return folder / "s"


def run_file(name: str, text: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        (folder / "config.yaml").write_text("seed: 1\n")
        for arm in ("dbn", "he_normal:relu"):
            (folder / arm / "seed-0").mkdir(parents=True)
            (folder / arm / "seed-0" / "classifier.safetensors").touch()
        (folder / name).write_text(text)
        return folder / name

    return make


CONFIG = "hidden: [500, 500]\nepochs: 10\nlearning_rate: ['0.1:0', 0.05]\ndataset: images.npz\nrun: runs/a\nseed: 0\n"
METRICS = "".join(f'{{"layer": 1, "epoch": {epoch}, "kl": {epoch / 7}, "gap": null}}\n' for epoch in range(1, 40))
RESULT = json.dumps(comparison({"dbn": [1.0, 2.5], "he_normal:relu": [1.0, 2.5]}))


VERSIONS = json.dumps({"format": 2, "data": "0123456789abcdef", "dbn": "1.0", "git_commit": None})
SIGNALS = json.dumps({"start": [[{"z_mean": 0.5, "z_std": None}] * 2] * 2, "end": [[{"z_mean": 0.5, "z_std": 1}] * 2]})


def events_file(folder: Path) -> Path:
    with EventLog(folder) as log:
        for epoch in range(4):
            log.scalars({"kl": 1 / (epoch + 1)}, prefix="layer1", step=epoch)
    (file,) = folder.glob("events*")
    return file


FORMATS = {
    "npz": Format(lambda folder: table(folder, ".npz"), values, checked=True),
    "packed npz": Format(lambda folder: table(folder, ".npz", packed=True), values, checked=True),
    "npy": Format(lambda folder: table(folder, ".npy"), values),
    "csv": Format(lambda folder: table(folder, ".csv"), values),
    "model npz": Format(lambda folder: rbm(folder, ".npz"), lambda path: weights(path, read_model), checked=True),
    "model safetensors": Format(lambda folder: rbm(folder, ".safetensors"), lambda path: weights(path, read_model)),
    "stack": Format(saved_stack, lambda path: weights(path, load), checked=True),
    "classifier": Format(saved_classifier, lambda path: weights(path, read_classifier), checked=True),
    "state": Format(saved_state, lambda path: repr(load_state(path)), checked=True),
    "options": Format(run_file("a.yaml", CONFIG), lambda path: read_config_file(path, options_of(PretrainConfig))),
    "config.yaml": Format(run_file("config.yaml", CONFIG), lambda path: RunFolder.open(path.parent).read_config()),
    "metrics.jsonl": Format(
        run_file("metrics.jsonl", METRICS),
        lambda path: RunFolder(path.parent).keep_metrics(lambda record: record["epoch"] < 9, LAYER_RECORD),
    ),
    "result.json": Format(run_file("result.json", RESULT), lambda path: best_classifier(RunFolder(path.parent))),
    "label model": Format(saved_label_model, lambda path: weights(path, load_label_model), checked=True),
    "versions.json": Format(run_file("versions.json", VERSIONS), lambda path: RunFolder(path.parent).data),
    "signals.json": Format(
        run_file("signals.json", SIGNALS), lambda path: RunFolder(path.parent).read_json("signals.json")
    ),
    "table": Format(
        run_file("result.json", RESULT), lambda path: comparison_text(RunFolder(path.parent).read_json("result.json"))
    ),
    "events": Format(events_file, lambda path: EventLog.keep(path.parent, lambda tag, step: step < 3)),
}


@contextmanager
def no_longer_than(seconds: int) -> Iterator[None]:
    def stop(*_: object) -> None:
        raise TimeoutError("this takes too long")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@pytest.mark.skipif(not hasattr(signal, "SIGALRM"), reason="nothing else ends a hang")
@pytest.mark.parametrize("count", [40, pytest.param(1000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", FORMATS)
def test_damage_is_one_sentence_or_does_no_harm(name: str, count: int, tmp_path: Path) -> None:
    form = FORMATS[name]
    path = form.make(tmp_path)
    sound = path.read_bytes()
    content = form.read(path)
    sentences: list[str] = []
    tracemalloc.start()
    try:
        for number in range(count):
            corrupt_file = mutate(sound, random.Random(f"{name} {number}"))
            path.write_bytes(corrupt_file)
            tracemalloc.reset_peak()
            before = tracemalloc.get_traced_memory()[0]
            try:
                with no_longer_than(SECONDS):
                    read = form.read(path)
            except InputError as error:
                sentences.append(str(error))
            else:
                assert not form.checked or read == content, number
            peak = tracemalloc.get_traced_memory()[1] - before
            assert peak < 2 * max(len(corrupt_file), len(sound)) + SLACK, (number, peak)
    finally:
        tracemalloc.stop()
    assert sentences
    assert not [sentence for sentence in sentences if "\n" in sentence or "Traceback" in sentence]
