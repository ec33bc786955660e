"""Data on the disk train the same stack as in memory, to the last byte."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset, TensorDataset

import dbn
from dbn.data import rows
from dbn.pretraining import kept_rows
from dbn.pretraining.pretrain import pretrain

RNG = np.random.default_rng(0)
BYTES = (RNG.random((300, 20)) < RNG.random(20)).astype(np.uint8) * RNG.integers(1, 256, (300, 20), np.uint8)
FLOATS = (RNG.normal(size=(300, 12)) @ RNG.normal(size=(12, 12))).astype(np.float32)
OPTIONS: dict[str, Any] = {"hidden": [8, 5], "epochs": 2, "batch_size": 32, "device": "cpu", "seed": 3}


@pytest.fixture
def nothing_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if a few hundred bytes were too much for memory."""
    monkeypatch.setattr(rows, "RESIDENT", 200)
    monkeypatch.setattr("dbn.storage.npz.MAPPED", 200)
    monkeypatch.setattr(rows, "PIECE", 1000)
    monkeypatch.setattr(kept_rows, "AHEAD", 2000)
    monkeypatch.setattr("dbn.storage.row_file.ROOM", 0)
    monkeypatch.setattr("dbn.pretraining.layer_data.ROWS_AT_ONCE", 50)


@pytest.fixture(autouse=True)
def small_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dbn.pretraining.layer_data.ROWS_AT_ONCE", 50)


class Items(Dataset):
    """A data set of (row, label)."""

    def __init__(self, x: NDArray) -> None:
        self.x = x

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, place: int) -> tuple[NDArray, int]:
        return self.x[place], 1


def mapped(folder: Path, x: NDArray) -> Any:
    np.save(folder / "x.npy", x)
    return np.load(folder / "x.npy", mmap_mode="r")


def every_second_row(folder: Path, x: NDArray) -> Any:
    doubled = np.repeat(x, 2, 0)
    doubled[1::2] = 7
    return mapped(folder, np.concatenate([doubled, doubled], 1))[::2, : x.shape[1]]


def shards(folder: Path, x: NDArray) -> Any:
    for number, part in enumerate(np.array_split(x, 3)):
        np.save(folder / f"{number}.npy", part)
    return dbn.data.readers.shards.join([folder / f"{number}.npy" for number in range(3)])


KINDS = {
    "mapped": mapped,
    "every second row of a mapped file": every_second_row,
    "data set": lambda folder, x: Items(x),
    "tensor data set": lambda folder, x: TensorDataset(torch.from_numpy(x), torch.zeros(len(x))),
    "column-major array": lambda folder, x: np.asfortranarray(x),
    "read-only array": lambda folder, x: np.frombuffer(x.tobytes(), x.dtype).reshape(x.shape),
    "float64": lambda folder, x: x if x.dtype == np.uint8 else x.astype(np.float64),
    "array": lambda folder, x: x,
}
SETTINGS: dict[str, tuple[NDArray, dict[str, Any]]] = {
    "bytes": (BYTES, {}),
    "standardized": (FLOATS, {"visible": "gaussian", "learning_rate": 0.001}),
    "threshold": (BYTES, {"binarize": "threshold"}),
    "fixed": (BYTES, {"binarize": "fixed", "likelihood_every": 1}),
    "sample": (BYTES, {"binarize": "sample", "features": "sample"}),
}


def weights(stack: dbn.DBN) -> list[NDArray]:
    return [value.numpy() for value in stack.state_dict().values()]


def same(first: dbn.DBN, second: dbn.DBN) -> bool:
    return all(np.array_equal(*pair) for pair in zip(weights(first), weights(second), strict=True))


@pytest.fixture(scope="module")
def in_memory() -> dict[str, dbn.DBN]:
    """The stacks of small arrays in memory."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dbn.pretraining.layer_data.ROWS_AT_ONCE", 50)
        return {name: pretrain(x, **OPTIONS, **more) for name, (x, more) in SETTINGS.items()}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("setting", SETTINGS)
def test_the_same_bytes(
    tmp_path: Path, in_memory: dict[str, dbn.DBN], kind: str, setting: str, nothing_fits: None
) -> None:
    x, more = SETTINGS[setting]
    stack = pretrain(KINDS[kind](tmp_path, x), **OPTIONS, **more)
    assert same(stack, in_memory[setting])
    assert [(r["reconstruction_error"], r["valid_kl"]) for r in stack.history] == [
        (r["reconstruction_error"], r["valid_kl"]) for r in in_memory[setting].history
    ]
