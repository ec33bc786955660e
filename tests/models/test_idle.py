"""Stacks that have hardly left their start."""

import pytest
import torch
from tiny import pictures

import dbn
from dbn.models import RBM, Bernoulli, Gaussian
from dbn.models.idle import idle_layers, idle_sentence

X = torch.from_numpy(pictures()[0]).flatten(1)


def test_a_stack_after_two_updates_is_idle_and_a_trained_one_is_not() -> None:
    few = dbn.pretrain(X, hidden=[12, 6], epochs=1, batch_size=100)
    many = dbn.pretrain(X, hidden=[12, 6], epochs=60, batch_size=10)
    assert idle_layers(few, few.scale(X)) == [1, 2]
    assert idle_layers(many, many.scale(X)) == []


def test_python_says_so_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    dbn.pretrain(X, hidden=[12], epochs=1, batch_size=100)
    assert [record.message for record in caplog.records] == [idle_sentence([1])]
    caplog.clear()
    dbn.pretrain(X, hidden=[12], epochs=60, batch_size=10)
    assert not [record for record in caplog.records if "hardly left" in record.message]


def test_units_without_bounds_are_judged_by_their_weights() -> None:
    generator = torch.Generator().manual_seed(0)
    rbm = RBM(Gaussian(20), Gaussian(8)).requires_grad_(False)
    x = torch.randn(50, 20, generator=generator)
    for std, idle in ((0.01, [1]), (0.05, [])):
        rbm.weight.normal_(std=std, generator=generator)
        assert idle_layers(dbn.DBN([rbm]), x) == idle


def test_units_that_are_always_off_are_idle() -> None:
    rbm = RBM(Bernoulli(20), Bernoulli(8)).requires_grad_(False)
    rbm.weight.normal_(generator=torch.Generator().manual_seed(0))
    x = torch.rand(50, 20).round()
    assert idle_layers(dbn.DBN([rbm]), x) == []
    rbm.hidden.bias.fill_(-30.0)
    assert idle_layers(dbn.DBN([rbm]), x) == [1]


def test_the_sentence() -> None:
    assert idle_sentence([]) == ""
    assert "the hidden units of layer 2 give nearly" in idle_sentence([2])
    assert "the hidden units of layers 1 and 3 give nearly" in idle_sentence([1, 3])
