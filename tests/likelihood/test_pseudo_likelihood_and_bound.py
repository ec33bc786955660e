"""Pseudo-likelihoods and the bound of a stack, against sums over every state."""

import pytest
import torch
from enumeration import (
    AXES,
    CONTINUOUS,
    DISCRETE,
    PAIRS,
    Z,
    conditional,
    joint,
    make_rbm,
    make_stack,
    mirrored,
    rng,
    support,
)
from torch import Tensor
from torch.testing import assert_close

from dbn.errors import InputError
from dbn.likelihood import pseudo_likelihood
from dbn.likelihood.dbn_bound import dbn_bound, layer_bounds
from dbn.likelihood.pseudo_likelihood import pseudo_log_likelihood
from dbn.models.dbn import DBN
from dbn.models.rbm import RBM
from dbn.models.units.base import Units
from dbn.rng import stream

B, G = "bernoulli", "gaussian"
STACKS = [(B, B, B), (G, B, B), (B, G, B), (B, B, G), (B, B, B, B), (G, B, G, B)]

each_discrete = pytest.mark.parametrize("pair", [pair for pair in PAIRS if pair[0] in DISCRETE], ids="-".join)
each_stack = pytest.mark.parametrize("kinds", STACKS, ids="-".join)


# Pseudo-likelihood


@torch.no_grad()
def slow_log_conditionals(rbm: RBM, v: Tensor) -> Tensor:
    """log p(v_i | v_−i) of each site from the free energies of whole states, (B, sites)."""
    states, found = AXES[rbm.visible.spec][0], []
    for columns in sites(rbm):
        changed = v.repeat(len(states), 1, 1)
        changed[:, :, columns] = states.view(len(states), 1, -1)
        log_p = -rbm.free_energy(changed.flatten(0, 1)).view(len(states), -1)
        found.append(-rbm.free_energy(v) - log_p.logsumexp(0))
    return torch.stack(found, 1)


def sites(rbm: RBM) -> list[slice]:
    """The columns of each visible site."""
    width = AXES[rbm.visible.spec][0][0].numel()
    return [slice(start, start + width) for start in range(0, rbm.visible.size, width)]


@each_discrete
@pytest.mark.parametrize("elements", [1, 10_000])
def test_pseudo_likelihood_is_the_sum_of_the_conditionals(
    pair: tuple[str, str], elements: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pseudo_likelihood, "MAX_ELEMENTS", elements)
    rbm = make_rbm(*pair)
    v = support(rbm.visible)[0]
    assert_close(pseudo_log_likelihood(rbm, v), slow_log_conditionals(rbm, v).sum(1))


@each_discrete
def test_the_conditionals_follow_from_the_joint_distribution(pair: tuple[str, str]) -> None:
    """The tool of the tests here: p(v_i | v_−i) by sums over h and v_i of the enumerated p(v, h)."""
    rbm = make_rbm(*pair)
    v, _, log_p = joint(rbm)
    log_p = log_p.detach().logsumexp(1)
    for i, columns in enumerate(sites(rbm)):
        others = v.clone()
        others[:, columns] = 0
        same = (others[:, None] == others).all(2)
        assert_close(
            slow_log_conditionals(rbm, v)[:, i], log_p - log_p.expand_as(same).where(same, -torch.inf).logsumexp(1)
        )


def test_independent_pixels_have_their_likelihood_for_a_pseudo_likelihood() -> None:
    rbm = make_rbm(B, B)
    with torch.no_grad():
        rbm.weight.zero_()
    v, log_p = conditional(rbm.visible, torch.zeros(1, 3, dtype=torch.float64))
    assert_close(pseudo_log_likelihood(rbm, v), log_p[0].log_softmax(0).detach())


def test_saturated_units_give_finite_values() -> None:
    rbm = make_rbm(B, B).float()
    with torch.no_grad():
        rbm.visible.bias.fill_(300.0)
    assert_close(pseudo_log_likelihood(rbm, torch.zeros(1, 3)), torch.tensor([-900.0]), rtol=0.01, atol=0)


@pytest.mark.parametrize("kind", sorted(CONTINUOUS))
def test_continuous_data_have_no_pseudo_likelihood(kind: str) -> None:
    rbm = make_rbm(kind, B)
    v = torch.zeros(2, rbm.visible.size, dtype=torch.float64)
    with pytest.raises(InputError, match=f"{rbm.visible.kind} units are continuous and have no pseudo-likelihood"):
        pseudo_log_likelihood(rbm, v)


@pytest.mark.parametrize("value", [0.5, -1.0, 2.0, float("nan")])
def test_grey_pixels_have_no_pseudo_likelihood(value: float) -> None:
    v = torch.tensor([[0.0, 1.0, value]], dtype=torch.float64)
    with pytest.raises(InputError, match=r"states of 0, 1 only, not .* in row .*: binarize"):
        pseudo_log_likelihood(make_rbm(B, B), v)


@pytest.mark.parametrize("shape", [(2, 4), (2, 2), (3,), (1, 2, 3)])
def test_rows_of_another_width_are_refused(shape: tuple[int, ...]) -> None:
    stack, v = make_stack((B, B)), torch.zeros(shape, dtype=torch.float64)
    rbm = stack.layers[0]
    for measure in (
        lambda: pseudo_log_likelihood(rbm, v),
        lambda: dbn_bound(stack, v, 0.0),
    ):
        with pytest.raises(InputError, match=r"3 bernoulli units need rows of 3 values, not a tensor of shape \("):
            measure()


# The bound of a stack


@torch.no_grad()
def log_z(rbm: RBM) -> float:
    return float(joint(rbm)[2].flatten().logsumexp(0))


def log_density(units: Units, x: Tensor, field: Tensor) -> Tensor:
    """log p(x | field) of every x under every field, (N, B)."""
    return x @ field.T - units.energy(x)[:, None] - units.log_partition(field)


@torch.no_grad()
def exact_log_p(stack: DBN, x: Tensor) -> Tensor:
    """log p(x) by sums over every state of every hidden layer, (B,)."""
    top = stack.layers[-1]
    if len(stack.layers) == 1:
        return -top.free_energy(x) - log_z(top)
    h, log_weight = support(top.visible)
    log_mass = -top.free_energy(h) - log_z(top) + log_weight
    for rbm in reversed(stack.layers[1:-1]):
        lower, log_p = conditional(rbm.visible, rbm.visible_field(h))
        log_mass = (log_p.log_softmax(1) + log_mass[:, None]).logsumexp(0)
        h = lower
    rbm = stack.layers[0]
    return (log_density(rbm.visible, x, rbm.visible_field(h)) + log_mass).logsumexp(1)


@torch.no_grad()
def exact_bound(stack: DBN, x: Tensor) -> Tensor:
    """E_q[log p(x, h_1, …) − log q(h_1, …)] as the definition has it, from the top down, (B,)."""
    *layers, top = stack.layers
    below = [x, *(support(rbm.hidden)[0] for rbm in layers)]
    value = -top.free_energy(below[-1]) - log_z(top)
    for rbm, v in zip(reversed(layers), reversed(below[:-1]), strict=True):
        h, log_q = conditional(rbm.hidden, rbm.hidden_field(v))
        log_q = log_q.log_softmax(1)
        log_p = log_density(rbm.visible, v, rbm.visible_field(h))
        value = (log_q.exp() * (value + log_p - log_q + support(rbm.hidden)[1])).sum(1)
    return value


def x_of(stack: DBN) -> Tensor:
    """A few visible states that are not far out, (8, V)."""
    states = support(stack.layers[0].visible)[0]
    nearest = states.square().sum(1).argsort(stable=True)[:: max(1, len(states) // 200)]
    return states[nearest[:8]]


@each_stack
def test_every_number_of_layers_has_its_bound_and_it_lies_below_log_p(kinds: tuple[str, ...]) -> None:
    stack = make_stack(kinds)
    x = x_of(stack)
    n = 4000
    draws = layer_bounds(stack, x.repeat(n, 1), rng(2), samples=1).view(len(stack.layers), n, len(x))
    for depth in range(1, len(stack.layers) + 1):
        lower = DBN(stack.layers[:depth])
        found = draws[depth - 1] - log_z(lower.layers[-1])
        exact, log_p = exact_bound(lower, x), exact_log_p(lower, x)
        if depth == 1:
            assert_close(found, log_p.expand_as(found))
            continue
        assert ((found.mean(0) - exact).abs() < Z * found.std(0) / n**0.5).all()
        assert (exact < log_p).all()


@each_stack
def test_the_enumerated_stack_is_a_distribution(kinds: tuple[str, ...]) -> None:
    """The tool of the test above: p(x) sums to 1."""
    stack = make_stack(kinds)
    x, log_weight = support(stack.layers[0].visible)
    assert_close((exact_log_p(stack, x) + log_weight).exp().sum().item(), 1.0)


@pytest.mark.parametrize("pair", PAIRS, ids="-".join)
def test_a_layer_that_mirrors_the_one_below_keeps_its_likelihood_draw_by_draw(pair: tuple[str, str]) -> None:
    """p(h) of the upper RBM is the lower one's own, so that log p(x, h) − log q(h | x) = log p(x) for every h."""
    rbm = make_rbm(*pair)
    stack = DBN([rbm, mirrored(rbm), rbm])
    x = x_of(stack)
    log_p = -rbm.free_energy(x) - log_z(rbm)
    assert_close(dbn_bound(stack, x, log_z(rbm), samples=1), log_p)
    assert_close(exact_log_p(DBN(stack.layers[:2]), x), log_p)


@each_stack
def test_samples_are_averaged(kinds: tuple[str, ...]) -> None:
    stack = make_stack(kinds)
    x, generator = x_of(stack), rng(4)
    one_by_one = torch.stack([layer_bounds(stack, x, generator, samples=1) for _ in range(3)])
    assert_close(layer_bounds(stack, x, rng(4), samples=3), one_by_one.mean(0))
    assert one_by_one.std(0).max() > 0


@each_stack
def test_the_bound_is_that_of_all_layers_less_log_z_and_follows_its_seed(kinds: tuple[str, ...]) -> None:
    stack = make_stack(kinds)
    x = x_of(stack)
    found = dbn_bound(stack, x, 1.5, samples=3, seed=2)
    assert_close(found, layer_bounds(stack, x, stream(2, "DBN bound"), samples=3)[-1] - 1.5)
    assert torch.equal(found, dbn_bound(stack, x, 1.5, samples=3, seed=2))
    assert not torch.equal(found, dbn_bound(stack, x, 1.5, samples=3, seed=3))


def test_the_bound_of_one_layer_draws_nothing() -> None:
    stack, generator = make_stack((G, B)), rng(5)
    state = generator.get_state()
    x = x_of(stack)
    assert_close(layer_bounds(stack, x, generator)[0] - log_z(stack.layers[0]), exact_log_p(stack, x))
    assert torch.equal(generator.get_state(), state)


def test_a_bound_without_samples_is_refused() -> None:
    stack = make_stack((B, B, B))
    with pytest.raises(InputError, match="at least one sample of its hidden layers, not 0"):
        dbn_bound(stack, x_of(stack), 0.0, samples=0)
