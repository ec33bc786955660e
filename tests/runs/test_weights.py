"""Stacks and classifiers in files: what comes back, and what is refused."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import nn

from dbn.errors import InputError
from dbn.models.dbn import DBN
from dbn.models.mlp import mlp
from dbn.models.rbm import RBM
from dbn.models.scaling import Scaling
from dbn.models.units import UNITS
from dbn.runs.classifier import best_classifier, read_classifier, save_classifier
from dbn.runs.folder import RunFolder
from dbn.runs.label_model import load_label_model
from dbn.runs.weights import load, save_stack
from dbn.storage.tensors import read_tensors, write_tensors

Bernoulli, Gaussian = UNITS["bernoulli"], UNITS["gaussian"]


def random_stack(kinds: str = "bbb", **options: Any) -> DBN:
    """6–5–4 units, a letter a layer, with random weights."""
    units = [{"b": Bernoulli, "g": Gaussian}[kind](size) for kind, size in zip(kinds, (6, 5, 4), strict=True)]
    stack = DBN([RBM(units[0], units[1]), RBM(Bernoulli(5) if kinds[1] == "b" else Gaussian(5), units[2])], **options)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in stack.parameters():
            parameter.normal_(generator=generator)
    return stack


STACKS = {
    "bernoulli": lambda: random_stack(),
    "gaussian, standardised": lambda: random_stack(
        "gbb", scaling=Scaling(1.0, torch.arange(6.0) / 7, torch.arange(1.0, 7.0) / 3)
    ),
    "gaussian code of pictures": lambda: random_stack("bbg", image_shape=(1, 2, 3)),
}


@pytest.mark.parametrize("make", STACKS.values(), ids=STACKS)
def test_a_stack_comes_back_bit_for_bit(make: Callable[[], DBN], tmp_path: Path) -> None:
    stack = make()
    save_stack(tmp_path, stack)
    again = load(tmp_path)
    assert again.description() == stack.description()
    old, new = stack.state_dict(), again.state_dict()
    assert list(old) == list(new)
    assert all(torch.equal(old[name], new[name]) and old[name].dtype == new[name].dtype for name in old)
    assert not again.training
    x = torch.rand(3, 6, generator=torch.Generator().manual_seed(0))
    assert torch.equal(again.up(again.scale(x)), stack.up(stack.scale(x)))
    assert torch.equal(load(str(tmp_path / "dbn.safetensors")).rbms[0].weight, stack.rbms[0].weight)


@pytest.mark.parametrize("make", STACKS.values(), ids=STACKS)
def test_the_same_stack_gives_the_same_bytes(make: Callable[[], DBN], tmp_path: Path) -> None:
    folders = [tmp_path / "a", tmp_path / "b"]
    for folder in folders:
        folder.mkdir()
        save_stack(folder, make())
    for name in ("dbn.safetensors", "encoder.safetensors"):
        assert (folders[0] / name).read_bytes() == (folders[1] / name).read_bytes()


WITHOUT_DBN = """
import sys
from safetensors.torch import load_file, save_file
from torch import nn
network = nn.Sequential(nn.Linear(6, 5), nn.Sigmoid(), nn.Linear(5, 4), nn.Sigmoid())
network.load_state_dict(load_file("encoder.safetensors"), strict=True)
save_file({"features": network(load_file("x.safetensors")["x"]).detach()}, "features.safetensors")
assert "dbn" not in sys.modules
"""


def test_the_encoder_loads_without_dbn(tmp_path: Path) -> None:
    stack = random_stack()
    save_stack(tmp_path, stack)
    x = torch.rand(7, 6, generator=torch.Generator().manual_seed(0))
    safetensors.torch.save_file({"x": x}, tmp_path / "x.safetensors")
    subprocess.run([sys.executable, "-I", "-c", WITHOUT_DBN], cwd=tmp_path, check=True, timeout=120)
    features = safetensors.torch.load_file(tmp_path / "features.safetensors")["features"]
    torch.testing.assert_close(features, stack.up(x).detach(), rtol=0, atol=1e-6)


def test_the_encoder_says_what_it_fits_into(tmp_path: Path) -> None:
    stack = STACKS["gaussian, standardised"]()
    save_stack(tmp_path, stack)
    tensors, description = read_tensors(tmp_path / "encoder.safetensors")
    assert sorted(tensors) == ["0.bias", "0.weight", "2.bias", "2.weight"]
    network = nn.Sequential(*(eval(module, vars(nn)) for module in description["modules"]))
    network.load_state_dict(tensors)
    x = torch.rand(3, 6, generator=torch.Generator().manual_seed(0))
    scaled = (x / description["divisor"] - torch.tensor(description["shift"])) / torch.tensor(description["spread"])
    torch.testing.assert_close(network(scaled), stack.up(stack.scale(x)), rtol=0, atol=1e-6)


Damage = Callable[[dict[str, torch.Tensor], dict[str, Any]], object]
LIES: dict[str, Damage] = {
    "missing key": lambda tensors, about: tensors.pop("rbms.0.weight"),
    "key too many": lambda tensors, about: tensors.update(extra=torch.zeros(1)),
    "other shape": lambda tensors, about: tensors.update({"rbms.1.weight": torch.zeros(5, 4)}),
    "whole numbers": lambda tensors, about: tensors.update({"rbms.0.weight": torch.zeros(5, 6, dtype=torch.int64)}),
    "other size": lambda tensors, about: about["units"][0].update(size=7),
    "size that is text": lambda tensors, about: about["units"][0].update(size="6"),
    "negative size": lambda tensors, about: about["units"][0].update(size=-1),
    "endless size": lambda tensors, about: about["units"][0].update(size=10**30),
    "size left out": lambda tensors, about: about["units"][0].pop("size"),
    "unknown unit": lambda tensors, about: about["units"][1].update(kind="os.system"),
    "another unit": lambda tensors, about: about["units"][1].update(kind="gaussian"),
    "units left out": lambda tensors, about: about.pop("units"),
    "no layers": lambda tensors, about: (tensors.clear(), about["units"].pop(), about["units"].pop()),
    "standardised": lambda tensors, about: about.update(standardized=True),
    "divisor 0": lambda tensors, about: about.update(divisor=0.0),
    "divisor of text": lambda tensors, about: about.update(divisor="many"),
    "broken pixels": lambda tensors, about: about.update(image_shape=[1, 2.0, 3]),
    "negative pixels": lambda tensors, about: about.update(image_shape=[1, -2, -3]),
    "flat pixels": lambda tensors, about: about.update(image_shape=[6]),
    "too few pixels": lambda tensors, about: about.update(image_shape=[1, 1, 1]),
    "key unknown": lambda tensors, about: about.update(path="/etc/passwd"),
}


@pytest.mark.parametrize("lie", LIES.values(), ids=LIES)
def test_a_stack_that_is_not_as_described_is_refused(lie: Damage, tmp_path: Path) -> None:
    save_stack(tmp_path, random_stack())
    path = tmp_path / "dbn.safetensors"
    tensors, description = read_tensors(path)
    lie(tensors, description)
    write_tensors(path, tensors, description)
    with pytest.raises(InputError, match="is damaged") as caught:
        load(tmp_path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_size_that_lies_costs_no_memory(tmp_path: Path) -> None:
    save_stack(tmp_path, random_stack())
    tensors, description = read_tensors(tmp_path / "dbn.safetensors")
    for units in description["units"]:
        units["size"] = 10**8
    write_tensors(tmp_path / "dbn.safetensors", tensors, description)
    with pytest.raises(InputError) as caught:
        load(tmp_path)
    # 40 PB a layer: the comparison of shapes is what fails, not an allocation.
    assert "rbms.0.weight is float32 (5, 6), not float32 (100000000, 100000000)" in str(caught.value)


def test_any_changed_byte_of_the_header_is_a_sentence_or_a_stack(tmp_path: Path) -> None:
    save_stack(tmp_path, random_stack())
    path = tmp_path / "dbn.safetensors"
    data = path.read_bytes()
    io_error = 0
    length = 8 + int.from_bytes(data[:8], "little")
    for position in range(length):
        path.write_bytes(data[:position] + bytes([data[position] ^ 0x01]) + data[position + 1 :])
        try:
            assert isinstance(load(path), DBN)
        except InputError:
            io_error += 1
    assert io_error > 0.8 * length


def test_what_holds_no_stack_is_named(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "nowhere", tmp_path / "nowhere.safetensors"):
        with pytest.raises(InputError, match="holds no stack: name a run of pretrain"):
            load(path)


ABOUT: dict[str, Any] = {"classes": ["a", "b", "ü"], "divisor": 1.0, "shift": None, "spread": None}


@pytest.mark.parametrize("activation", ["relu", ["sigmoid", "identity"]])
def test_a_classifier_comes_back(activation: Any, tmp_path: Path) -> None:
    network = mlp([6, 5, 4, 3], activation)
    about = {**ABOUT, "sizes": [6, 5, 4, 3], "activation": activation, "shift": [0.1] * 6, "spread": [2.0] * 6}
    save_classifier(tmp_path / "classifier.safetensors", network, about)
    again, description = read_classifier(tmp_path / "classifier.safetensors")
    assert description == about
    x = torch.rand(3, 6, generator=torch.Generator().manual_seed(0))
    assert torch.equal(again(x), network(x))
    assert str(again) == str(network)
    assert not again.training


def test_a_classifier_with_normalized_units_comes_back(tmp_path: Path) -> None:
    network = mlp([6, 5, 4, 3], "tanh", normalize=True)
    x = torch.rand(20, 6, generator=torch.Generator().manual_seed(0))
    for _ in range(3):
        network(x)  # running means and variances go their way
    about = {**ABOUT, "sizes": [6, 5, 4, 3], "activation": "tanh", "normalise": True}
    save_classifier(tmp_path / "a", network, about)
    again, description = read_classifier(tmp_path / "a")
    assert description == about
    assert str(again) == str(network)
    assert torch.equal(again(x), network.eval()(x))
    write_tensors(tmp_path / "b", network.state_dict(), about | {"normalise": False})
    with pytest.raises(InputError, match="is damaged"):
        read_classifier(tmp_path / "b")
    with pytest.raises(ValueError, match="do not give this network"):
        save_classifier(tmp_path / "c", network, about | {"normalise": False})


def test_a_stack_seeded_classifier_can_be_saved(tmp_path: Path) -> None:
    network = random_stack("bbg").to_mlp(3)
    about = {**ABOUT, "sizes": [6, 5, 4, 3], "activation": ["sigmoid", "identity"]}
    save_classifier(tmp_path / "a", network, about)
    assert torch.equal(read_classifier(tmp_path / "a")[0][-1].weight, network[-1].weight)


def test_a_classifier_must_be_as_described(tmp_path: Path) -> None:
    path = tmp_path / "a"
    with pytest.raises(ValueError, match="do not give this network"):
        save_classifier(path, mlp([6, 5, 3], "relu"), {"sizes": [6, 5, 3], "activation": "tanh"})
    assert not path.exists()
    sound = {**ABOUT, "sizes": [6, 5, 3], "activation": "relu"}
    lies: list[dict[str, Any]] = [
        {"sizes": [6, 6, 3]},
        {"sizes": [6]},
        {"classes": None},
        {"classes": "abc"},
        {"classes": ["a", "b"]},
        {"classes": ["a", "b", 3]},
        {"classes": ["a", "b", "\ud800"]},
        {"divisor": 0.0},
        {"shift": [0.0] * 6},
        {"shift": [0.0] * 6, "spread": [0.0] * 6},
    ]
    left_out = [{name: value for name, value in sound.items() if name != gone} for gone in sound]
    for about in (*(sound | lie for lie in lies), *left_out):
        write_tensors(path, mlp([6, 5, 3], "relu").state_dict(), about)
        with pytest.raises(InputError, match="is damaged"):
            read_classifier(path)
    with pytest.raises(InputError, match="nowhere cannot be read"):
        read_classifier(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ("estimator: cd\n", r"holds no whole stack yet: .* pretrain --resume --run"),
        ("estimator: cd\ngenerative_weight: 0.01\n", r"holds no whole label model yet: .* label-model --resume --run"),
    ],
)
def test_an_interrupted_run_is_to_be_gone_on_with(config: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(config)
    with pytest.raises(InputError, match=said):
        load(tmp_path)
    with pytest.raises(InputError, match=r"holds no whole .* yet"):
        load_label_model(tmp_path)
    with pytest.raises(InputError, match=r"holds no whole .* yet"):
        best_classifier(RunFolder.open(tmp_path))
