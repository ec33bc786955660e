"""Data on the disk train the same stack as in memory, to the last byte."""

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tiny import pictures
from torch.utils.data import Dataset, TensorDataset

import dbn
from dbn.config.pretraining import Pretraining
from dbn.data import rows
from dbn.data.datasets import load_splits
from dbn.data.row_sources import BitRows
from dbn.data.rows import Rows, in_place
from dbn.errors import InputError
from dbn.models.scaling import Scaling
from dbn.pretraining import kept_rows
from dbn.pretraining.layer_data import LayerData
from dbn.pretraining.pretrain import pretrain, unlabeled
from dbn.pretraining.stack import pretrain_stack
from dbn.pretraining.trainer import LayerTrainer
from dbn.storage.row_file import RowFile
from dbn.training.loop import shuffled_batches

RNG = np.random.default_rng(0)
BYTES = (RNG.random((300, 20)) < RNG.random(20)).astype(np.uint8) * RNG.integers(1, 256, (300, 20), np.uint8)
FLOATS = (RNG.normal(size=(300, 12)) @ RNG.normal(size=(12, 12))).astype(np.float32)
OPTIONS: dict[str, Any] = {"hidden": [8, 5], "epochs": 2, "batch_size": 32, "device": "cpu", "seed": 3}
OPTIONS_OF_A_FILE: dict[str, Any] = {"hidden": (8, 5), "epochs": (2,), "batch_size": 32, "seed": 3}


@pytest.fixture
def nothing_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if a few hundred bytes were too much for memory."""
    monkeypatch.setattr(rows, "RESIDENT", 200)
    monkeypatch.setattr(rows, "PIECE", 1000)
    monkeypatch.setattr(kept_rows, "AHEAD", 2000)
    monkeypatch.setattr("dbn.storage.npz.MAPPED", 200)
    monkeypatch.setattr("dbn.storage.row_file.ROOM", 0)


@pytest.fixture
def all_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "RESIDENT", 1 << 26)


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
    "fixed": (BYTES, {"binarize": "fixed"}),
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


def measured(stack: dbn.DBN) -> list[tuple[float, float]]:
    return [(record["reconstruction_error"], record["valid_kl"]) for record in stack.history]


@pytest.mark.parametrize(
    ("kind", "setting"),
    [*((kind, setting) for kind in KINDS for setting in ("bytes", "standardized")),
     *((kind, setting) for kind in ("mapped", "array") for setting in ("threshold", "fixed", "sample"))],
)  # fmt: skip
@pytest.mark.usefixtures("nothing_fits")
def test_the_same_bytes(tmp_path: Path, in_memory: dict[str, dbn.DBN], kind: str, setting: str) -> None:
    x, more = SETTINGS[setting]
    stack = pretrain(KINDS[kind](tmp_path, x), **OPTIONS, **more)
    assert same(stack, in_memory[setting])
    assert measured(stack) == measured(in_memory[setting])


def from_name(name: Path) -> dbn.DBN:
    config = Pretraining(**OPTIONS_OF_A_FILE)
    return pretrain_stack(unlabeled(load_splits(str(name)), config, torch.device("cpu")), config)


def as_file(folder: Path) -> Path:
    np.save(folder / "x.npy", BYTES)
    return folder / "x.npy"


def as_shards(folder: Path) -> Path:
    for number, part in enumerate(np.array_split(BYTES, 3)):
        np.save(folder / f"{number}.npy", part)
    return folder


def as_parquet(folder: Path) -> Path:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    for number, part in enumerate(np.array_split(BYTES, 3)):
        names = list(map(str, range(20)))
        parquet.write_table(pyarrow.table(list(part.T), names), folder / f"{number}.parquet", row_group_size=30)
    return folder


@pytest.mark.parametrize("saved", [as_file, as_shards, as_parquet])
def test_files_are_the_same_on_the_disk_and_in_memory(
    tmp_path: Path, saved: Callable[[Path], Path], request: pytest.FixtureRequest
) -> None:
    one = tmp_path / "one"
    one.mkdir()
    small, in_memory = load_splits(str(as_file(one))), from_name(as_file(one))
    request.getfixturevalue("nothing_fits")
    name = saved(tmp_path)
    large = load_splits(str(name))
    assert isinstance(large.train.x, Rows)
    assert large.train.x.streamed
    assert large.fingerprint == small.fingerprint
    assert same(from_name(name), in_memory)


@pytest.mark.usefixtures("nothing_fits")
def test_a_run_on_the_disk_resumes_within_an_epoch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    x = mapped(tmp_path, BYTES)
    whole = pretrain(x, run=tmp_path / "whole", **OPTIONS)
    steps = 0
    step = LayerTrainer.step

    def counted(*given: Any) -> None:
        nonlocal steps
        steps += 1
        if steps == 25:  # of the second layer, which has cached features
            raise KeyboardInterrupt
        step(*given)

    monkeypatch.setattr("dbn.pretraining.layer_run.CHECKPOINT_SECONDS", 0.0)
    monkeypatch.setattr(LayerTrainer, "step", counted)
    with pytest.raises(KeyboardInterrupt):
        pretrain(x, run=tmp_path / "stopped", **OPTIONS)
    reads: list[int] = []
    read = RowFile.take
    monkeypatch.setattr(RowFile, "take", lambda file, rows: reads.append(len(rows)) or read(file, rows))
    assert same(pretrain(x, run=tmp_path / "stopped", resume=True, **OPTIONS), whole)
    assert reads
    assert not [each.name for each in (tmp_path / "stopped").iterdir() if "tmp" in each.name]


@pytest.mark.usefixtures("nothing_fits")
def test_a_thread_reads_ahead_and_only_what_is_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = LayerData(Rows(in_place(mapped(tmp_path, BYTES))), Scaling(), (), noise=torch.Generator)
    read: list[tuple[str, int]] = []
    take = RowFile.take

    def noted(file: RowFile, rows: NDArray) -> NDArray:
        read.append((threading.current_thread().name[:10], len(rows)))
        return take(file, rows)

    monkeypatch.setattr(RowFile, "take", noted)
    order = torch.randperm(300).split(30)
    given = data.ahead(iter(order), done=4)
    assert [next(given) is each for each in order[:4]] == [True] * 4
    assert not read
    for indices, expected in zip(given, order[4:], strict=True):
        assert torch.equal(data.batch(indices), torch.from_numpy(BYTES[expected]).float() / 255)
    assert {name for name, _ in read} == {"read ahead"}
    assert sum(n for _, n in read) == 180
    assert not [each for each in threading.enumerate() if each.name.startswith("read ahead")]


@pytest.mark.usefixtures("nothing_fits")
def test_a_rank_reads_its_own_share(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = LayerData(Rows(in_place(mapped(tmp_path, BYTES))), Scaling(), (), noise=torch.Generator)
    read: list[int] = []
    take = RowFile.take
    monkeypatch.setattr(RowFile, "take", lambda file, rows: read.extend(rows.tolist()) or take(file, rows))
    monkeypatch.setattr("dbn.training.distributed.size", lambda: 2)
    shares = []
    for rank in range(2):
        read.clear()
        monkeypatch.setattr("dbn.training.distributed.rank", lambda rank=rank: rank)
        list(data.ahead(shuffled_batches(300, 30, 0, "x", device=torch.device("cpu"))))
        shares.append(set(read))
        assert len(read) == 150
    assert shares[0] | shares[1] == set(range(300))


def test_rows_in_memory_are_not_read_by_a_thread() -> None:
    data = LayerData(torch.from_numpy(BYTES), Scaling(), (), noise=torch.Generator)
    order = torch.randperm(300).split(30)
    assert all(given is indices for given, indices in zip(data.ahead(iter(order)), order, strict=True))


@pytest.mark.usefixtures("nothing_fits")
def test_a_file_that_shrinks_ends_training_in_a_sentence(tmp_path: Path) -> None:
    x = mapped(tmp_path, BYTES)

    def cut_off(record: dict[str, Any]) -> None:
        os.truncate(tmp_path / "x.npy", 1000)

    with pytest.raises(InputError, match=r"x.npy has become shorter since it was opened"):
        pretrain(x, callback=cut_off, **OPTIONS)


@pytest.mark.usefixtures("nothing_fits")
def test_features_that_the_disk_cannot_hold_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dbn.storage.row_file.ROOM", 1 << 60)
    with pytest.raises(InputError, match=r"270 rows of 8 values computed from the data take 0.0 GiB.* run or TMPDIR"):
        pretrain(mapped(tmp_path, BYTES), **OPTIONS)


@pytest.mark.usefixtures("nothing_fits")
def test_bits_take_an_eighth() -> None:
    bits = torch.from_numpy((BYTES > 99).astype(np.uint8)) * 255
    kept = kept_rows.keep(bits.split(70), bits.shape, torch.uint8, bits, value=255)
    assert isinstance(kept, Rows)
    assert isinstance(kept.source, BitRows)
    assert kept.source.packed.shape == (300, 3)
    assert torch.equal(kept[:], bits)
    assert torch.equal(kept.index_select(0, torch.tensor([7, 3])), bits[[7, 3]])


@pytest.mark.usefixtures("nothing_fits")
def test_fine_tuning_and_evaluation_of_rows_on_the_disk(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    x, y = pictures()
    x = mapped(tmp_path, x)
    options: dict[str, Any] = {
        "init": ("xavier_normal",),
        "epochs": 1,
        "hidden": [5],
        "labels": 30,
        "seeds": 1,
        "device": "cpu",
    }
    score: dict[str, Any] = {"ais": 20, "chains": 10, "reverse": False, "device": "cpu"}
    stack = pretrain(x[:, :3, :3], **OPTIONS)
    found = dbn.compare(x, y, **options)
    scored = dbn.evaluate(stack, x[:40, :3, :3], x[:, :3, :3], binarize="fixed", **score)
    request.getfixturevalue("all_fits")
    x = np.array(x)
    again = dbn.compare(x, y, **options)
    assert [arm["test_error"] for arm in found.arms.values()] == [arm["test_error"] for arm in again.arms.values()]
    assert found.best().predict(mapped(tmp_path, x)) == again.best().predict(x)
    assert scored.to_dict() == dbn.evaluate(stack, x[:40, :3, :3], x[:, :3, :3], binarize="fixed", **score).to_dict()


PEAK = """
import sys, numpy as np, dbn
def peak():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM")) / 1024
dbn.pretrain(np.random.default_rng(0).random((200, 784), np.float32), hidden=16, epochs=1, device="cpu")
before = peak()
dbn.pretrain(np.load(sys.argv[1], mmap_mode="r"), hidden=[16, 16], epochs=1, batch_size=2000, device="cpu")
print(peak() - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the peak of a process from /proc")
def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    x = np.lib.format.open_memmap(tmp_path / "x.npy", "w+", np.uint8, (800_000, 784))
    for start in range(0, len(x), 10_000):
        x[start : start + 10_000] = np.roll(np.tile(BYTES[:, :16], 49), start // 100).repeat(34, 0)[:10_000]
    del x
    result = subprocess.run([sys.executable, "-c", PEAK, str(tmp_path / "x.npy")], capture_output=True, check=True)
    assert float(result.stdout) < 300  # MiB; the file has 598
