"""Weights of rows in the gradient: whole numbers are repeated rows, and a batch is unbiased."""

import pytest
import torch
from enumeration import PAIRS, make_rbm, rng
from torch import Tensor
from torch.testing import assert_close

from dbn.likelihood.gradient import GlobalBatch, Offsets, set_gradient
from dbn.models.rbm import RBM

TIMES = torch.tensor([3, 1, 2, 4])
WEIGHTS = TIMES.double() / TIMES.double().mean()

each_pair = pytest.mark.parametrize(("visible", "hidden"), PAIRS)


def gradients(rbm: RBM) -> list[Tensor]:
    return [parameter.grad.clone() for parameter in rbm.parameters() if parameter.grad is not None]


def rows(rbm: RBM, n: int, seed: int) -> Tensor:
    return torch.rand(n, rbm.visible.size, dtype=torch.float64, generator=rng(seed))


def offsets(rbm: RBM, *, centered: bool) -> Offsets | None:
    return Offsets.start(rbm, torch.full((rbm.visible.size,), 0.3, dtype=torch.float64), 0.5) if centered else None


@each_pair
@pytest.mark.parametrize("centered", [False, True])
@pytest.mark.parametrize("paired", [False, True])
def test_whole_weights_are_repeated_rows(visible: str, hidden: str, centered: bool, paired: bool) -> None:
    rbm = make_rbm(visible, hidden)
    data, negatives = rows(rbm, 4, 1), rows(rbm, 4 if paired else 7, 2)
    several = data.repeat_interleave(TIMES, 0)
    used = offsets(rbm, centered=centered)
    plain = set_gradient(rbm, several, negatives.repeat_interleave(TIMES, 0) if paired else negatives, offsets=used)
    wanted = gradients(rbm)
    mine = offsets(rbm, centered=centered)
    means = set_gradient(rbm, data, negatives, offsets=mine, weights=WEIGHTS, paired=paired)
    assert_close(gradients(rbm), wanted)
    assert_close(means, plain)
    if used is not None and mine is not None:
        assert_close(mine.state(), used.state())
    set_gradient(rbm, data, negatives)
    assert not torch.allclose(gradients(rbm)[0], wanted[0])


@pytest.mark.parametrize("paired", [False, True])
def test_gradients_of_batches_average_to_that_of_all_rows(paired: bool) -> None:
    rbm = make_rbm("gaussian", "bernoulli")
    data, negatives = rows(rbm, 4, 1), rows(rbm, 4, 2)
    set_gradient(rbm, data, negatives, weights=WEIGHTS, paired=paired)
    wanted, total = gradients(rbm), [torch.zeros_like(each) for each in rbm.parameters()]
    for part in (slice(0, 2), slice(2, 4)):
        set_gradient(rbm, data[part], negatives[part] if paired else negatives, weights=WEIGHTS[part], paired=paired)
        total = [have + each / 2 for have, each in zip(total, gradients(rbm), strict=True)]
    assert_close(total, wanted)


@pytest.mark.parametrize("paired", [False, True])
def test_shares_of_a_batch_add_up(paired: bool) -> None:
    """As of several processes, one of which has a single row."""
    rbm = make_rbm("bernoulli", "gaussian")
    data, negatives = rows(rbm, 4, 1), rows(rbm, 4, 2)
    whole_means = set_gradient(rbm, data, negatives, weights=WEIGHTS, paired=paired)
    wanted, total = gradients(rbm), [torch.zeros_like(each) for each in rbm.parameters()]
    means = [torch.zeros_like(each) for each in whole_means]
    whole = GlobalBatch(4, 4, lambda *_: None, WEIGHTS.sum())
    for part in (slice(0, 1), slice(1, 4)):
        found = set_gradient(rbm, data[part], negatives[part], whole=whole, weights=WEIGHTS[part], paired=paired)
        total = [have + each for have, each in zip(total, gradients(rbm), strict=True)]
        means = [have + each for have, each in zip(means, found, strict=True)]
    assert_close(total, wanted)
    assert_close(means, [*whole_means])


@each_pair
@pytest.mark.parametrize("paired", [False, True])
def test_it_is_that_of_weighted_differences_of_free_energies(visible: str, hidden: str, paired: bool) -> None:
    """Of a batch whose weights do not average 1."""
    rbm = make_rbm(visible, hidden)
    data, negatives, weights = rows(rbm, 4, 1), rows(rbm, 4 if paired else 7, 2), WEIGHTS * 1.7
    means = set_gradient(rbm, data, negatives, weights=weights, paired=paired)
    energies = rbm.free_energy(negatives)
    objective = (weights * (rbm.free_energy(data) - (energies if paired else energies.mean()))).mean()
    assert_close(gradients(rbm), list(torch.autograd.grad(objective, list(rbm.parameters()))))
    values = rbm.visible.statistics(data)["bias"]
    assert_close(means.visible, (weights[:, None] * values).sum(0) / weights.sum())
