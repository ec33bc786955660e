"""Pictures that are learnt in a second, and what a run folder holds without the times."""

import json
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
import torch
from numpy.typing import NDArray
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.compat.tensorflow_stub import pywrap_tensorflow
from tensorboard.util import tensor_util
from torch.utils.data import Dataset

from dbn.data.cut import splits_from_arrays
from dbn.data.splits import Splits
from dbn.models.dbn import DBN
from dbn.models.rbm import RBM
from dbn.models.scaling import Scaling
from dbn.models.units.bernoulli import Bernoulli
from dbn.runs.folder import RunFolder

# TensorBoard's own goes through the bytes in Python: reading events took longer than training.
pywrap_tensorflow.crc32c = google_crc32c.value

TIMES = ("seconds", "measuring_seconds", "examples_per_second")
CLASSES = 3


def pictures(n: int = 150, side: int = 6, seed: int = 0) -> tuple[NDArray, NDArray]:
    """x (n, side, side) bytes and y (n,): noise, with two bright rows where the class says."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % CLASSES
    x = rng.integers(0, 120, (n, side, side))
    for row, label in zip(x, y, strict=True):
        row[2 * label : 2 * label + 2] += 120
    return x.astype(np.uint8), y


def save_pictures(path: Path, **size: int) -> Path:
    x, y = pictures(**size)
    np.savez(path, x=x, y=y)
    return path


def splits(**size: int) -> Splits:
    x, y = pictures(**size)
    return splits_from_arrays(x, y, name="tiny", cut_test=True)


def stack(seed: int = 0, sizes: tuple[int, ...] = (36, 7, 5), scaling: Scaling | None = None) -> DBN:
    generator = torch.Generator().manual_seed(seed)
    rbms = [RBM(Bernoulli(v), Bernoulli(h)) for v, h in pairwise(sizes)]
    with torch.no_grad():
        for rbm in rbms:
            for parameter in rbm.parameters():
                parameter.normal_(0.0, 0.3, generator=generator)
    return DBN(rbms, scaling).requires_grad_(False)


def metrics(path: Path) -> list[dict[str, Any]]:
    """The records of a run, without what depends on the clock."""
    return [
        {name: value for name, value in record.items() if name not in TIMES} for record in RunFolder(path).metrics()
    ]


def events(folder: Path) -> EventAccumulator:
    files = ((file, file.stat()) for file in sorted(folder.glob("events.out.*")))
    return _read_events(folder, tuple((file, state.st_size, state.st_mtime_ns) for file, state in files))


@lru_cache(maxsize=64)
def _read_events(folder: Path, _: object) -> EventAccumulator:
    """Once for every state of the files."""
    accumulator = EventAccumulator(str(folder), size_guidance={"tensors": 0, "images": 0, "histograms": 0})
    return accumulator.Reload()


def curves(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """(step, value) of every scalar tag; of those that depend on the clock the steps alone."""
    log = events(folder)
    found = {}
    for tag in log.Tags()["tensors"]:
        if tag == "custom_scalars__config__" or tag.startswith("_hparams_"):
            continue
        points = [(event.step, tensor_util.make_ndarray(event.tensor_proto).item()) for event in log.Tensors(tag)]
        is_timed = tag.split("/")[-1] in TIMES or tag == "result/text_summary"  # whose table has seconds
        found[tag] = [(step, 0.0) for step, _ in points] if is_timed else points
    return found


def steps(folder: Path) -> dict[str, list[int]]:
    """The steps of every picture and histogram."""
    log = events(folder)
    return {
        **{tag: [event.step for event in log.Images(tag)] for tag in log.Tags()["images"]},
        **{tag: [event.step for event in log.Histograms(tag)] for tag in log.Tags()["histograms"]},
    }


def result(path: Path) -> dict[str, Any]:
    """result.json without the seconds."""
    found: dict[str, Any] = json.loads((path / "result.json").read_text())
    for arm in found["arms"].values():
        del arm["seconds"]
    return found


def comparison(errors: dict[str, list[float]]) -> dict[str, Any]:
    """What result.json holds of arms with these validation errors by seed."""
    n = len(next(iter(errors.values())))
    arms = {
        name: {
            "test_error": each, "mean": sum(each) / n, "ci95": None, "valid_error": each, "learning_rate": 0.1,
            "activation": "tanh", "normalise": False, "best_epoch": [1] * n, "diverged": 0, "seconds": [1.0] * n,
        }
        for name, each in errors.items()
    }  # fmt: skip
    return {
        "dataset": "tiny", "labels": 9, "valid_labels": 9, "refit": False, "seeds": list(range(n)), "stacks": 0,
        "arms": arms, "comparison": None,
    }  # fmt: skip


class Items(Dataset[Any]):
    """A data set of these items."""

    def __init__(self, items: list[Any]) -> None:
        self.items = items

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, place: int) -> Any:
        return self.items[place]
