"""A trained classifier as a module: the same numbers as by hand, from a run, a folder of an arm, or a file."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny import comparison
from torch.testing import assert_close

import dbn
from dbn.errors import InputError
from dbn.models.mlp import mlp
from dbn.models.scaling import Scaling
from dbn.runs import classifier as module
from dbn.runs.classifier import best_classifier, has_classifier, load_classifier, save_classifier
from dbn.runs.folder import RunFolder

CLASSES = ["cat", "dog", "owl"]
BYTES = Scaling(255.0)
STANDARDIZED = Scaling(1.0, torch.tensor([1.0, -2.0, 0.5, 0.0]), torch.tensor([2.0, 3.0, 0.5, 1.0]))


def save(folder: Path, scaling: Scaling = BYTES, seed: int = 0) -> Any:
    torch.manual_seed(seed)
    network = mlp([4, 5, 3], "tanh")
    about = {"sizes": [4, 5, 3], "activation": "tanh", "classes": CLASSES, **scaling.description()}
    folder.mkdir(parents=True, exist_ok=True)
    save_classifier(folder / "classifier.safetensors", network, about)
    return network


def softmax_by_hand(network: Any, x: Any) -> Any:
    first, _, last = network
    hidden = np.tanh(x @ first.weight.detach().numpy().T + first.bias.detach().numpy())
    logits = hidden @ last.weight.detach().numpy().T + last.bias.detach().numpy()
    return np.exp(logits) / np.exp(logits).sum(1, keepdims=True)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A finished comparison whose second arm is the better."""
    folder = RunFolder.create(tmp_path / "run", overwrite=False)
    folder.write_config({"seed": 0})
    errors = {"dbn": [3.0, 4.0], "he_normal(gain=1.5):tanh": [2.0, 4.5]}
    folder.write_json("result.json", comparison(errors))
    for number, arm in enumerate(errors):
        save(folder.path / arm / "seed-1", seed=number)
    folder.close()
    return folder.path


def test_bytes_are_scaled_inside_and_taken_in_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network = save(tmp_path)
    classifier = load_classifier(tmp_path)
    assert (classifier.classes, classifier.training) == (("cat", "dog", "owl"), False)
    x = np.random.default_rng(0).integers(0, 256, (45, 4)).astype(np.uint8)
    wanted = softmax_by_hand(network, x / 255)
    monkeypatch.setattr(module, "ROWS_AT_ONCE", 10)
    for rows in (x, torch.from_numpy(x), x.reshape(45, 2, 2), (x / 255).astype(np.float32)):
        found = classifier.predict_proba(rows)
        np.testing.assert_allclose(found, wanted, rtol=1e-5)
        assert classifier.predict(rows) == [CLASSES[place] for place in wanted.argmax(1)]
    np.testing.assert_allclose(classifier(torch.from_numpy(x)).softmax(1).detach(), wanted, rtol=1e-5)


@pytest.mark.parametrize("scaling", [BYTES, STANDARDIZED, Scaling(16.0, stored="floats", values=(0.0, 1.0))])
def test_no_number_of_floats_comes_from_a_device_nor_through_a_transform(scaling: Scaling, tmp_path: Path) -> None:
    network = save(tmp_path, scaling)
    classifier = load_classifier(tmp_path)
    x = torch.rand(6, 4) * (16 if scaling.stored else 1)
    logits = network(scaling(x))
    assert torch.equal(classifier(x), logits)
    assert_close(torch.func.vmap(lambda row: classifier(row[None])[0])(x), logits)
    assert classifier.to("meta")(x.to("meta")).shape == (6, 3)  # no value can be read there


def test_floats_are_standardized_inside(tmp_path: Path) -> None:
    network = save(tmp_path, STANDARDIZED)
    x = np.random.default_rng(1).normal(size=(7, 4)).astype(np.float32)
    assert STANDARDIZED.shift is not None
    assert STANDARDIZED.spread is not None
    scaled = (x - STANDARDIZED.shift.numpy()) / STANDARDIZED.spread.numpy()
    np.testing.assert_allclose(load_classifier(tmp_path).predict_proba(x), softmax_by_hand(network, scaled), rtol=1e-5)


def test_bytes_as_floats_are_refused_where_floats_in_0_to_1_were_seen(tmp_path: Path) -> None:
    network = save(tmp_path, Scaling(1.0))
    x = np.linspace(0, 1, 8, dtype=np.float32).reshape(2, 4)
    np.testing.assert_allclose(load_classifier(tmp_path).predict_proba(x), softmax_by_hand(network, x), rtol=1e-5)
    with pytest.raises(InputError, match=r"from 0 to 255, .* but .* trained on values in \[0, 1\]"):
        load_classifier(tmp_path).predict_proba(255 * x)


def test_the_best_arm_of_a_run_its_folder_and_its_file_are_one_classifier(run: Path) -> None:
    best = run / "he_normal(gain=1.5):tanh" / "seed-1"
    assert best_classifier(RunFolder(run)) == ("he_normal(gain=1.5):tanh", best / "classifier.safetensors")
    x = torch.eye(4)
    wanted = load_classifier(run)(x)
    for path in (str(run), best, best / "classifier.safetensors"):
        assert torch.equal(dbn.load_classifier(path)(x), wanted)
    assert not torch.equal(load_classifier(run / "dbn" / "seed-1")(x), wanted)


def test_a_classifier_that_is_gone_is_not_there(run: Path) -> None:
    assert has_classifier(RunFolder(run), "dbn")
    (run / "dbn" / "seed-1" / "classifier.safetensors").unlink()
    assert not has_classifier(RunFolder(run), "dbn")


@pytest.mark.parametrize(
    ("x", "sentence"),
    [
        (np.zeros((3, 5), np.uint8), "^x has 5 values an example, but the classifier takes 4: give data like"),
        (np.full((3, 4), "a"), "^x: x holds <U1, but numbers are needed"),
        (np.zeros(4, np.uint8), r"^x: x has shape \(4,\), but \(rows, columns\)"),
        (np.full((3, 4), np.nan), "^x: x, row 0, column 0 .* is nan"),
        (
            np.full((3, 4), 200.0),
            r"^x has values from 200 to 200, .* but .* in .0, 1.: divide them, with divisor=255",
        ),
    ],
)
def test_rows_of_another_kind_are_refused(x: Any, sentence: str, tmp_path: Path) -> None:
    save(tmp_path)
    for call in (load_classifier(tmp_path).predict_proba, load_classifier(tmp_path).predict):
        with pytest.raises(InputError, match=sentence) as refusal:
            call(x)
        assert "\n" not in str(refusal.value)


def test_a_tensor_of_another_width_is_refused_by_the_module(tmp_path: Path) -> None:
    save(tmp_path)
    with pytest.raises(InputError, match=r"^x has shape \(2, 5\), but the classifier takes rows of 4 values$"):
        load_classifier(tmp_path)(torch.zeros(2, 5))


@pytest.mark.parametrize(
    ("name", "sentence"), [("nowhere", "nowhere cannot be read"), ("", "is not a run folder: it holds no config.yaml")]
)
def test_what_is_no_classifier_is_named(name: str, sentence: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=sentence):
        load_classifier(tmp_path / name)


def test_a_run_without_a_result_is_named(tmp_path: Path) -> None:
    with RunFolder.create(tmp_path / "run", overwrite=False) as folder:
        folder.write_config({"seed": 0})
    with pytest.raises(InputError, match=r"is no finished run of finetune"):
        load_classifier(tmp_path / "run")
    (tmp_path / "run" / "result.json").write_text(json.dumps(comparison({"../..": [1.0]})))
    with pytest.raises(InputError, match="is damaged"):
        load_classifier(tmp_path / "run")
