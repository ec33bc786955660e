"""What each layer of a stack is shown, and in which form it is kept."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from dbn.models.rbm import RBM
from dbn.models.scaling import Scaling
from dbn.models.units.bernoulli import Bernoulli
from dbn.pretraining.layer_data import LayerData
from dbn.rng import stream

BYTES = torch.randint(256, (4000, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
SOME = torch.tensor([5, 0, 3999, 5])


def rbm(n_visible: int = 3, n_hidden: int = 2, seed: int = 0) -> RBM:
    made = RBM(Bernoulli(n_visible), Bernoulli(n_hidden))
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.normal_(generator=torch.Generator().manual_seed(seed))
    return made.requires_grad_(False)


def layer_data(
    raw: Tensor = BYTES, below: tuple[RBM, ...] = (), scaling: Scaling | None = None, **how: Any
) -> LayerData:
    return LayerData(raw, scaling or Scaling(), below, noise=lambda epoch: stream(1, "data", epoch), **how)


def shown(data: LayerData, epoch: int) -> Tensor:
    data.prepare(epoch)
    return data.all()


def test_the_first_layer_keeps_the_bytes() -> None:
    data = layer_data()
    data.prepare(1)
    assert data.prepared is BYTES
    assert len(data) == 4000
    assert torch.equal(data.batch(SOME), BYTES[SOME].float() / 255)
    assert data.batch(SOME).dtype == torch.float32
    assert torch.equal(data.all(), BYTES.float() / 255)


def test_standardized_columns() -> None:
    scaling = Scaling(1.0, torch.tensor([1.0, 2.0, 3.0]), torch.tensor([2.0, 4.0, 8.0]))
    raw = torch.tensor([[3.0, 2.0, -5.0], [1.0, 6.0, 11.0]])
    assert layer_data(raw, scaling=scaling).all().tolist() == [[1.0, 0.0, -1.0], [0.0, 1.0, 1.0]]


@pytest.mark.parametrize("how", ["threshold", "sample", "fixed"])
def test_binary_pixels_are_kept_as_bytes(how: Any) -> None:
    data = layer_data(how=how)
    assert set(shown(data, 1).unique().tolist()) == {0.0, 1.0}
    assert data.prepared is not None
    assert data.prepared.dtype == torch.uint8
    assert data.batch(SOME).dtype == torch.float32


def test_the_threshold_is_one_half() -> None:
    raw = torch.tensor([[0, 127, 128], [255, 127, 0]], dtype=torch.uint8)
    assert layer_data(raw, how="threshold").redrawn is False
    assert shown(layer_data(raw, how="threshold"), 1).tolist() == [[0.0, 0.0, 1.0], [1.0, 0.0, 0.0]]


@pytest.mark.parametrize(
    ("how", "features", "depth", "anew"),
    [
        ("none", "mean", 0, False),
        ("none", "sample", 0, False),
        ("threshold", "mean", 1, False),
        ("fixed", "mean", 0, False),
        ("fixed", "mean", 1, False),
        ("sample", "mean", 0, True),
        ("sample", "mean", 1, True),
        ("none", "sample", 1, True),
        ("fixed", "sample", 2, True),
    ],
)
def test_what_is_drawn_is_drawn_once_or_each_epoch(how: Any, features: str, depth: int, anew: bool) -> None:
    below = (rbm(), rbm(2, 2))[:depth]
    data = layer_data(below=below, how=how, features=features)
    first, second, again = shown(data, 1), shown(data, 2), shown(data, 1)
    assert torch.equal(first, again)
    assert torch.equal(first, second) is not anew
    # A run that goes on in epoch 2 sees what the whole run saw there.
    assert torch.equal(shown(layer_data(below=below, how=how, features=features), 2), second)


@pytest.mark.parametrize("how", ["sample", "fixed"])
def test_pixels_are_on_as_often_as_they_are_bright(how: Any) -> None:
    raw = torch.tensor([[0, 51, 255]], dtype=torch.uint8).expand(40_000, 3)
    mean = shown(layer_data(raw, how=how), 1).mean(0)
    assert mean[[0, 2]].tolist() == [0.0, 1.0]
    assert abs(mean[1].item() - 0.2) < 5 * (0.2 * 0.8 / 40_000) ** 0.5


@pytest.mark.parametrize("chunk", [7, 10_000])
def test_features_are_means_of_means(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dbn.pretraining.layer_data.ROWS_AT_ONCE", chunk)
    lower, upper = rbm(), rbm(2, 2, seed=1)
    features = shown(layer_data(below=(lower, upper)), 1)
    assert_close(features, upper.up(lower.up(BYTES.float() / 255)), rtol=0, atol=1e-6)


def test_features_are_samples_of_samples() -> None:
    lower, upper = rbm(), rbm(2, 2, seed=1)
    raw = BYTES[:1].expand(40_000, 3)
    draws = shown(layer_data(raw, below=(lower, upper), features="sample"), 1)
    assert set(draws.unique().tolist()) == {0.0, 1.0}
    states = torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * 2)
    p = lower.up(BYTES[:1].float() / 255)
    weight = (p * states + (1 - p) * (1 - states)).prod(1)
    exact = weight @ upper.up(states)
    assert ((draws.mean(0) - exact).abs() < 5 * (exact * (1 - exact) / 40_000).sqrt()).all()


def test_features_of_binary_pixels() -> None:
    below = rbm()
    features = shown(layer_data(below=(below,), how="threshold"), 1)
    assert_close(features, below.up((BYTES > 127).float()))


def test_moments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dbn.pretraining.layer_data.ROWS_AT_ONCE", 7)
    mean, variance = layer_data().moments()
    x = BYTES.double() / 255
    assert_close(mean, x.mean(0).float())
    assert_close(variance, x.var(0, correction=0).float())


def test_what_was_not_prepared_is_not_given() -> None:
    with pytest.raises(RuntimeError, match=r"prepare\(\) comes before batch\(\)"):
        layer_data(how="sample").batch(SOME)
