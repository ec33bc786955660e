"""Autoencoders of stacks against the stacks themselves, and of linear ones against matrix algebra."""

import pytest
import torch
from enumeration import make_stack, rng
from torch import nn
from torch.nn import functional as F
from torch.testing import assert_close

from dbn.errors import InputError
from dbn.models.autoencoder import reconstruction_loss

B, G = "bernoulli", "gaussian"


@pytest.mark.parametrize("kinds", [(B, B), (B, B, G), (G, B), (G, G), (B, G, B), (G, B, B, G)])
def test_it_reconstructs_as_the_stack_up_and_down(kinds: tuple[str, ...]) -> None:
    stack = make_stack(kinds)
    x = torch.rand(7, stack.sizes[0], generator=rng(), dtype=torch.float64)
    autoencoder = stack.to_autoencoder()
    assert_close(autoencoder.encode(x), stack.up(x), rtol=1e-12, atol=1e-12)
    assert_close(autoencoder(x), stack.down(stack.up(x)), rtol=1e-12, atol=1e-12)


def test_one_of_gaussian_units_is_an_affine_map() -> None:
    """x̂ = Λ_v⁻¹(Wᵀ Λ_h⁻¹(W x + c) + b)."""
    stack = make_stack((G, G))
    rbm = stack.layers[0]
    x = torch.randn(5, 2, generator=rng(1), dtype=torch.float64)
    upwards, downwards = torch.diag(1 / rbm.hidden.precision), torch.diag(1 / rbm.visible.precision)  # type: ignore[arg-type]
    codes = (x @ rbm.weight.T + rbm.hidden.bias) @ upwards
    autoencoder = stack.to_autoencoder()
    assert [type(module) for module in autoencoder.modules() if not list(module.children())] == [nn.Linear] * 2
    assert_close(autoencoder.encode(x), codes)
    assert_close(autoencoder(x), (codes @ rbm.weight + rbm.visible.bias) @ downwards)


def test_its_modules_are_those_of_hinton_and_salakhutdinov() -> None:
    autoencoder = make_stack((B, B, G)).to_autoencoder()
    assert [type(each) for each in autoencoder.encoder] == [nn.Linear, nn.Sigmoid, nn.Linear]
    assert [type(each) for each in autoencoder.decoder] == [nn.Linear, nn.Sigmoid] * 2


def test_training_it_leaves_the_stack_alone_and_unties_the_weights() -> None:
    stack = make_stack((B, B, G)).requires_grad_(False)
    before = {name: value.clone() for name, value in stack.state_dict().items()}
    x = torch.rand(20, 3, generator=rng(), dtype=torch.float64)
    autoencoder = stack.to_autoencoder()
    optimizer = torch.optim.SGD(autoencoder.parameters(), 0.5)
    first = F.mse_loss(autoencoder(x), x)
    for _ in range(50):
        optimizer.zero_grad()
        F.mse_loss(autoencoder(x), x).backward()
        optimizer.step()
    assert F.mse_loss(autoencoder(x), x) < first
    assert not torch.allclose(autoencoder.encoder[0].weight, autoencoder.decoder[-2].weight.T)  # type: ignore[union-attr, arg-type, operator]
    assert all(torch.equal(value, before[name]) for name, value in stack.state_dict().items())


def test_making_one_draws_no_global_random_numbers() -> None:
    state = torch.get_rng_state()
    make_stack((B, G)).to_autoencoder()
    assert torch.equal(torch.get_rng_state(), state)


def test_double_rectified_units_are_no_end_of_an_autoencoder() -> None:
    with pytest.raises(InputError, match="no autoencoder ends with the values of drelu units: use other"):
        make_stack(("drelu", B)).to_autoencoder()
    assert make_stack((B, "drelu")).to_autoencoder()(torch.zeros(2, 3, dtype=torch.float64)).shape == (2, 3)


def test_losses_are_cross_entropy_and_squared_error() -> None:
    outputs, x = torch.randn(4, 3, generator=rng(), dtype=torch.float64), torch.rand(4, 3, dtype=torch.float64)
    p = outputs.sigmoid()
    assert_close(reconstruction_loss(outputs, x, "sigmoid"), -(x * p.log() + (1 - x) * (1 - p).log()).sum())
    assert_close(reconstruction_loss(outputs, x, "identity"), ((x - outputs) ** 2).sum())
    with pytest.raises(InputError, match="sigmoid or identity outputs, not tanh"):
        reconstruction_loss(outputs, x, "tanh")
