"""SGD with less around its step is torch's, to the bit."""

from typing import Any

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from dbn.training.optimizers import set_option
from dbn.training.sgd import SGD

OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "decay": {"weight_decay": 0.01},
    "momentum": {"momentum": 0.9, "weight_decay": 0.01},
    "nesterov": {"momentum": 0.5, "nesterov": True},
    "not fused": {"momentum": 0.5, "fused": False},
    "upwards, damped": {"momentum": 0.5, "dampening": 0.25, "maximize": True},
}


def trained(kind: type[torch.optim.SGD], **options: Any) -> tuple[list[nn.Parameter], dict[str, Any]]:
    """Six steps, the first without momentum; the last parameter has no gradient in the first three."""
    generator = torch.Generator().manual_seed(0)
    parameters = [nn.Parameter(torch.randn(shape, generator=generator)) for shape in ((37, 19), (19,), (5,))]
    optimizer = kind(
        [{"params": parameters[:1]}, {"params": parameters[1:2], "weight_decay": 0.0}, {"params": parameters[2:]}],
        **{"lr": 0.1, "fused": True} | options,
    )
    for number in range(6):
        for parameter in parameters if number > 2 else parameters[:2]:
            parameter.grad = torch.randn(parameter.shape, generator=generator)
        rises = "nesterov" not in options  # which torch refuses without momentum
        set_option(
            optimizer, lr=0.1 / (number + 1), momentum=0.0 if rises and not number else optimizer.defaults["momentum"]
        )
        assert optimizer.step() is None
    return parameters, optimizer.state_dict()


@pytest.mark.parametrize("name", OPTIONS)
def test_parameters_and_state_are_those_of_torch(name: str) -> None:
    (found, state), (wanted, other) = (trained(kind, **OPTIONS[name]) for kind in (SGD, torch.optim.SGD))
    assert_close(found, wanted, rtol=0, atol=0)
    assert_close(state, other, rtol=0, atol=0)


def test_a_closure_is_called_with_gradients() -> None:
    parameter = nn.Parameter(torch.ones(3))
    optimizer = SGD([parameter], lr=0.1, fused=True)

    def loss() -> torch.Tensor:
        value = parameter.square().sum()
        value.backward()
        return value

    assert optimizer.step(loss).item() == 3
    assert_close(parameter.detach(), torch.full((3,), 0.8))


def test_gradients_are_off_within_a_step_only() -> None:
    parameter = nn.Parameter(torch.ones(3))
    parameter.grad = torch.ones(3)
    SGD([parameter], lr=0.1, fused=True).step()
    assert parameter.requires_grad
    assert parameter.is_leaf
    assert torch.is_grad_enabled()
