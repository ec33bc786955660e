"""The closed-form gradient against its slow twin, and against the exact likelihood."""

import pytest
import torch
from enumeration import PAIRS, joint, make_rbm, marginals, rng
from torch import Tensor
from torch.testing import assert_close

from dbn.gradient import set_gradient
from dbn.rbm import RBM

each_pair = pytest.mark.parametrize(("visible", "hidden"), PAIRS)


def gradients(rbm: RBM) -> dict[str, Tensor]:
    return {name: parameter.grad.clone() for name, parameter in rbm.named_parameters() if parameter.grad is not None}


def by_autograd(rbm: RBM, objective: Tensor) -> dict[str, Tensor]:
    names, parameters = zip(*rbm.named_parameters(), strict=True)
    return dict(zip(names, torch.autograd.grad(objective, parameters), strict=True))


def grey(rbm: RBM, n: int, seed: int) -> Tensor:
    return torch.rand(n, rbm.visible.size, dtype=torch.float64, generator=rng(seed))


@each_pair
@pytest.mark.parametrize("n_negatives", [1, 6, 11])
@pytest.mark.parametrize("field_given", [False, True])
@pytest.mark.parametrize("binary", [False, True])
def test_equals_autograd_of_the_free_energy_difference(
    visible: str, hidden: str, n_negatives: int, field_given: bool, binary: bool
) -> None:
    rbm = make_rbm(visible, hidden)
    data, negatives = grey(rbm, 6, 1), grey(rbm, n_negatives, 2)
    if binary:
        data, negatives = data.round(), negatives.round()
    set_gradient(rbm, data, negatives, rbm.hidden_field(data).detach() if field_given else None)
    slow = by_autograd(rbm, rbm.free_energy(data).mean() - rbm.free_energy(negatives).mean())
    assert_close(gradients(rbm), slow)


@each_pair
def test_under_the_model_itself_it_is_the_gradient_of_the_exact_likelihood(visible: str, hidden: str) -> None:
    """The gradient is linear in the distribution of the negatives, so p(v) weighs that of each state alone."""
    rbm = make_rbm(visible, hidden)
    data = grey(rbm, 5, 3).round()
    (states, p), _ = marginals(rbm)
    total = {name: torch.zeros_like(parameter) for name, parameter in rbm.named_parameters()}
    for state, probability in zip(states, p, strict=True):
        set_gradient(rbm, data, state[None])
        for name, gradient in gradients(rbm).items():
            total[name] = total[name] + probability * gradient
    log_likelihood = -rbm.free_energy(data).mean() - joint(rbm)[2].flatten().logsumexp(0)
    exact = by_autograd(rbm, -log_likelihood)
    assert_close({name: gradient.detach() for name, gradient in total.items()}, exact, rtol=1e-7, atol=1e-9)


@each_pair
def test_the_hidden_field_given_is_the_one_used(visible: str, hidden: str) -> None:
    rbm = make_rbm(visible, hidden)
    data, negatives = grey(rbm, 6, 4), grey(rbm, 6, 5)
    set_gradient(rbm, data, negatives, rbm.hidden_field(negatives).detach())
    zero = torch.zeros_like(rbm.hidden.bias)
    assert_close(rbm.hidden.bias.grad, zero)
    set_gradient(rbm, data, negatives)
    assert not torch.allclose(gradients(rbm)["hidden.bias"], zero)


@each_pair
def test_it_replaces_what_was_there_and_keeps_the_buffer(visible: str, hidden: str) -> None:
    rbm = make_rbm(visible, hidden)
    data, negatives = grey(rbm, 6, 4), grey(rbm, 6, 5)
    set_gradient(rbm, data, negatives)
    first = gradients(rbm)
    buffers = [parameter.grad for parameter in rbm.parameters()]
    for buffer in buffers:
        assert buffer is not None
        buffer.fill_(torch.nan)
    set_gradient(rbm, data, negatives)
    assert_close(gradients(rbm), first, rtol=0, atol=0)
    assert all(parameter.grad is buffer for parameter, buffer in zip(rbm.parameters(), buffers, strict=True))


@each_pair
def test_it_vanishes_where_negatives_are_the_data(visible: str, hidden: str) -> None:
    rbm = make_rbm(visible, hidden)
    data = grey(rbm, 6, 6)
    set_gradient(rbm, data, data.flip(0))
    for gradient in gradients(rbm).values():
        assert_close(gradient, torch.zeros_like(gradient))
