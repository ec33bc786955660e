"""Gradients by hand, held to autograd's bit for bit."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from tiny import splits
from torch import Tensor, nn

from dbn.config.finetuning import Finetuning
from dbn.finetuning import trainer as module
from dbn.finetuning.backward import SLOPES, is_known, set_gradients
from dbn.finetuning.dropout import with_dropout
from dbn.finetuning.problem import Problem
from dbn.finetuning.trainer import Trainer
from dbn.initializers.arms import parse_arm
from dbn.models.matmul import LinearByProduct
from dbn.models.mlp import ACTIVATIONS, mlp
from dbn.models.scaling import Scaling
from dbn.rng import stream

CONFIG = Finetuning(init=("he_normal",), labels=24, valid_labels=9, seeds=1, epochs=3, batch_size=7)
SPLITS = splits()


def entropy(y: Tensor) -> Callable[[Tensor], Tensor]:
    return lambda logits: nn.functional.cross_entropy(logits, y, reduction="sum") / 4.0


@pytest.mark.parametrize("sizes", [(9, 6, 5, 3), (9, 3), (784, 500, 16)], ids=["small", "linear", "oneDNN"])
@pytest.mark.parametrize("activation", [*ACTIVATIONS, "identity"])
@pytest.mark.parametrize("dropout", [0.0, 0.4])
@pytest.mark.parametrize("frozen", [False, True])
def test_the_gradients_are_autograds(sizes: tuple[int, ...], activation: str, dropout: float, frozen: bool) -> None:
    generator = stream(3, "weights")
    network = mlp(sizes, activation)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_(0, 2 * sizes[0] ** -0.5, generator=generator)
    network[:-1].requires_grad_(not frozen)
    rows = 20 if sizes[0] == 784 else 5
    x = torch.randn(rows, sizes[0], generator=generator)
    loss = entropy(torch.randint(3, (rows,), generator=generator))
    learner = with_dropout(network, dropout, dropout, generator).train()
    assert is_known(learner)
    generator.manual_seed(8)
    with LinearByProduct():
        expected = loss(learner(x))
    expected.backward()
    grads = [parameter.grad for parameter in network.parameters()]
    for parameter in network.parameters():
        parameter.grad = torch.ones_like(parameter)  # of an earlier step: replaced, or taken from what is frozen
    generator.manual_seed(8)
    found = set_gradients(learner, x, loss)
    assert torch.equal(found, expected)
    assert not found.requires_grad
    assert sum(grad is not None for grad in grads) == (2 if frozen else 2 * len(sizes) - 2)
    for parameter, grad in zip(network.parameters(), grads, strict=True):
        if parameter.grad is None or grad is None:
            assert parameter.grad is grad
        else:
            assert grad.count_nonzero()
            assert torch.equal(parameter.grad, grad)


def test_an_example_that_is_not_finite_gives_autograds_gradients() -> None:
    network, x, loss = mlp((4, 3, 2), "relu"), torch.full((2, 4), torch.inf), entropy(torch.tensor([0, 1]))
    value = set_gradients(network, x, loss)
    grads = [parameter.grad for parameter in network.parameters()]
    network.zero_grad()
    loss(network(x)).backward()
    assert value.isnan()
    for parameter, grad in zip(network.parameters(), grads, strict=True):
        torch.testing.assert_close(grad, parameter.grad, rtol=0, atol=0, equal_nan=True)


def test_every_activation_is_known_and_others_are_not() -> None:
    assert set(ACTIVATIONS.values()) <= set(SLOPES)
    assert not is_known(mlp((4, 3, 2), "relu", normalize=True))
    assert not is_known(nn.Sequential(nn.Linear(4, 3), nn.Softplus()))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"optimizer": "adam", "learning_rate": (0.01,), "refit": True},
        {"input_dropout": 0.2, "hidden_dropout": 0.5, "max_norm": 1.0, "average": 0.8, "weight_decay": 0.01},
        {"freeze_epochs": 1, "layer_rates": (0.1, 0.3, 1.0)},
    ],
    ids=["plain", "adam", "everything", "frozen"],
)
def test_a_fit_is_the_one_of_autograd(options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    made = Problem(SPLITS, Scaling(), (7, 5), (), replace(CONFIG, **options))
    found = []
    for by_hand in (True, False):
        if not by_hand:
            monkeypatch.setattr(module, "is_known", lambda network: False)
        fit = Trainer(made, parse_arm("he_normal"), 0.1, 0)
        losses = [record["train_loss"] for record in fit.epochs()]
        assert fit.is_by_hand == by_hand
        found.append((losses, fit.network.state_dict(), fit.best_weights))
    (losses, *weights), (slow_losses, *slow_weights) = found
    assert losses == slow_losses
    for state, slow in zip(weights, slow_weights, strict=True):
        assert all(torch.equal(state[name], slow[name]) for name in slow)


def test_batch_normalization_is_left_to_autograd() -> None:
    made = Problem(SPLITS, Scaling(), (7, 5), (), replace(CONFIG, init=("batch_norm",), batch_size=8))
    assert not Trainer(made, parse_arm("batch_norm"), 0.1, 0).is_by_hand
