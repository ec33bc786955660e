"""Which rows are scored, and in which values."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from enumeration import Z
from tiny import pictures, save_pictures, stack
from torch.testing import assert_close

from dbn.config.evaluation import EvaluateConfig
from dbn.config.pretraining import Pretraining
from dbn.data.datasets import load_splits
from dbn.errors import InputError
from dbn.evaluation.examples import EvaluationData
from dbn.evaluation.sources import load_evaluation_data
from dbn.models.dbn import DBN
from dbn.models.rbm import RBM
from dbn.models.scaling import Scaling
from dbn.models.units.bernoulli import Bernoulli
from dbn.models.units.gaussian import Gaussian
from dbn.pretraining.pretrain import unlabeled
from dbn.runs.folder import RunFolder

BITS = (np.random.default_rng(3).random((50, 36)) < 0.4).astype(np.uint8)
MORE_BITS = (np.random.default_rng(4).random((70, 36)) < 0.4).astype(np.uint8)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    save_pictures(tmp_path / "tiny.npz")
    np.savez(tmp_path / "bits.npz", x=BITS)
    np.savez(tmp_path / "both.npz", x=MORE_BITS, x_test=BITS)
    np.savez(tmp_path / "packed.npz", train=np.packbits(MORE_BITS, axis=1), test=np.packbits(BITS, axis=1))
    np.savez(tmp_path / "named.npz", train=MORE_BITS.astype(float), test=BITS.astype(float))
    np.savez(tmp_path / "full.npz", x=255 * BITS)
    np.savez(tmp_path / "wide.npz", x=np.zeros((20, 37), np.uint8))
    np.savez(tmp_path / "outside.npz", x=np.linspace(-1, 3, 720).reshape(20, 36))
    (tmp_path / "rows.csv").write_text(
        "\n".join([",".join([*(f"p{i}" for i in range(36)), "kind"])] + [",".join([*map(str, r), "a"]) for r in BITS])
    )
    return tmp_path


def run(folder: Path, **options: Any) -> Path:
    path = folder / "run"
    RunFolder.create(path, overwrite=True).write_config({"dataset": "tiny.npz", "seed": 5, **options})
    return path


def scored(model: DBN | None = None, **options: Any) -> EvaluationData:
    return load_evaluation_data(model or stack(), EvaluateConfig(**{"run": Path("rbm.npz"), **options}))


def is_binary(x: torch.Tensor) -> bool:
    return bool(((x == 0) | (x == 1)).all())


# Where rows are from


@pytest.mark.parametrize("name", ["bits.npz", "full.npz", "rows.csv"])
def test_a_file_of_rows_is_scored_whole_and_is_its_own_base(name: str, folder: Path) -> None:
    found = scored(data=Path(name), label_column="kind" if name == "rows.csv" else None)
    assert set(found.parts) == {"test"}
    np.testing.assert_array_equal(found.scaling(found.parts["test"]).numpy(), BITS)
    assert found.base is found.parts["test"]
    assert found.origin == (
        f"Test rows: the 50 of {name}. Base model of AIS: the means of the test rows themselves, for want of training "
        "rows.",
    )


@pytest.mark.parametrize("name", ["both.npz", "packed.npz", "named.npz"])
def test_the_training_part_of_a_file_is_the_base(name: str, folder: Path) -> None:
    found = scored(data=Path(name))
    np.testing.assert_array_equal(found.scaling(found.parts["test"]).numpy(), BITS)
    np.testing.assert_array_equal(found.scaling(found.base).numpy(), MORE_BITS)
    assert found.origin[0] == (f"Test rows: the 50 of {name}. Base model of AIS: the means of its 70 training rows.")
    assert any("bytes unpacked into 36 bits a row" in sentence for sentence in found.origin) == (name == "packed.npz")


def test_bytes_of_another_number_are_not_unpacked(folder: Path) -> None:
    with pytest.raises(InputError, match=r"packed\.npz has 5 values an example, but the model takes 44: give data"):
        scored(stack(sizes=(44, 3)), data=Path("packed.npz"))


def test_a_run_is_scored_on_the_data_it_was_trained_on(folder: Path) -> None:
    splits = load_splits("tiny.npz")
    assert splits.test is not None
    found = scored(run=run(folder, binarize="threshold"))
    for part, examples in (("test", splits.test), ("valid", splits.valid), ("train", splits.train)):
        assert torch.equal(found.parts[part], (examples.x > 127).to(torch.uint8))
    assert found.base is found.parts["train"]
    assert found.origin == (
        f"Test rows: the {len(splits.test)} of tiny.npz. Base model of AIS: the means of its {len(splits.train)} "
        "training rows.",
        "tiny.npz: gray levels are cut at 0.5 (--binarize threshold, as the run was trained).",
    )


@pytest.mark.parametrize("options", [{"run": "run"}, {"dataset": "tiny.npz"}])
def test_rows_without_a_training_part_borrow_that_of_the_data_set(options: dict[str, Any], folder: Path) -> None:
    run(folder)
    found = scored(
        data=Path("bits.npz"), binarize="threshold", **{k: Path(v) if k == "run" else v for k, v in options.items()}
    )
    train = load_splits("tiny.npz").train
    np.testing.assert_array_equal(found.parts["test"].numpy(), BITS)
    assert torch.equal(found.base, (train.x > 127).to(torch.uint8))
    assert f"the means of the {len(train)} training rows of tiny.npz." in found.origin[0]


def test_a_data_set_named_goes_before_the_training_part_of_the_file(folder: Path) -> None:
    found = scored(data=Path("both.npz"), dataset="tiny.npz", binarize="threshold")
    assert len(found.parts["test"]) == 50
    assert len(found.base) == len(load_splits("tiny.npz").train)


def test_rows_for_a_run_on_arrays_are_their_own_base(folder: Path) -> None:
    path = run(folder, dataset=None)
    assert scored(run=path, data=Path("bits.npz")).base.shape == (50, 36)
    with pytest.raises(InputError, match="was trained on arrays in memory"):
        scored(run=path)


# In which values


@pytest.mark.parametrize("purpose", ["test", "train"])
def test_a_draw_of_grey_levels_has_their_means_and_follows_the_seed(purpose: str, folder: Path) -> None:
    grey = (np.full((2000, 36), 51) + np.arange(36)).astype(np.uint8)
    np.savez("grey.npz", x=grey, x_test=grey)
    first, again, other = (
        scored(data=Path("grey.npz"), binarize=how, seed=seed).parts[purpose]
        for how, seed in (("sample", 1), ("fixed", 1), ("sample", 2))
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    p = torch.from_numpy(grey[0] / 255)
    z = (first.double().mean(0) - p) / (p * (1 - p) / len(first)).sqrt()
    assert z.abs().max() < Z
    assert is_binary(first)


def test_test_and_training_pixels_are_drawn_apart(folder: Path) -> None:
    grey = np.full((50, 36), 128, np.uint8)
    np.savez("grey.npz", x=grey, x_test=grey)
    found = scored(data=Path("grey.npz"), binarize="fixed")
    assert not torch.equal(found.parts["test"], found.parts["train"])


def test_the_pixels_that_a_run_was_trained_on_are_drawn_again(folder: Path) -> None:
    trained = unlabeled(load_splits("tiny.npz"), Pretraining(binarize="fixed", seed=5), torch.device("cpu"))
    found = scored(run=run(folder, binarize="fixed"), seed=99)
    assert torch.equal(found.scaling(found.parts["train"]), trained.scaling(trained.train))
    assert trained.valid is not None
    assert torch.equal(found.scaling(found.parts["valid"]), trained.scaling(trained.valid))
    assert "drawn once as 0 or 1 with seed 5 (--binarize fixed, as the run was trained)" in found.origin[1]
    drawn = scored(run=run(folder, binarize="sample"), seed=99)
    assert "with seed 99 (--binarize sample, as the run was trained)" in drawn.origin[1]


def test_an_option_goes_before_what_the_run_did(folder: Path) -> None:
    found = scored(run=run(folder, binarize="fixed"), binarize="threshold")
    assert found.origin[1] == "tiny.npz: gray levels are cut at 0.5 (--binarize threshold)."


def test_binary_rows_stay_as_they_are_whatever_is_said(folder: Path) -> None:
    for how in ("threshold", "sample", "fixed"):
        np.testing.assert_array_equal(scored(data=Path("bits.npz"), binarize=how).parts["test"].numpy(), BITS)


def gaussian_stack(scaling: Scaling) -> DBN:
    return DBN([RBM(Gaussian(36), Bernoulli(4))], scaling).requires_grad_(False)


def test_standardized_densities_carry_the_volume_of_the_standardizing(folder: Path) -> None:
    shift, spread = torch.linspace(0.2, 0.5, 36), torch.linspace(0.1, 2.0, 36)
    found = scored(gaussian_stack(Scaling(255.0, shift, spread)), run=run(folder, visible="gaussian"))
    for part in found.parts:
        assert_close(found.log_abs_det_jacobian(part), spread.double().log().sum().item() + 36 * np.log(255))
    x = load_splits("tiny.npz").valid.x
    assert_close(found.scaling(found.parts["valid"]), (x / 255 - shift) / spread)
    assert found.origin[-1] == (
        "Densities are of the data as they are stored: each has lost Σ log spread (standardized) and V·log 255 (bytes, "
        "divided)."
    )


@pytest.mark.parametrize("standardized", [False, True])
def test_bytes_and_the_floats_that_they_stand_for_differ_by_the_width_of_a_grey_level(
    standardized: bool, folder: Path
) -> None:
    """A density of x/255 is 255 times that of x in every value; of the floats themselves nothing is taken off."""
    x = pictures()[0].reshape(-1, 36)
    np.savez("bytes.npz", x=x)
    np.savez("floats.npz", x=(x / 255).astype(np.float32))
    spread = torch.linspace(0.1, 2.0, 36)
    model = gaussian_stack(Scaling(255.0, torch.zeros(36), spread) if standardized else Scaling(255.0))
    grey, real = scored(model, data=Path("bytes.npz")), scored(model, data=Path("floats.npz"))
    assert_close(grey.scaling(grey.parts["test"]), real.scaling(real.parts["test"]))
    assert_close(grey.log_abs_det_jacobian("test") - real.log_abs_det_jacobian("test"), 36 * float(np.log(255)))
    assert_close(real.log_abs_det_jacobian("test"), spread.double().log().sum().item() if standardized else 0.0)
    assert ("V·log 255 (bytes, divided)" in grey.origin[-1], "Densities" in real.origin[-1]) == (True, standardized)
    mixed = scored(model, data=Path("floats.npz"), dataset="tiny.npz")
    assert_close(mixed.log_abs_det_jacobian("train") - mixed.log_abs_det_jacobian("test"), 36 * float(np.log(255)))


def test_states_of_discrete_units_have_no_volume(folder: Path) -> None:
    found = scored(data=Path("bits.npz"))
    assert found.log_abs_det_jacobian("test") == 0
    assert not any("Densities" in sentence for sentence in found.origin)


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({}, "rbm.npz does not say what it was trained on: name examples with --data or --dataset"),
    ({"dataset": "tiny.npz"}, "tiny.npz holds values other than 0, 1, .* no log-probability: .* --binarize threshold"),
    ({"run": Path("run")}, "tiny.npz holds values other than 0, 1"),
    ({"data": Path("bits.npz"), "dataset": "tiny.npz"}, "tiny.npz holds values other than 0, 1"),
    ({"data": Path("wide.npz")}, "wide.npz has 37 values an example, but the model takes 36: give data"),
    ({"data": Path("bits.npz"), "dataset": "wide.npz"}, "wide.npz has 37 values an example"),
    (
        {"data": Path("outside.npz"), "binarize": "threshold"},
        "outside.npz has values from -1 to 3, -1 in row 0, .*but .* in .0, 1.: bring",
    ),
    ({"data": Path("missing.npz")}, "missing.npz cannot be read"),
    ({"data": Path("rows.csv")}, r"rows.csv, line 2, column 'kind'.*--label-column"),
    ({"data": Path("tiny.txt")}, "tiny.txt"),
]


@pytest.mark.parametrize(("options", "sentence"), REFUSED)
def test_rows_that_cannot_be_scored_are_refused(options: dict[str, Any], sentence: str, folder: Path) -> None:
    run(folder, binarize="none")
    with pytest.raises(InputError, match=sentence) as refusal:
        scored(**options)
    assert "\n" not in str(refusal.value)


def test_real_numbers_are_not_binarized(folder: Path) -> None:
    with pytest.raises(InputError, match="--binarize threshold does not go with gaussian visible units"):
        scored(gaussian_stack(Scaling()), data=Path("bits.npz"), binarize="threshold")


def test_pictures_are_grey() -> None:
    """The tool of the tests above."""
    assert len(np.unique(pictures()[0])) > 2
