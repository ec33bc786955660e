"""Models from files: what is read, and what a broken or hostile file gets for an answer."""

import contextlib
import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.numpy import save_file
from safetensors.torch import save_file as save_torch
from tiny import stack
from torch.testing import assert_close

from dbn.errors import InputError
from dbn.evaluation.external_rbm import read_arrays, read_model, read_rbm
from dbn.runs.weights import save_stack

Arrays = dict[str, NDArray]
SAVERS: dict[str, Callable[[Path, Arrays], Any]] = {
    ".npz": lambda path, arrays: np.savez_compressed(path, **arrays),
    ".safetensors": lambda path, arrays: save_file({k: np.array(v, order="C") for k, v in arrays.items()}, path),
}

each_format = pytest.mark.parametrize("suffix", SAVERS)


def rbm_arrays(n_visible: int = 4, n_hidden: int = 3) -> Arrays:
    rng = np.random.default_rng(0)
    return {
        "weight": rng.normal(size=(n_hidden, n_visible)),
        "visible_bias": rng.normal(size=n_visible),
        "hidden_bias": rng.normal(size=n_hidden),
    }


@each_format
@pytest.mark.parametrize("kind", [np.float64, np.float32, np.float16, np.int64, np.uint8])
def test_three_arrays_are_an_rbm(suffix: str, kind: type, tmp_path: Path) -> None:
    arrays = {name: (10 * array).astype(kind) for name, array in rbm_arrays().items()}
    SAVERS[suffix](tmp_path / f"rbm{suffix}", {**arrays, "more": np.zeros(2)})
    model = read_model(tmp_path / f"rbm{suffix}")
    assert model.sizes == [4, 3]
    rbm = model.layers[0]
    for tensor, name in ((rbm.weight, "weight"), (rbm.visible.bias, "visible_bias"), (rbm.hidden.bias, "hidden_bias")):
        assert tensor.dtype == torch.float32
        np.testing.assert_array_equal(tensor.detach().numpy(), arrays[name].astype(np.float32))
    x = torch.tensor([[0, 1, 1, 0]], dtype=torch.uint8)
    assert torch.equal(model.scale(x), x.float())


@pytest.mark.parametrize("layout", ["fortran", "big-endian"])
def test_the_layout_in_memory_does_not_matter(layout: str, tmp_path: Path) -> None:
    arrays = rbm_arrays()
    kept = {k: np.asfortranarray(v) if layout == "fortran" else v.astype(">f8") for k, v in arrays.items()}
    np.savez(tmp_path / "rbm.npz", **kept)
    np.testing.assert_allclose(
        read_rbm(tmp_path / "rbm.npz").layers[0].weight.detach().numpy(), arrays["weight"], rtol=1e-6
    )


def test_bfloat16_is_read(tmp_path: Path) -> None:
    tensors = {name: torch.from_numpy(array).bfloat16() for name, array in rbm_arrays().items()}
    save_torch(tensors, tmp_path / "rbm.safetensors")
    assert torch.equal(read_rbm(tmp_path / "rbm.safetensors").layers[0].weight, tensors["weight"].float())


def test_a_stack_of_ours_is_read_from_its_folder_and_from_its_file(tmp_path: Path) -> None:
    save_stack(tmp_path, stack())
    for path in (tmp_path, tmp_path / "dbn.safetensors"):
        assert_close(dict(read_model(path).state_dict()), dict(stack().state_dict()))


def changed(**arrays: NDArray | None) -> Arrays:
    return {name: array for name, array in {**rbm_arrays(), **arrays}.items() if array is not None}


def with_value(value: float) -> NDArray:
    weight = rbm_arrays()["weight"]
    weight[2, 1] = value
    return weight


BROKEN: list[tuple[Arrays, str]] = [
    (changed(weight=None), "holds no array 'weight': an RBM is weight, visible_bias, hidden_bias"),
    (changed(hidden_bias=None), "holds no array 'hidden_bias'"),
    ({}, "holds no array 'weight'"),
    (changed(weight=rbm_arrays()["weight"].T), r"weight has shape \(4, 3\), .* is \(3, 4\): transpose it"),
    (changed(weight=np.zeros((3, 5))), r"weight has shape \(3, 5\), .* is \(3, 4\): save the three"),
    (changed(weight=np.zeros(12)), r"weight has shape \(12,\)"),
    (changed(visible_bias=np.zeros((1, 4))), r"visible_bias has shape \(1, 4\), but one number a unit"),
    (changed(hidden_bias=np.zeros(0)), r"hidden_bias has shape \(0,\)"),
    (changed(hidden_bias=np.zeros(())), r"hidden_bias has shape \(\)"),
    (changed(weight=with_value(np.nan)), r"weight holds nan at \(2, 1\)"),
    (changed(weight=with_value(-np.inf)), r"weight holds -inf at \(2, 1\)"),
    (changed(weight=with_value(1e300)), r"weight holds inf at \(2, 1\) as a 32-bit float"),
    (changed(hidden_bias=np.ones(3, bool)), "hidden_bias holds bool, but real numbers"),
]


@each_format
@pytest.mark.parametrize(("arrays", "sentence"), BROKEN)
def test_arrays_that_are_no_rbm_are_refused(suffix: str, arrays: Arrays, sentence: str, tmp_path: Path) -> None:
    SAVERS[suffix](tmp_path / f"rbm{suffix}", arrays)
    with pytest.raises(InputError, match=sentence) as refusal:
        read_model(tmp_path / f"rbm{suffix}")
    assert str(refusal.value).startswith(str(tmp_path / f"rbm{suffix}"))
    assert "\n" not in str(refusal.value)


class Bomb:
    """Unpickled, it would leave a file behind."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    np.savez(tmp_path / "rbm.npz", **changed(weight=np.array([Bomb(tmp_path / "exploded")], object)))
    with pytest.raises(InputError, match="holds Python objects, which are never unpickled"):
        read_model(tmp_path / "rbm.npz")
    assert not (tmp_path / "exploded").exists()


def good(suffix: str, folder: Path) -> bytes:
    SAVERS[suffix](folder / f"good{suffix}", rbm_arrays(40, 30))
    return (folder / f"good{suffix}").read_bytes()


@each_format
def test_a_damaged_file_is_a_sentence(suffix: str, tmp_path: Path) -> None:
    data, path, rng = good(suffix, tmp_path), tmp_path / f"bad{suffix}", np.random.default_rng(1)
    for cut in (0, 1, 10, len(data) // 2, len(data) - 1):
        path.write_bytes(data[:cut])
        with pytest.raises(InputError, match="damaged or no"):
            read_model(path)
    for _ in range(200):
        bent = bytearray(data)
        bent[rng.integers(len(data))] = rng.integers(256)
        path.write_bytes(bent)
        with contextlib.suppress(InputError):
            read_model(path)


def test_a_shape_that_lies_takes_no_memory(tmp_path: Path) -> None:
    member = io.BytesIO()
    np.lib.format.write_array_header_1_0(member, {"descr": "<f8", "fortran_order": False, "shape": (2**40, 2**20)})
    with zipfile.ZipFile(tmp_path / "rbm.npz", "w") as file:
        file.writestr("weight.npy", member.getvalue())
    with pytest.raises(InputError, match="damaged or no"):
        read_model(tmp_path / "rbm.npz")


def test_a_member_that_is_no_array_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "rbm.npz", "w") as file:
        file.writestr("weight", b"text")
    with pytest.raises(InputError, match="damaged or no"):
        read_arrays(tmp_path / "rbm.npz", ("weight",))


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("missing", "there is no run folder or model file .*missing: check the name"),
        ("missing.npz", "there is no run folder or model file"),
        ("text.txt", "a file of named arrays ends in .npz or .safetensors"),
        ("folder", "holds no stack"),
        ("folder.npz", "holds no stack"),
    ],
)
def test_a_path_without_a_model_is_refused(name: str, sentence: str, tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder.npz").mkdir()
    with pytest.raises(InputError, match=sentence):
        read_model(tmp_path / name)


def test_a_stack_that_broke_in_training_is_refused(tmp_path: Path) -> None:
    broken = stack()
    broken.layers[1].weight[0, 0] = float("nan")
    save_stack(tmp_path, broken)
    with pytest.raises(InputError, match=r"rbms\.1\.weight holds \w+, not a number"):
        read_model(tmp_path)
