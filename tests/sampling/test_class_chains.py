"""Chains that each keep a class against sums over all states of a label model."""

import pytest
import torch
from torch import Tensor

from dbn.errors import InputError
from dbn.likelihood.label_gradient import Weights, set_label_gradient
from dbn.models import RBM, Bernoulli
from dbn.models.label_model import label_rbm, label_units
from dbn.sampling import ClassChains
from tests.enumeration import CHANCE, Z, histogram_chance, randomize, rng, support, z_scores

CLASSES, FEATURES, EACH = 3, 4, 4000


def make(seed: int = 0) -> RBM:
    rbm = label_rbm("bernoulli", FEATURES, Bernoulli(3), CLASSES).double()
    randomize(rbm, seed, 0.9)
    return rbm


def states_and_chances(rbm: RBM) -> tuple[Tensor, Tensor]:
    """Every x, and a differentiable p(x | y), (C, X)."""
    x = support(Bernoulli(FEATURES))[0]
    labels = torch.eye(CLASSES, dtype=x.dtype)
    energies = [rbm.free_energy(torch.cat([x, y.expand(len(x), CLASSES)], 1)) for y in labels]
    return x, torch.stack(energies).neg().softmax(1)


def rows_of(labels: Tensor) -> Tensor:
    y = torch.nn.functional.one_hot(labels, CLASSES).double()
    return torch.cat([torch.zeros(len(labels), FEATURES, dtype=torch.float64), y], 1)


def negatives(chains: ClassChains, rbm: RBM, rows: Tensor) -> Tensor:
    return chains.negatives(rbm, rows, rows[:, :0], rng(1)).states


def test_each_row_has_a_state_of_its_class_with_the_distribution_of_that_class() -> None:
    rbm = make()
    labels = torch.arange(CLASSES).repeat(EACH)
    drawn = negatives(ClassChains(steps=30, chains=CLASSES * EACH), rbm, rows_of(labels))
    assert drawn[:, FEATURES:].argmax(1).equal(labels)
    x, p = states_and_chances(rbm)
    for place in range(CLASSES):
        of_class = drawn[labels == place, :FEATURES]
        assert histogram_chance(of_class, x, p[place].detach()) > CHANCE
        assert z_scores(of_class, x, p[place].detach()).abs().max() < Z
        other = p[(place + 1) % CLASSES].detach()  # which the draws can tell apart
        assert histogram_chance(of_class, x, other) < CHANCE


def test_the_generative_part_is_the_gradient_of_log_p_of_rows_given_their_class() -> None:
    """Also where classes are not equally frequent: the negative part of each row is that of its own class."""
    rbm = make(1)
    labels = torch.tensor([0, 1, 1, 1, 2, 1]).repeat(EACH // 2)
    drawn = negatives(ClassChains(steps=30, chains=CLASSES * 2 * EACH), rbm, rows_of(labels))
    rows = rows_of(labels)
    rows[:, 0] = 1.0
    set_label_gradient(rbm, rows, CLASSES, drawn, Weights(0.0, 1.0), paired=True)
    found = {name: parameter.grad.clone() for name, parameter in rbm.named_parameters() if parameter.grad is not None}
    x, p = states_and_chances(rbm)
    place = int((x == torch.eye(FEATURES, dtype=x.dtype)[0]).all(1).nonzero())
    wanted = torch.autograd.grad(-(p[:, place].log()[labels]).mean(), list(rbm.parameters()))
    for (name, _), exact in zip(rbm.named_parameters(), wanted, strict=True):
        error = 0.5 / len(labels) ** 0.5  # the greatest standard error of a mean of values in 0 ... 1
        assert (found[name] - exact).abs().max() < Z * error, name
    assert found["visible.bias"][FEATURES:].abs().max() < 1e-12  # p(x | y) tells nothing of them


def test_chains_go_on_and_more_rows_than_chains_of_a_class_share_them() -> None:
    rbm = make()
    chains = ClassChains(steps=1, chains=4)  # two of each
    first = negatives(chains, rbm, rows_of(torch.tensor([2, 2, 2, 2])))
    kept = chains.state()["v"]
    assert kept.shape == (6, FEATURES + CLASSES)
    assert first.equal(kept[[4, 5, 4, 5]])
    again = ClassChains(steps=1, chains=4)
    again.load_state(chains.state())
    rows = rows_of(torch.tensor([0]))
    assert negatives(again, rbm, rows).equal(negatives(chains, rbm, rows))


def test_units_without_labels_are_refused() -> None:
    assert label_units(make()) == CLASSES
    with pytest.raises(InputError, match="end with no labels: make the RBM with label_rbm"):
        label_units(RBM(Bernoulli(3), Bernoulli(2)))
