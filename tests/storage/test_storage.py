"""Whole files, and states that come back bit for bit."""

import errno
import json
import math
import os
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor

from dbn.errors import InputError
from dbn.storage import files as storage
from dbn.storage.files import atomic_write, check_writable, io_error
from dbn.storage.tensors import load_state, pack, save_state, unpack, write_tensors


def same(a: Any, b: Any) -> bool:
    """Equal in type, order of keys and every bit."""
    if isinstance(a, Tensor):
        return (
            isinstance(b, Tensor)
            and (a.dtype, a.shape) == (b.dtype, b.shape)
            and a.contiguous().flatten().view(torch.uint8).equal(b.contiguous().flatten().view(torch.uint8))
        )
    if type(a) is not type(b):
        return False
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return repr(a) == repr(b)


def adam() -> dict[str, Any]:
    layer = torch.nn.Linear(3, 2)
    optimizer = torch.optim.Adam(layer.parameters())
    layer(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    return optimizer.state_dict()


STATES = {
    "nothing": {},
    "leaves": {"none": None, "yes": True, "int": -(2**70), "float": 0.1, "text": "ü\n", "zero": -0.0},
    "not finite": [math.nan, math.inf, -math.inf],
    "alike keys": {0: torch.zeros(2), "0": torch.ones(2), "0/a": 1, 1: {"": 2}},
    "looks like a tag": {"tensor": "0", "dict": [["a", 1]], "float": "nan", "tuple": [1]},
    "order": {"b": 1, "a": (2, [3, (4,)], ())},
    "bool": torch.tensor([True, False]),
    "uint8": torch.arange(256, dtype=torch.uint8),
    "int64": torch.tensor([2**63 - 1, -(2**63)]),
    "bfloat16": torch.tensor([1e-40, math.nan, -0.0], dtype=torch.bfloat16),
    "float64": torch.tensor([5e-324, -0.0, math.inf], dtype=torch.float64),
    "NaN payload": torch.tensor([0x7FC12345, 0x7F812345], dtype=torch.int32).view(torch.float32),
    "0-dim": {"step": torch.tensor(7.0), "count": torch.tensor(2**40)},
    "empty": [torch.empty(0), torch.empty(0, 3), torch.empty(2, 0, dtype=torch.int64)],
    "transposed": torch.arange(6.0).reshape(2, 3).T,
    "expanded": torch.ones(1, 3).expand(4, 3),
    "optimiser": adam(),
}


@pytest.mark.parametrize("state", STATES.values(), ids=STATES)
def test_a_state_survives_the_file(state: Any, tmp_path: Path) -> None:
    save_state(tmp_path / "a", state)
    assert same(load_state(tmp_path / "a"), state)
    save_state(tmp_path / "b", state)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    tensors, skeleton = pack(state)
    assert same(unpack(tensors, json.loads(json.dumps(skeleton, sort_keys=True))), state)


def test_shared_tensors_are_stored_each_for_itself(tmp_path: Path) -> None:
    base = torch.arange(4.0)
    save_state(tmp_path / "a", {"whole": base, "again": base, "part": base[1:3]})
    state = load_state(tmp_path / "a")
    state["whole"][1] = -1.0
    assert state["again"].tolist() == [0.0, 1.0, 2.0, 3.0]
    assert state["part"].tolist() == [1.0, 2.0]


def test_an_optimizer_goes_on_from_its_state(tmp_path: Path) -> None:
    def train(optimizer: torch.optim.Optimizer, weight: Tensor) -> None:
        optimizer.zero_grad()
        (weight**2).sum().backward()
        optimizer.step()

    weight = torch.nn.Parameter(torch.tensor([1.0, -2.0]))
    optimizer = torch.optim.AdamW([weight])
    train(optimizer, weight)
    save_state(tmp_path / "a", {"weight": weight, "optimizer": optimizer.state_dict()})
    train(optimizer, weight)

    state = load_state(tmp_path / "a")
    resumed = torch.nn.Parameter(state["weight"])
    other = torch.optim.AdamW([resumed])
    other.load_state_dict(state["optimizer"])
    train(other, resumed)
    assert torch.equal(resumed, weight)


@pytest.mark.parametrize("value", [{1, 2}, b"bytes", {"a": [Path("a")]}, {(1, 2): 3}, torch.float32])
def test_what_has_no_place_in_a_state_is_refused(value: Any) -> None:
    with pytest.raises(TypeError, match="a state cannot hold"):
        pack(value)


def full(*_: Any) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def half_then(error: BaseException) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        path.write_bytes(b"ha")
        raise error

    return write


@pytest.mark.parametrize(
    ("write", "broken", "raised"),
    [
        (b"new", "fsync", InputError),
        (b"new", "replace", InputError),
        (half_then(OSError(errno.EROFS, "Read-only file system")), None, InputError),
        (half_then(KeyboardInterrupt()), None, KeyboardInterrupt),
    ],
)
def test_a_failed_write_leaves_the_old_file_and_nothing_else(
    write: Any, broken: str | None, raised: type[BaseException], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    atomic_write(tmp_path / "a", b"old")
    if broken:
        monkeypatch.setattr(storage.os, broken, full)
    with pytest.raises(raised) as caught:
        atomic_write(tmp_path / "a", write)
    if raised is InputError:
        assert str(tmp_path / "a") in str(caught.value)
        assert "No space left" in str(caught.value) or "Read-only" in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert (tmp_path / "a").read_bytes() == b"old"


def test_a_file_is_replaced_only_when_it_is_whole(tmp_path: Path) -> None:
    target = tmp_path / "events.out.tfevents.1"
    target.write_bytes(b"old")

    def write(path: Path) -> None:
        path.write_bytes(b"new")
        assert target.read_bytes() == b"old"
        assert path.parent == tmp_path  # a rename stays on one file system
        assert "tfevents" not in path.name

    atomic_write(target, write)
    assert target.read_bytes() == b"new"


def test_the_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere/a cannot be written \(No such file"):
        atomic_write(tmp_path / "nowhere" / "a", b"")
    with pytest.raises(InputError, match=r"nowhere cannot be read \(No such file"):
        load_state(tmp_path / "nowhere")


def header(data: bytes) -> tuple[Any, bytes]:
    length = int.from_bytes(data[:8], "little")
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def with_header(head: Any, body: bytes) -> bytes:
    text = json.dumps(head).encode()
    return len(text).to_bytes(8, "little") + text + body


def declaring_ten_gigabytes(data: bytes) -> bytes:
    head, body = header(data)
    head["0/x"] = {"dtype": "F32", "shape": [50_000, 50_000], "data_offsets": [0, 10**10]}
    return with_header(head, body)


def described_as(text: str) -> Callable[[bytes], bytes]:
    def damage(data: bytes) -> bytes:
        head, body = header(data)
        head["__metadata__"]["dbn"] = text
        return with_header(head, body)

    return damage


DAMAGES: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "empty": (lambda data: b"", "damaged"),
    "header cut": (lambda data: data[:20], "damaged"),
    "data cut": (lambda data: data[:-1], "damaged"),
    "data appended": (lambda data: data + b"\0", "damaged"),
    "header of 2^63 bytes": (lambda data: b"\xff" * 8 + data[8:], "damaged"),
    "10 GB declared": (declaring_ten_gigabytes, "damaged"),
    "a pickle": (lambda data: b"\x80\x04}\x94.", "damaged"),
    "no metadata": (lambda data: safetensors.torch.save({"0/x": torch.zeros(2)}), "damaged"),
    "no JSON": (described_as("{"), "damaged"),
    "a list": (described_as("[1]"), "damaged"),
    "nested too deep": (described_as("[" * 100_000), "damaged"),
    "no format": (described_as('{"state": {"tensor": "0/x"}}'), "damaged"),
    "newer": (described_as('{"format": 3, "state": {"tensor": "0/x"}}'), "has format 3.*: update dbn"),
    "no state": (described_as('{"format": 1}'), "no state"),
    "missing tensor": (described_as('{"format": 1, "state": {"tensor": "1/y"}}'), "no state"),
    "unhashable key": (described_as('{"format": 1, "state": {"dict": [[[], 1]]}}'), "no state"),
    "no number": (described_as('{"format": 1, "state": {"float": "x"}}'), "no state"),
}


@pytest.mark.parametrize(("damage", "sentence"), DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_state_is_one_sentence(damage: Callable[[bytes], bytes], sentence: str, tmp_path: Path) -> None:
    path = tmp_path / "state"
    save_state(path, {"x": torch.zeros(2)})
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(InputError, match=sentence) as caught:
        load_state(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_metadata_is_one_key_of_sorted_json(tmp_path: Path) -> None:
    write_tensors(tmp_path / "a", {"w": torch.zeros(1)}, {"z": 1, "a": {"y": 2, "b": 3}})
    head, _ = header((tmp_path / "a").read_bytes())
    content = b'{"a": {"b": 3, "y": 2}, "z": 1}' + b"w torch.float32 (1,)" + bytes(4)
    written = f'{{"a": {{"b": 3, "y": 2}}, "format": 2, "sum": {zlib.crc32(content)}, "z": 1}}'
    assert head["__metadata__"] == {"dbn": written}


@pytest.mark.parametrize(
    ("number", "what", "advice"),
    [
        (errno.ENOSPC, "written", "make room or choose another place"),
        (errno.EACCES, "written", "permit it or choose another place"),
        (errno.EISDIR, "written", "choose another name"),
        (errno.EIO, "written", "choose another place"),
        (errno.EACCES, "read", "check the name"),
    ],
)
def test_the_advice_fits_what_the_file_system_said(number: int, what: str, advice: str) -> None:
    error = OSError(number, os.strerror(number))
    assert str(io_error(Path("a"), what, error)) == f"a cannot be {what} ({os.strerror(number)}): {advice}"


def test_what_cannot_be_written_is_known_before_the_work(tmp_path: Path) -> None:
    check_writable(tmp_path / "new" / "file")
    assert [path.name for path in tmp_path.rglob("*")] == ["new"]
    with pytest.raises(InputError, match=r"new cannot be written \(it is a folder\): name a file in it"):
        check_writable(tmp_path / "new")
    (tmp_path / "file").write_text("kept")
    check_writable(tmp_path / "file")
    assert (tmp_path / "file").read_text() == "kept"
    with pytest.raises(InputError, match=r"file cannot be made .*: choose another name"):
        check_writable(tmp_path / "file" / "file")
