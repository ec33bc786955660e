"""The closed-form gradient against its slow twin, and against the exact likelihood."""

import copy
from collections.abc import Callable

import pytest
import torch
from enumeration import KINDS, PAIRS, joint, make_rbm, marginals, rng
from torch import Tensor
from torch.func import grad, jacrev
from torch.testing import assert_close

from dbn.errors import InputError
from dbn.likelihood.gradient import Offsets, set_gradient
from dbn.models.rbm import RBM
from dbn.storage.tensors import load_state, save_state

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


def under_the_model(rbm: RBM, data: Tensor, offsets: Offsets | None = None) -> tuple[dict[str, Tensor], ...]:
    """The gradient with the model's expectation for negatives, and autograd of the exact likelihood.

    It is linear in the distribution of the negatives, so p(v) weighs that of each state alone.
    """
    (states, p), _ = marginals(rbm)
    states, p = states[p > 1e-14], p[p > 1e-14]
    total = {name: torch.zeros_like(parameter) for name, parameter in rbm.named_parameters()}
    for state, probability in zip(states, p, strict=True):
        set_gradient(rbm, data, state[None], offsets=offsets)
        for name, gradient in gradients(rbm).items():
            total[name] = total[name] + probability * gradient
    log_likelihood = -rbm.free_energy(data).mean() - joint(rbm)[2].flatten().logsumexp(0)
    return {name: gradient.detach() for name, gradient in total.items()}, by_autograd(rbm, -log_likelihood)


@each_pair
def test_under_the_model_itself_it_is_the_gradient_of_the_exact_likelihood(visible: str, hidden: str) -> None:
    rbm = make_rbm(visible, hidden)
    assert_close(*under_the_model(rbm, grey(rbm, 5, 3).round()), rtol=1e-7, atol=1e-9)


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


@each_pair
@pytest.mark.parametrize("offsets_given", [False, True])
def test_it_gives_the_means_of_the_data(visible: str, hidden: str, offsets_given: bool) -> None:
    rbm = make_rbm(visible, hidden)
    data, negatives = grey(rbm, 6, 4), grey(rbm, 11, 5)
    means = set_gradient(rbm, data, negatives, offsets=make_offsets(rbm) if offsets_given else None)
    assert_close(means.visible, data.mean(0))
    assert_close(means.hidden, rbm.up(data).mean(0).detach())


def make_offsets(rbm: RBM, slide: float = 0.0) -> Offsets:
    mu, lam = grey(rbm, 1, 7)[0], torch.rand(rbm.hidden.size, dtype=torch.float64, generator=rng(8))
    return Offsets(mu, lam, slide)


COUPLED = ("weight", "visible.bias", "hidden.bias")
"""The parameters that the change to offsets mixes."""


def flat(values: dict[str, Tensor]) -> Tensor:
    return torch.cat([values[name].flatten() for name in COUPLED]).detach()


def centered_energy(rbm: RBM, offsets: Offsets, parameters: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
    """−(h − λ)·W·(v − μ) − b·v − c·h, of one v and one h."""
    n_visible, n_hidden = rbm.visible.size, rbm.hidden.size
    w, b, c = parameters.split([n_hidden * n_visible, n_visible, n_hidden])

    def energy(v: Tensor, h: Tensor) -> Tensor:
        return -(h - offsets.hidden) @ w.view(n_hidden, n_visible) @ (v - offsets.visible) - b @ v - c @ h

    return energy


def ordinary(rbm: RBM, offsets: Offsets, parameters: Tensor) -> Tensor:
    """The W, b, c of the same model without offsets, read off the slopes of its energy at v = 0, h = 0."""
    energy = centered_energy(rbm, offsets, parameters)
    v, h = torch.zeros_like(offsets.visible), torch.zeros_like(offsets.hidden)
    slope_v, slope_h = grad(energy, argnums=0), grad(energy, argnums=1)
    return -torch.cat([jacrev(slope_h)(v, h).flatten(), slope_v(v, h), slope_h(v, h)])


@each_pair
def test_centered_it_is_the_plain_one_times_the_change_of_parameters_and_its_transpose(
    visible: str, hidden: str
) -> None:
    rbm = make_rbm(visible, hidden)
    data, negatives, offsets = grey(rbm, 6, 1), grey(rbm, 11, 2), make_offsets(rbm)
    set_gradient(rbm, data, negatives)
    plain = gradients(rbm)
    set_gradient(rbm, data, negatives, offsets=offsets)
    centered = gradients(rbm)

    m = jacrev(lambda parameters: ordinary(rbm, offsets, parameters))(torch.zeros_like(flat(plain)))
    assert_close(flat(centered), m @ m.T @ flat(plain))
    assert not torch.allclose(flat(centered), flat(plain))
    for name in plain.keys() - set(COUPLED):
        assert_close(centered[name], plain[name], rtol=0, atol=0)


@each_pair
def test_the_change_of_parameters_leaves_the_model(visible: str, hidden: str) -> None:
    """That is, it moves every −E by the same number: the proof above is about one model written in two ways."""
    rbm = make_rbm(visible, hidden)
    offsets, parameters = make_offsets(rbm), flat(dict(rbm.named_parameters()))
    energy = centered_energy(rbm, offsets, parameters)
    without = centered_energy(
        rbm,
        Offsets(torch.zeros_like(offsets.visible), torch.zeros_like(offsets.hidden)),
        ordinary(rbm, offsets, parameters),
    )
    (v, _), (h, _) = marginals(rbm)
    shifts = torch.stack([energy(x, y) - without(x, y) for x, y in zip(v, h, strict=False)])
    assert shifts[0].abs() > 1e-3
    assert_close(shifts, shifts[:1].expand_as(shifts))


@each_pair
def test_the_centered_weight_gradient_is_that_of_centered_copies(visible: str, hidden: str) -> None:
    rbm = make_rbm(visible, hidden)
    data, negatives, offsets = grey(rbm, 6, 1), grey(rbm, 11, 2), make_offsets(rbm)
    set_gradient(rbm, data, negatives, offsets=offsets)

    def outer(v: Tensor) -> Tensor:
        return (rbm.up(v) - offsets.hidden).T @ (v - offsets.visible) / len(v)

    assert_close(gradients(rbm)["weight"], (outer(negatives) - outer(data)).detach())


@each_pair
def test_offsets_of_zero_give_the_plain_gradient(visible: str, hidden: str) -> None:
    rbm = make_rbm(visible, hidden)
    data, negatives = grey(rbm, 6, 1), grey(rbm, 11, 2)
    set_gradient(rbm, data, negatives)
    plain = gradients(rbm)
    zero = Offsets(torch.zeros_like(rbm.visible.bias), torch.zeros_like(rbm.hidden.bias), slide=0.0)
    set_gradient(rbm, data, negatives, offsets=zero)
    assert_close(gradients(rbm), plain, rtol=0, atol=0)


@each_pair
def test_centered_it_still_climbs_the_exact_likelihood(visible: str, hidden: str) -> None:
    rbm = make_rbm(visible, hidden)
    centered, exact = under_the_model(rbm, grey(rbm, 5, 3).round(), make_offsets(rbm))
    squared_length = sum(float(gradient.square().sum()) for gradient in exact.values())
    product = sum(float((centered[name] * exact[name]).sum()) for name in exact)
    assert product > 0.01 * squared_length


@torch.no_grad()
def mirrored(rbm: RBM, side: str) -> RBM:
    """The model of 1 − x in place of x on one side: h·W·v and b·v say the same of 1 − v by −W, −b and c + W·1."""
    mirror = copy.deepcopy(rbm)
    mirror.weight.neg_()
    mirror.get_submodule(side).bias.neg_()
    other, across = ("hidden", rbm.weight) if side == "visible" else ("visible", rbm.weight.T)
    mirror.get_submodule(other).bias.add_(across.sum(1))
    return mirror


@torch.no_grad()
def trained(rbm: RBM, side: str, flip: bool, centered: bool) -> RBM:
    """PCD for some steps, on data, chains and uniform numbers that are mirrored on one side, or not."""
    flipped = {name: flip and name == side for name in ("visible", "hidden")}

    def seen(x: Tensor) -> Tensor:
        return 1 - x if flipped["visible"] else x

    def drawn(name: str, field: Tensor, seed: int) -> Tensor:
        units = rbm.get_submodule(name)
        if name != side:
            return units.sample(field, rng(seed))
        uniform = torch.empty_like(field).uniform_(generator=rng(seed))
        return ((1 - uniform if flip else uniform) < units.mean(field)).to(field)

    rbm = mirrored(rbm, side) if flip else copy.deepcopy(rbm)
    mean = torch.full_like(rbm.visible.bias, 0.3)
    offsets = Offsets.start(rbm, seen(mean), slide=0.2) if centered else None
    optimizer = torch.optim.SGD(rbm.parameters(), lr=0.05, momentum=0.9)
    chain = seen(grey(rbm, 7, 9).round())
    for step in range(8):
        h = drawn("hidden", rbm.hidden_field(chain), 50 + step)
        chain = drawn("visible", rbm.visible_field(h), 80 + step)
        set_gradient(rbm, seen(grey(rbm, 5, 20 + step).square().round()), chain, offsets=offsets)
        optimizer.step()
    return rbm


@pytest.mark.parametrize(
    ("side", "visible", "hidden"),
    [
        *(("visible", "bernoulli", kind) for kind in KINDS),
        *(("hidden", kind, "bernoulli") for kind in KINDS),
    ],
)
def test_centered_training_on_mirrored_data_gives_the_mirrored_model(side: str, visible: str, hidden: str) -> None:
    rbm = make_rbm(visible, hidden)
    straight, flipped = (trained(rbm, side, flip, centered=True) for flip in (False, True))
    assert_close(flipped.state_dict(), mirrored(straight, side).state_dict())
    assert (straight.weight - rbm.weight).abs().max() > 0.01

    straight, flipped = (trained(rbm, side, flip, centered=False) for flip in (False, True))
    assert (flipped.weight - mirrored(straight, side).weight).abs().max() > 0.01


@each_pair
def test_offsets_slide_to_the_batch_before_it_is_centered(visible: str, hidden: str) -> None:
    rbm = make_rbm(visible, hidden)
    data, negatives, offsets = grey(rbm, 6, 1), grey(rbm, 11, 2), make_offsets(rbm, slide=0.25)
    mu, lam = offsets.visible.clone(), offsets.hidden.clone()
    set_gradient(rbm, data, negatives, offsets=offsets)
    found = gradients(rbm)
    assert_close(offsets.visible, 0.75 * mu + 0.25 * data.mean(0))
    assert_close(offsets.hidden, 0.75 * lam + 0.25 * rbm.up(data).mean(0).detach())
    set_gradient(rbm, data, negatives, offsets=Offsets(offsets.visible, offsets.hidden, slide=0.0))
    assert_close(found, gradients(rbm), rtol=0, atol=0)


@each_pair
def test_offsets_start_at_the_data_s_mean_and_at_what_it_causes(visible: str, hidden: str) -> None:
    rbm = make_rbm(visible, hidden)
    mean = grey(rbm, 1, 3)[0].float()
    offsets = Offsets.start(rbm, mean)
    assert_close(offsets.visible, mean.double())
    assert_close(offsets.hidden, rbm.up(mean.double()[None])[0].detach())
    assert not offsets.hidden.requires_grad


def test_offsets_go_on_where_they_were_saved(tmp_path) -> None:
    rbm = make_rbm("bernoulli", "bernoulli")
    data, negatives = grey(rbm, 6, 1), grey(rbm, 11, 2)
    offsets, resumed = make_offsets(rbm, slide=0.25), make_offsets(rbm, slide=0.25)
    set_gradient(rbm, data, negatives, offsets=offsets)
    state = offsets.state()
    save_state(tmp_path / "state", state)
    set_gradient(rbm, negatives, data, offsets=offsets)
    expected = gradients(rbm)
    for source in (load_state(tmp_path / "state"), state):
        resumed.load_state(source)
        set_gradient(rbm, negatives, data, offsets=resumed)
        assert_close(gradients(rbm), expected, rtol=0, atol=0)


@pytest.mark.parametrize("slide", [-0.1, 1.5, float("nan")])
def test_a_slide_that_is_no_fraction_is_refused(slide: float) -> None:
    with pytest.raises(InputError, match=f"from 0 to 1, not {slide}"):
        Offsets(torch.zeros(2), torch.zeros(3), slide)
