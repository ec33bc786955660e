"""The stack: what it hands to a network, what it says of itself, and what it draws."""

import json
from typing import Any

import pytest
import torch
from enumeration import CHANCE, Z, conditional, make_rbm, make_stack, marginals, rng, z_scores
from scipy import stats
from torch import Tensor, nn
from torch.testing import assert_close

from dbn.errors import InputError
from dbn.models.dbn import DBN, copy_layers
from dbn.models.mlp import linear_layers
from dbn.models.rbm import RBM
from dbn.models.scaling import Scaling
from dbn.models.units.bernoulli import Bernoulli
from dbn.models.units.drelu import DoubleReLU
from dbn.models.units.gaussian import Gaussian

B, G, C, R, D = "bernoulli", "gaussian", "binomial(trials=3)", "relu", "drelu"
STACKS = [(B, B), (B, B, B), (G, B, B), (B, G, B), (G, B, G), (B, B, B, B), (G, G), (B, C, C), (R, C, B), (D, D, B)]

each_stack = pytest.mark.parametrize("kinds", STACKS, ids="-".join)


def grey(stack: DBN, n: int = 10) -> Tensor:
    return torch.rand(n, stack.sizes[0], generator=rng(1))


@each_stack
def test_up_applies_every_layer_and_down_goes_back(kinds: tuple[str, ...]) -> None:
    stack = make_stack(kinds).float()
    x = v = grey(stack)
    for depth, rbm in enumerate(stack.layers, start=1):
        v = rbm.hidden.mean(v @ rbm.weight.T)
        assert_close(stack.up(x, depth), v)
    assert_close(stack.up(x), v)
    assert torch.equal(stack.up(x, 0), x)
    for rbm in reversed(stack.layers):
        v = rbm.visible.mean(v @ rbm.weight)
    assert_close(stack.down(stack.up(x)), v)


@each_stack
def test_the_network_seeded_from_a_stack_gives_the_features_of_the_stack(kinds: tuple[str, ...]) -> None:
    stack = make_stack(kinds).float()
    x = grey(stack)
    encoder, network = stack.encoder(), stack.to_mlp(n_classes=5)
    assert_close(encoder(x) * stack.layers[-1].hidden.mean_factor, stack.up(x), rtol=1e-6, atol=1e-6)
    assert torch.equal(network[:-1](x), encoder(x))
    sigmoid: list[type[nn.Module]] = [nn.Linear, nn.Sigmoid]
    activations = {B: sigmoid, C: sigmoid, G: sigmoid[:1], D: [nn.Linear, DoubleReLU]}
    expected = [module for kind in kinds[1:] for module in activations[kind]]
    assert [type(module) for module in encoder] == expected
    assert [type(module) for module in network] == [*expected, nn.Linear]
    assert network(x).shape == (10, 5)


def test_no_layer_is_left_out_of_the_network_not_even_the_top_one() -> None:
    stack = make_stack((B, B, B, B)).float()
    layers = linear_layers(stack.to_mlp(n_classes=2))
    assert len(layers) == len(stack.layers) + 1
    for rbm, layer in zip(stack.layers, layers, strict=False):
        assert torch.equal(layer.weight, rbm.weight)
        assert torch.equal(layer.bias, rbm.hidden.bias)


@each_stack
def test_the_network_holds_copies(kinds: tuple[str, ...]) -> None:
    stack = make_stack(kinds).float()
    before = {name: tensor.clone() for name, tensor in stack.state_dict().items()}
    with torch.no_grad():
        for parameter in stack.to_mlp(n_classes=2).parameters():
            parameter.fill_(7.0)
    assert_close(dict(stack.state_dict()), before, rtol=0, atol=0)


def test_the_output_layer_is_xavier_uniform_and_follows_its_seed() -> None:
    stack = DBN([RBM(Bernoulli(4), Bernoulli(400))])
    first, again, other = (linear_layers(stack.to_mlp(200, seed))[-1] for seed in (0, 0, 1))
    bound = (6 / (400 + 200)) ** 0.5
    assert 0.99 * bound < first.weight.abs().max() <= bound
    assert torch.equal(first.bias, torch.zeros(200))
    assert torch.equal(first.weight, again.weight)
    assert not torch.equal(first.weight, other.weight)


def test_nothing_of_a_stack_moves_the_global_random_state() -> None:
    stack = make_stack((B, B, B)).float()
    before = torch.get_rng_state()
    stack.to_mlp(n_classes=2)
    stack.sample(3, steps=2)
    DBN.from_description(stack.description())
    assert torch.equal(torch.get_rng_state(), before)


@each_stack
@pytest.mark.parametrize("standardized", [False, True])
def test_a_description_and_the_weights_make_the_same_stack(kinds: tuple[str, ...], standardized: bool) -> None:
    layers = make_stack(kinds).layers
    width = layers[0].visible.size
    shift, spread = torch.arange(width) + 0.5, torch.arange(width) + 2.0
    known: Any = {"stored": "bytes", "values": (0.0, 5.0), "columns": [f"c{place}" for place in range(width)]}
    scaling = Scaling(1.0, shift, spread, **known) if standardized else Scaling(255.0)
    stack = DBN(layers, scaling, (1, 1, width)).float()
    again = DBN.from_description(json.loads(json.dumps(stack.description())))
    again.load_state_dict(stack.state_dict())
    x = torch.randint(0, 6 if standardized else 256, (60, width), generator=rng(2), dtype=torch.uint8)
    assert torch.equal(again.up(again.scale(x)), stack.up(stack.scale(x)))
    assert torch.equal(again.scale(x), (x - shift) / spread if standardized else x / 255)
    assert again.description() == stack.description()
    assert again.image_shape == (1, 1, width)


def test_a_stack_without_a_picture_says_so() -> None:
    stack = make_stack((B, G))
    assert stack.description() == {
        "units": [{"kind": "bernoulli", "size": 3}, {"kind": "gaussian", "size": 2}],
        "divisor": 255.0,
        "standardised": False,
        "image_shape": None,
    }
    assert DBN.from_description(stack.description()).image_shape is None


def test_layers_that_do_not_fit_are_refused() -> None:
    with pytest.raises(InputError, match="4 bernoulli hidden units cannot feed 5 bernoulli visible units"):
        DBN([RBM(Bernoulli(3), Bernoulli(4)), RBM(Bernoulli(5), Bernoulli(2))])
    with pytest.raises(InputError, match=r"bernoulli.*gaussian"):
        DBN([RBM(Bernoulli(3), Bernoulli(4)), RBM(Gaussian(4), Bernoulli(2))])


def test_a_network_that_does_not_fit_is_refused() -> None:
    stack = make_stack((B, B, B)).float()
    with pytest.raises(InputError, match="at least 2 classes, not 1"):
        stack.to_mlp(n_classes=1)
    with pytest.raises(InputError, match="a stack of 2 layers does not fit into a network of 1 hidden"):
        copy_layers(stack, [nn.Linear(3, 3)])
    with pytest.raises(InputError, match=r"layer 2 of the stack is \(3, 3\), of the network \(4, 3\)"):
        copy_layers(stack, [nn.Linear(3, 3), nn.Linear(3, 4)])


def test_down_samples_between_the_layers_with_a_generator_only() -> None:
    stack = make_stack((G, B, G, B))
    h = torch.randint(0, 2, (20, 3), generator=rng(3)).double()
    bottom, middle, top = stack.layers
    generator = rng(4)
    between = middle.sample_visible(top.sample_visible(h, generator), generator)
    assert_close(stack.down(h, rng(4)), bottom.down(between))
    assert_close(stack.down(h), bottom.down(middle.down(top.down(h))))


@torch.no_grad()
def first_hidden(stack: DBN) -> tuple[Tensor, Tensor]:
    """States of the first hidden layer and their exact probabilities under the DBN, (S, H_1) and (S,)."""
    visible, hidden = marginals(stack.layers[-1])
    states, p = hidden if len(stack.layers) == 1 else visible
    for rbm in reversed(stack.layers[1:-1]):
        lower, log_p = conditional(rbm.visible, rbm.visible_field(states))
        states, p = lower, p @ log_p.softmax(1)
    return states, p


@each_stack
def test_samples_follow_the_distribution_of_the_stack(kinds: tuple[str, ...]) -> None:
    stack = make_stack(kinds)
    states, p = first_hidden(stack)
    with torch.no_grad():
        means = stack.layers[0].down(states)
    images = stack.sample(20_000, steps=60, generator=rng(5))
    assert z_scores(images, means, p).abs().max() < Z
    if kinds[1] == B:
        distance, state = torch.cdist(images, means).min(1)
        assert distance.max() < 1e-6
        counts = torch.bincount(state, minlength=len(p))
        chi_square = float(((counts - p * len(images)) ** 2 / (p * len(images))).sum())
        assert stats.chi2.sf(chi_square, len(p) - 1) > CHANCE


def test_the_exact_distribution_of_a_stack_adds_up() -> None:
    """The tool of the test above: a top layer that undoes nothing leaves the marginal of the lower RBM."""
    rbm = make_rbm(B, B)
    mirrored = RBM(Bernoulli(3), Bernoulli(3)).double()
    mirrored.load_state_dict(
        {
            "weight": rbm.weight.T,
            "visible.bias": rbm.hidden.bias,
            "hidden.bias": rbm.visible.bias,
        }
    )
    states, p = first_hidden(DBN([rbm, mirrored]))
    assert_close((states, p), marginals(rbm)[1])


@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize("steps", [1, 4])
def test_samples_begin_at_the_data_given(depth: int, steps: int) -> None:
    """Saturated layers that hand on their input, one place further, keep it for ever."""
    stack = DBN(RBM(Bernoulli(5), Bernoulli(5)) for _ in range(depth))
    with torch.no_grad():
        for rbm in stack.layers:
            rbm.weight.copy_(200 * torch.eye(5).roll(1, 0))
            rbm.visible.bias.fill_(-100.0)
            rbm.hidden.bias.fill_(-100.0)
    x = torch.randint(0, 2, (12, 5), generator=rng(6)).float()
    assert torch.equal(stack.sample(12, steps=steps, start=x), x)


def test_samples_follow_the_generator_and_without_one_are_always_the_same() -> None:
    stack = make_stack((B, G, B))
    assert torch.equal(stack.sample(4, steps=3), stack.sample(4, steps=3))
    assert torch.equal(stack.sample(4, steps=3, generator=rng(7)), stack.sample(4, steps=3, generator=rng(7)))
    assert not torch.equal(stack.sample(4, steps=3, generator=rng(7)), stack.sample(4, steps=3, generator=rng(8)))


def test_starting_points_of_another_number_are_refused() -> None:
    stack = make_stack((B, B))
    with pytest.raises(InputError, match="3 samples need 3 starting points, not 2"):
        stack.sample(3, start=torch.zeros(2, 3, dtype=torch.float64))


def test_sizes_name_every_layer() -> None:
    assert make_stack((G, B, G)).sizes == [2, 3, 2]
