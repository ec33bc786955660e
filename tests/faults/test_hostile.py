"""Files made to do harm: nothing in them is executed, followed or unpacked, and what they declare takes no memory."""

import io
import json
import os
import pickle
import struct
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import save
from test_damage import saved_classifier, saved_stack, saved_state
from tiny import comparison, save_pictures, stack

from dbn.cli.config_files import read_config_file
from dbn.cli.options import options_of
from dbn.config.pretraining import PretrainConfig
from dbn.data.readers import read_table
from dbn.errors import InputError
from dbn.evaluation.external_rbm import read_model
from dbn.runs.classifier import best_classifier, read_classifier
from dbn.runs.folder import RunFolder
from dbn.runs.resume import begin
from dbn.runs.training_data import splits_of
from dbn.runs.weights import load, save_stack
from dbn.storage.tensors import load_state, pack, tensor_bytes

MARK = "executed"


class Evil:
    """Unpickled, it makes a file of that name."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (MARK,)


def npy(array: Any, **changes: Any) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array(file, np.asarray(array), allow_pickle=True)
    data = file.getvalue()
    length = int.from_bytes(data[8:10], "little")
    header = {"descr": "<f4", "fortran_order": False, "shape": ()} if changes else {}
    if not changes:
        return data
    text = (repr({**header, **changes}) + "\n").encode()
    return data[:8] + len(text).to_bytes(2, "little") + text + data[10 + length :]


def npz(*members: tuple[str, bytes], method: int = zipfile.ZIP_STORED, copies: int = 1) -> bytes:
    """`copies`: how many times its directory lists them."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, data in members:
            archive.writestr(name, data)
    data = file.getvalue()
    start, end = data.index(b"PK\1\2"), data.index(b"PK\5\6")
    size = struct.pack("<I", copies * (end - start))
    return data[:start] + data[start:end] * copies + data[end : end + 12] + size + data[end + 16 :]


def encrypted(data: bytes) -> bytes:
    """Both headers of the only member say so."""
    changed = bytearray(data)
    for at in (6, data.index(b"PK\1\2") + 8):
        changed[at] |= 1
    return bytes(changed)


def declaring(size: int, data: bytes) -> bytes:
    """A zip file whose directory says that its member unpacks to so many bytes."""
    at = data.index(b"PK\1\2")
    return data[: at + 24] + struct.pack("<I", size) + data[at + 28 :]


HUGE = {"shape": (50_000, 50_000)}
SMALL = npy(np.zeros((20, 4), np.float32))
TABLES: dict[str, tuple[str, bytes, str]] = {
    "pickle in npy": (".npy", npy(np.array([Evil()], object)), "never unpickled"),
    "pickle in npz": (".npz", npz(("x.npy", npy(np.array([Evil()], object)))), "never unpickled"),
    "pickle as npy": (".npy", pickle.dumps(Evil()), "damaged"),
    "pickle as npz": (".npz", pickle.dumps(Evil()), "damaged"),
    "pickle as member": (".npz", npz(("x", pickle.dumps(Evil()))), "damaged"),
    "object field": (".npy", npy(np.zeros(2), descr=[("a", "|O")], shape=(2,)), "never unpickled"),
    "10 GB in npy": (".npy", npy(np.zeros(200, np.float32), **HUGE), "damaged"),
    "10 GB in npz": (".npz", npz(("x.npy", npy(np.zeros(200, np.float32), **HUGE))), "damaged"),
    "10 GB in a packed npz": (".npz", npz(("x.npy", npy(np.zeros(200, np.float32), **HUGE)), method=8), "damaged"),
    "4 GB in the directory": (".npz", declaring(2**32 - 2, npz(("x.npy", SMALL), method=8)), "damaged"),
    "60 MB in the directory": (".npz", declaring(60_000_000, npz(("x.npy", SMALL), method=8)), "damaged"),
    "a bomb": (".npz", npz(("x.npy", npy(np.zeros(70_000_000, np.uint8))), method=8), "would unpack"),
    "an overflowing shape": (".npy", npy(np.zeros(8), shape=(2**40, 2**40)), "damaged"),
    "a negative shape": (".npy", npy(np.zeros(8), shape=(-1, 8)), "damaged"),
    "a shape of text": (".npy", npy(np.zeros(8), shape=("a",)), "damaged"),
    "items of no size": (".npy", npy(np.zeros(8), descr="|S0", shape=(2**50,)), "damaged"),
    "items of 1 GB": (".npy", npy(np.zeros(8), descr="|V1000000000", shape=(1,)), "damaged"),
    "code in the header": (".npy", npy(np.zeros(8), descr="__import__('os').mkdir('executed')"), "damaged"),
    "two of a name": (".npz", npz(("x.npy", SMALL), ("x", SMALL)), "two arrays are called 'x'"),
    "encrypted": (".npz", encrypted(npz(("x.npy", SMALL))), "damaged"),
    "thousands of members": (".npz", npz(("x.npy", SMALL), copies=50_000), "damaged"),
    "another packing": (".npz", npz(("x.npy", SMALL), method=zipfile.ZIP_LZMA), "damaged"),
    "a path out of the file": (".npz", npz(("../x.npy", SMALL), ("/tmp/x.npy", SMALL)), "no array 'x'"),
    "one long label": (".csv", b"a,kind\n" + b"1," + b"x" * 100_000 + b"\n" + b"1,y\n" * 20_000, ""),
    "one long cell": (".csv", b"a,kind\n" + b"1" * 200_000 + b",x\n", "field larger than field limit"),
    "many columns": (".csv", ",".join(f"c{n}" for n in range(20_000)).encode() + b",kind\n1,2\n", "has 2 cells"),
    "one column many times": (".csv", b",".join([b"a"] * 20_000) + b"\n", "two columns"),
}


@pytest.mark.parametrize(("suffix", "data", "sentence"), TABLES.values(), ids=TABLES)
def test_a_table_made_to_do_harm(
    suffix: str, data: bytes, sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / f"table{suffix}"
    path.write_bytes(data)
    tracemalloc.start()
    try:
        column = "kind" if suffix == ".csv" and b"kind" in data else None
        if not sentence:
            with_or_without(lambda: read_table(path, column))
        else:
            with pytest.raises(InputError, match=sentence):
                read_table(path, column)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 2 * len(data) + 4_000_000
    assert [each.name for each in tmp_path.iterdir()] == [path.name]


def with_or_without(read: Callable[[], object]) -> None:
    try:
        read()
    except InputError:
        return


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_a_model_that_is_a_pickle(suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    evil = np.array([Evil()], object)
    contents = [pickle.dumps(Evil()), npz(*[(f"{name}.npy", npy(evil)) for name in ("weight", "visible_bias")])]
    for data in contents:
        path = tmp_path / f"model{suffix}"
        path.write_bytes(data)
        for read in (read_model, load, load_state, read_classifier):
            with pytest.raises(InputError):
                read(path)
    assert not (tmp_path / MARK).exists()


def test_the_pickles_would_have_worked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.npy").write_bytes(TABLES["pickle in npy"][1])
    np.load(tmp_path / "a.npy", allow_pickle=True)
    assert (tmp_path / MARK).is_dir()


def described(make: Callable[[Path], Path], path: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    """A file of dbn's whose description was changed, with a checksum that fits."""
    from dbn.storage.tensors import read_tensors

    file = make(path)
    tensors, description = read_tensors(file)
    change(description)
    file.write_bytes(tensor_bytes(tensors, description))
    return file


LIES: dict[str, tuple[Callable[[Path], Path], Callable[[Path], Any], Callable[[dict[str, Any]], Any]]] = {
    "sizes beyond memory": (saved_stack, load, lambda about: about["units"][0].update(size=10**12)),
    "sizes beyond numbers": (saved_stack, load, lambda about: about["units"][0].update(size=10**30)),
    "thousands of layers": (saved_stack, load, lambda about: about.update(units=about["units"][:1] * 20_000)),
    "unknown units": (saved_stack, load, lambda about: about["units"][0].update(kind="os.system")),
    "a divisor of nothing": (saved_stack, load, lambda about: about.update(divisor=0)),
    "a picture of another size": (saved_stack, load, lambda about: about.update(image_shape=[1, 1000000, 1000000])),
    "no units": (saved_stack, load, lambda about: about.pop("units")),
    "a path": (saved_stack, load, lambda about: about.update(scaling="../../secret")),
    "a network beyond memory": (saved_classifier, read_classifier, lambda about: about.update(sizes=[10**12, 7, 3])),
    "thousands of sizes": (saved_classifier, read_classifier, lambda about: about.update(sizes=[36] * 20_000)),
    "an activation by path": (saved_classifier, read_classifier, lambda about: about.update(activation="os.system")),
    "too few classes": (saved_classifier, read_classifier, lambda about: about.update(classes=["a"])),
    "a shift of another length": (
        saved_classifier,
        read_classifier,
        lambda about: about.update(shift=[0.0] * 7, spread=[1.0] * 7),
    ),
    "a tensor that is not there": (saved_state, load_state, lambda about: about.update(state={"tensor": "99"})),
}


@pytest.mark.parametrize(("make", "read", "change"), LIES.values(), ids=LIES)
def test_metadata_that_lie(make: Any, read: Any, change: Any, tmp_path: Path) -> None:
    file = described(make, tmp_path, change)
    tracemalloc.start()
    try:
        with pytest.raises(InputError, match="damaged"):
            read(file)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 8 * file.stat().st_size + 4_000_000  # JSON as Python's objects


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_no_model(value: float, tmp_path: Path) -> None:
    broken = stack()
    broken.layers[1].hidden.bias[2] = value
    save_stack(tmp_path, broken)
    with pytest.raises(InputError, match=r"rbms\.1\.hidden\.bias holds (nan|inf), not a number between"):
        load(tmp_path)


def test_one_changed_bit_is_noticed(tmp_path: Path) -> None:
    """At the end, where the tensors are: nothing but the checksum can tell."""
    for make, read in ((saved_stack, load), (saved_classifier, read_classifier), (saved_state, load_state)):
        file = make(tmp_path)
        data = bytearray(file.read_bytes())
        data[-3] ^= 1
        file.write_bytes(data)
        with pytest.raises(InputError, match="checksum"):
            read(file)


def test_a_stack_of_the_first_format_is_read(tmp_path: Path) -> None:
    about = json.dumps({"format": 1, **stack().description()}, sort_keys=True)
    (tmp_path / "old.safetensors").write_bytes(save(dict(stack().state_dict()), {"dbn": about}))
    assert load(tmp_path / "old.safetensors").sizes == [36, 7, 5]


BOMB = "a: &a [x, x, x, x, x, x, x, x]\n" + "".join(
    f"{chr(98 + n)}: &{chr(98 + n)} [{', '.join([f'*{chr(97 + n)}'] * 8)}]\n" for n in range(20)
)


@pytest.mark.parametrize(
    "text",
    [
        BOMB,
        "dataset: " + "[" * 50_000,
        "a: !!python/object/apply:os.mkdir [executed]",
        "x" * 200_000,
        "seed: " + "9" * 90_000,
        "a: 2001-99-99",
        "? [a, b]\n: 1",
    ],
    ids=["bomb", "nest", "code", "long", "number", "date", "key"],
)
def test_yaml_made_to_do_harm(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("config.yaml", "versions.json"):
        (tmp_path / name).write_text(text if name == "config.yaml" else "{}")
    with pytest.raises(InputError):
        read_config_file(tmp_path / "config.yaml", options_of(PretrainConfig))
    with_or_without(lambda: RunFolder.open(tmp_path).read_config())
    with pytest.raises(InputError):
        begin(tmp_path, {"seed": 1}, resume=True, overwrite=False)
    with pytest.raises(InputError):
        splits_of(tmp_path)
    assert not (tmp_path / MARK).exists()


@pytest.mark.parametrize("arm", ["..", "../..", "/etc", "dbn/../..", "a\0b"])
def test_no_path_in_a_result_is_followed(arm: str, tmp_path: Path) -> None:
    (tmp_path / "seed-0").mkdir()
    (tmp_path / "seed-0" / "classifier.safetensors").touch()
    run = tmp_path / "run"
    run.mkdir()
    (run / "result.json").write_text(json.dumps(comparison({arm: [1.0]})))
    with pytest.raises(InputError, match="damaged"):
        best_classifier(RunFolder(run))


def test_data_of_a_run_are_those_it_was_trained_on_or_none(tmp_path: Path) -> None:
    """The only path that is taken from a run folder; what is there is read as numbers, and must be known already."""
    file = save_pictures(tmp_path / "tiny.npz")
    with begin(tmp_path / "run", {"dataset": str(file)}, resume=False, overwrite=False, data="0123456789abcdef"):
        pass
    with pytest.raises(InputError, match=r"holds other examples than .*run was pre-trained on"):
        splits_of(tmp_path / "run")


def test_a_pipe_or_device_is_no_file(tmp_path: Path) -> None:
    if not hasattr(os, "mkfifo"):
        pytest.skip("no pipes with names here")
    for suffix in (".npz", ".csv", ".safetensors"):
        path = tmp_path / f"pipe{suffix}"
        os.mkfifo(path)
        with pytest.raises(InputError, match=r"not a file|no file|neither a file"):
            (read_table if suffix != ".safetensors" else load_state)(path)


def test_pickle_has_no_place_in_a_state() -> None:
    with pytest.raises(TypeError, match="a state cannot hold"):
        pack({"evil": Evil()})
