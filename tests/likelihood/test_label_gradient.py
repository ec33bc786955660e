"""The gradient of a label model against autograd through the losses that it is of."""

import pytest
import torch
from torch import Tensor

from dbn.likelihood.gradient import Offsets, set_gradient
from dbn.likelihood.label_gradient import Weights, set_label_gradient
from dbn.models.label_model import class_fields, class_scores, label_rbm
from dbn.models.rbm import RBM
from dbn.models.units.naming import make_units
from tests.enumeration import KINDS, SIZES, randomize, rng

CLASSES = 3


def make(features: str, hidden: str, labels: str = "0120") -> tuple[RBM, Tensor, Tensor]:
    """An RBM, rows with the labels of the text, – for none, and states for negatives."""
    rbm = label_rbm(features, SIZES[features], make_units(hidden, SIZES[hidden]), CLASSES).double()
    randomize(rbm, 0, 0.3)
    field = torch.randn(len(labels) + 5, rbm.visible.size, generator=rng(1), dtype=torch.float64)
    states = rbm.visible.sample(field, rng(2)).detach()
    rows, negatives = states[: len(labels)].clone(), states[len(labels) :]
    rows[:, -CLASSES:] = 0
    for row, label in zip(rows, labels, strict=True):
        if label != "-":
            row[int(label) - CLASSES] = 1
    return rbm, rows, negatives


def gradients(rbm: RBM) -> dict[str, Tensor]:
    return {name: parameter.grad.clone() for name, parameter in rbm.named_parameters() if parameter.grad is not None}


def loss(rbm: RBM, rows: Tensor, negatives: Tensor, weights: Weights) -> Tensor:
    """Free energies alone, row by row."""
    total = rbm.free_energy(negatives).mean() * -weights.generative * len(rows)
    for row in rows:
        x, y = row[:-CLASSES], row[-CLASSES:]
        all_classes = torch.cat([x.expand(CLASSES, -1), torch.eye(CLASSES, dtype=x.dtype)], 1)
        energies = rbm.free_energy(all_classes)
        if y.any():
            total = total + weights.discriminative * -torch.log_softmax(-energies, 0)[y.argmax()]
            total = total + weights.generative * energies[y.argmax()]
        else:
            total = total - weights.generative * torch.logsumexp(-energies, 0)
    return total / len(rows)


@pytest.mark.parametrize("hidden", KINDS)
@pytest.mark.parametrize("features", ["bernoulli", "gaussian", "spin"])
@pytest.mark.parametrize("labels", ["0120", "01--2", "---"])
@pytest.mark.parametrize("weights", [(1.0, 0.0), (0.0, 1.0), (1.0, 0.3)])
def test_the_gradient_is_that_of_the_loss(
    features: str, hidden: str, labels: str, weights: tuple[float, float]
) -> None:
    rbm, rows, negatives = make(features, hidden, labels)
    wanted = torch.autograd.grad(
        loss(rbm, rows, negatives, Weights(*weights)), list(rbm.parameters()), allow_unused=True, materialize_grads=True
    )
    set_label_gradient(rbm, rows, CLASSES, negatives, Weights(*weights))
    for (name, found), exact in zip(gradients(rbm).items(), wanted, strict=True):
        torch.testing.assert_close(found, exact, rtol=0, atol=1e-10, msg=lambda text, name=name: f"{name}: {text}")


def test_with_labels_the_generative_gradient_is_that_of_any_rbm() -> None:
    rbm, rows, negatives = make("bernoulli", "bernoulli")
    means = set_label_gradient(rbm, rows, CLASSES, negatives, Weights(0.0, 1.0), Offsets.start(rbm, rows.mean(0)))
    found = gradients(rbm)
    plain = set_gradient(rbm, rows, negatives, offsets=Offsets.start(rbm, rows.mean(0)))
    for name, exact in gradients(rbm).items():
        torch.testing.assert_close(found[name], exact)
    torch.testing.assert_close(means.visible, plain.visible)
    torch.testing.assert_close(means.hidden, plain.hidden)


def test_a_generative_weight_of_0_leaves_the_discriminative_gradient() -> None:
    """Whatever the negative samples are."""
    rbm, rows, negatives = make("bernoulli", "bernoulli", "01-2")
    set_label_gradient(rbm, rows, CLASSES, negatives, Weights(1.0, 0.0))
    found = gradients(rbm)
    set_label_gradient(rbm, rows, CLASSES, negatives[:0], Weights(1.0, 0.0))
    assert all(found[name].equal(each) for name, each in gradients(rbm).items())
    fields = class_fields(rbm, rows[:, :-CLASSES], CLASSES)
    p, given = class_scores(rbm, fields).softmax(1), rows[:, -CLASSES:]
    exact = ((p - given) * given.sum(1, keepdim=True)).mean(0)
    torch.testing.assert_close(found["visible.bias"][-CLASSES:], exact)
    assert found["visible.bias"][:-CLASSES].abs().max() < 1e-15


@pytest.mark.parametrize("paired", [False, True])
@pytest.mark.parametrize("weights", [(1.0, 0.0), (0.0, 1.0), (1.0, 0.3)])
def test_whole_weights_of_rows_are_repeated_rows(weights: tuple[float, float], paired: bool) -> None:
    rbm, rows, negatives = make("gaussian", "bernoulli", "01-2")
    negatives, times = negatives[:4] if paired else negatives, torch.tensor([3, 1, 2, 4])
    several = [x.repeat_interleave(times, 0) if paired or x is rows else x for x in (rows, negatives)]
    offsets = [Offsets.start(rbm, rows.mean(0)) for _ in range(2)]
    plain = set_label_gradient(rbm, several[0], CLASSES, several[1], Weights(*weights), offsets[0])
    wanted = gradients(rbm)
    mean_1 = times / times.double().mean()
    means = set_label_gradient(rbm, rows, CLASSES, negatives, Weights(*weights), offsets[1], mean_1, paired=paired)
    torch.testing.assert_close(gradients(rbm), wanted)
    torch.testing.assert_close(means, plain)
