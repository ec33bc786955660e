"""The RBM of every pair of unit types against sums over its states."""

import math

import pytest
import torch
from enumeration import DISCRETE, PAIRS, Z, conditional, joint, make_rbm, randomize, rng, support
from torch import Tensor
from torch.testing import assert_close

from dbn.errors import InputError
from dbn.models.rbm import RBM
from dbn.models.units.bernoulli import Bernoulli
from dbn.models.units.gaussian import Gaussian
from dbn.models.units.naming import units_of

each_pair = pytest.mark.parametrize(("visible", "hidden"), PAIRS)


def some(n: int, size: int, seed: int) -> Tensor:
    """States that any unit type accepts: 0 or 1."""
    return torch.randint(0, 2, (n, size), generator=rng(seed)).double()


@each_pair
def test_energy_is_both_sides_minus_their_product(visible: str, hidden: str) -> None:
    rbm = make_rbm(visible, hidden)
    v, h = some(5, rbm.visible.size, 1), some(5, rbm.hidden.size, 2)
    product = torch.einsum("bj,ji,bi->b", h, rbm.weight, v)
    assert_close(rbm.energy(v, h), rbm.visible.energy(v) + rbm.hidden.energy(h) - product)


@each_pair
def test_free_energy_sums_out_the_hidden_units(visible: str, hidden: str) -> None:
    rbm = make_rbm(visible, hidden)
    h, log_weight = support(rbm.hidden)
    for v in torch.rand(4, rbm.visible.size, dtype=torch.float64, generator=rng(1)):
        log_sum = (log_weight - rbm.energy(v.expand(len(h), -1), h)).logsumexp(0)
        assert_close(rbm.free_energy(v[None])[0], -log_sum, rtol=1e-10, atol=1e-10)


@each_pair
def test_free_energy_normalizes(visible: str, hidden: str) -> None:
    rbm = make_rbm(visible, hidden)
    assert rbm.has_partition()
    v, log_weight = support(rbm.visible)
    log_z = joint(rbm)[2].flatten().logsumexp(0)
    assert_close((-rbm.free_energy(v) - log_z + log_weight).exp().sum(), torch.tensor(1.0, dtype=torch.float64))


@each_pair
def test_up_and_down_are_conditional_means(visible: str, hidden: str) -> None:
    rbm = make_rbm(visible, hidden)
    v, h = some(4, rbm.visible.size, 3), some(4, rbm.hidden.size, 4)
    for mean, units, field in (
        (rbm.up(v), rbm.hidden, torch.einsum("ji,bi->bj", rbm.weight, v)),
        (rbm.down(h), rbm.visible, torch.einsum("ji,bj->bi", rbm.weight, h)),
    ):
        states, log_p = conditional(units, field)
        assert_close(mean, log_p.softmax(1) @ states)


@each_pair
def test_gibbs_alternates(visible: str, hidden: str) -> None:
    rbm = make_rbm(visible, hidden)
    v, generator = some(50, rbm.visible.size, 5), rng(6)
    h1 = rbm.sample_hidden(v, generator)
    v1 = rbm.sample_visible(h1, generator)
    v2 = rbm.sample_visible(rbm.sample_hidden(v1, generator), generator)
    assert torch.equal(rbm.gibbs(v, 0, rng(6)), v)
    assert torch.equal(rbm.gibbs(v, 2, rng(6)), v2)


@pytest.mark.parametrize(("strength", "exists"), [(0.0, True), (0.5, True), (0.99, True), (1.01, False), (3.0, False)])
def test_two_gaussian_sides_have_a_partition_while_their_joint_precision_is_positive(
    strength: float, exists: bool
) -> None:
    rbm = make_rbm("gaussian", "gaussian", seed=3)
    precision_h, precision_v = rbm.hidden.natural()["precision"], rbm.visible.natural()["precision"]
    norm = torch.linalg.matrix_norm(rbm.weight / (precision_h[:, None] * precision_v).sqrt(), 2)
    with torch.no_grad():
        rbm.weight.mul_(strength / norm)
    joint_precision = torch.diag(torch.cat([precision_v, precision_h]))
    joint_precision[2:, :2], joint_precision[:2, 2:] = -rbm.weight, -rbm.weight.T
    assert bool(torch.linalg.eigvalsh(joint_precision).min() > 0) == exists
    assert rbm.has_partition() == exists


@pytest.mark.parametrize(("visible", "hidden"), [("relu", "relu"), ("relu", "gaussian"), ("gaussian", "relu")])
def test_a_finite_z_beside_rectified_units_is_one_in_every_direction_that_they_have(visible: str, hidden: str) -> None:
    """−hWv may not outweigh the squares; inhibition alone never does where both sides have no negative values."""
    v, h = torch.randn(2, 4000, 2, dtype=torch.float64, generator=rng(1))
    v, h = (abs(x) if kind == "relu" else x for x, kind in ((v, visible), (h, hidden)))
    found = []
    for seed in range(150):
        rbm = make_rbm(visible, hidden, seed=seed)
        with torch.no_grad():
            rbm.weight.mul_(6.0 * seed / 150)
            squares = 0.5 * (v**2 @ rbm.visible.precision + h**2 @ rbm.hidden.precision)
            steepest = float((squares - (rbm.hidden_field(v) * h).sum(1)).div(squares).min())
        assert steepest > 0 or not rbm.has_partition()
        weaker = torch.linalg.matrix_norm(
            rbm.weight / rbm.hidden.precision.sqrt()[:, None] / rbm.visible.precision.sqrt(), 2
        )
        found.append((rbm.has_partition(), bool(weaker < 1)))
    assert {(True, True), (True, False), (False, False)} == set(found)
    with torch.no_grad():
        rbm.weight.fill_(50.0)
    with pytest.raises(InputError, match=f"may have no finite Z, as its 2 {visible} visible and 2 {hidden} hidden"):
        rbm.check_partition()


@pytest.mark.parametrize(("visible", "hidden"), [("drelu", "drelu"), ("drelu", "gaussian"), ("relu", "drelu")])
@torch.no_grad()
def test_a_z_that_is_called_finite_beside_double_rectified_units_is(visible: str, hidden: str) -> None:
    v, h = 1e6 * torch.randn(2, 4000, 2, dtype=torch.float64, generator=rng(1))
    v = v.abs() if visible == "relu" else v
    found = set()
    for seed in range(60):
        rbm = make_rbm(visible, hidden, seed=seed)
        rbm.weight.mul_(6.0 * seed / 60)
        assert rbm.energy(v, h).min() > 0 or not rbm.has_partition()
        found.add(rbm.has_partition())
    assert found == {True, False}
    with pytest.raises(InputError, match=f"may have no finite Z, as its 2 {visible} visible and 2 {hidden} hidden"):
        rbm.check_partition()


def test_two_gaussian_sides_have_the_partition_of_their_joint_gaussian() -> None:
    rbm = make_rbm("gaussian", "gaussian")
    precision = torch.block_diag(*(torch.diag(side.natural()["precision"]) for side in (rbm.visible, rbm.hidden)))
    precision[2:, :2], precision[:2, 2:] = -rbm.weight, -rbm.weight.T
    bias = torch.cat([rbm.visible.bias, rbm.hidden.bias])
    exact = 0.5 * (bias @ torch.linalg.solve(precision, bias) + 4 * math.log(2 * math.pi) - torch.logdet(precision))
    v, log_weight = support(rbm.visible)
    assert_close((log_weight - rbm.free_energy(v)).logsumexp(0), exact, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize(("visible", "hidden"), [pair for pair in PAIRS if {*DISCRETE} & {*pair}])
def test_a_bounded_side_has_a_partition_however_strong_the_weights(visible: str, hidden: str) -> None:
    rbm = make_rbm(visible, hidden)
    with torch.no_grad():
        rbm.weight.mul_(100.0)
    assert rbm.has_partition()


@each_pair
@torch.no_grad()
def test_turned_it_has_the_energy_of_the_sides_exchanged_and_follows_them(visible: str, hidden: str) -> None:
    rbm = make_rbm(visible, hidden)
    transposed = rbm.transposed()
    v, h = some(5, rbm.visible.size, 1), some(5, rbm.hidden.size, 2)
    for parameter in rbm.parameters():
        parameter.add_(0.1)
        assert_close(transposed.energy(h, v), rbm.energy(v, h))
    v, log_weight = support(rbm.visible)
    energy = rbm.energy(v.repeat(len(h), 1), h.repeat_interleave(len(v), 0)).view(len(h), -1)
    assert_close(transposed.free_energy(h), -(log_weight - energy).logsumexp(1))


def test_initialize_starts_at_the_marginals_with_small_weights() -> None:
    rbm = RBM(Gaussian(300), Bernoulli(200))
    mean, variance = torch.linspace(-1, 1, 300), torch.linspace(0.5, 2, 300)
    rbm.initialize(mean, variance, 1000, rng(7))
    weight, n = rbm.weight.detach(), rbm.weight.numel()
    assert abs(float(weight.mean())) < Z * 0.01 / n**0.5
    assert abs(float((weight**2).mean()) / 0.01**2 - 1) < Z * (2 / n) ** 0.5
    assert torch.equal(rbm.hidden.bias, torch.zeros(200))
    assert_close(rbm.visible.mean(torch.zeros(1, 300)), mean[None])
    assert_close(1 / rbm.visible.natural()["precision"], variance)
    again = RBM(Gaussian(300), Bernoulli(200))
    again.initialize(mean, variance, 1000, rng(7))
    assert torch.equal(rbm.weight, again.weight)


@pytest.mark.parametrize(("visible", "hidden"), PAIRS)
def test_turned_round_it_gives_the_hidden_units_their_marginal(visible: str, hidden: str) -> None:
    below = make_rbm(visible, hidden)
    upper = RBM(*(units_of(units.description()) for units in (below.hidden, below.visible))).double()
    upper.init_from_transpose(below)
    h, v = (support(units)[0] for units in (below.hidden, below.visible))
    h, v = (states[:: -(-len(states) // 200)] for states in (h, v))  # a grid of two real units has many points
    every_h, every_v = h.repeat_interleave(len(v), 0), v.repeat(len(h), 1)
    assert_close(upper.energy(every_h, every_v), below.energy(every_v, every_h))


def test_further_hidden_units_stay_as_they_were() -> None:
    below, upper = RBM(Bernoulli(3), Bernoulli(4)), RBM(Bernoulli(4), Bernoulli(5))
    for seed, rbm in enumerate((below, upper)):
        randomize(rbm, seed)
    before = {name: value.clone() for name, value in upper.state_dict().items()}
    upper.init_from_transpose(below)
    assert torch.equal(upper.weight[:3], below.weight.T)
    assert torch.equal(upper.weight[3:], before["weight"][3:])
    assert torch.equal(upper.hidden.bias[:3], below.visible.bias)
    assert torch.equal(upper.hidden.bias[3:], before["hidden.bias"][3:])
    assert torch.equal(upper.visible.bias, below.hidden.bias)


@pytest.mark.parametrize("sizes", [(5, 4, 5), (3, 5, 5), (3, 4, 2)])
def test_what_does_not_fit_is_not_turned(sizes: tuple[int, int, int]) -> None:
    below, upper = RBM(Bernoulli(3), Bernoulli(4)), RBM(Bernoulli(sizes[1]), Bernoulli(sizes[2]))
    if sizes == (5, 4, 5):
        below = RBM(Gaussian(3), Bernoulli(4))
    with pytest.raises(InputError, match=r"cannot start as the 3 .* units two layers below: use as many"):
        upper.init_from_transpose(below)
