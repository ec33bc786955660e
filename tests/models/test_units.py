"""Every unit type against sums over its states."""

import math

import pytest
import torch
from enumeration import (
    AXES,
    CONTINUOUS,
    HIDDEN,
    KINDS,
    MIXED,
    SIZES,
    Z,
    conditional,
    make_units,
    rng,
    support,
    z_scores,
)
from torch import Tensor
from torch.testing import assert_close

from dbn.errors import InputError
from dbn.models.mlp import activation_module
from dbn.models.units import UNITS
from dbn.models.units.base import Units
from dbn.models.units.bernoulli import Bernoulli
from dbn.models.units.gaussian import Gaussian
from dbn.models.units.naming import make_units as units_named

each_kind = pytest.mark.parametrize("kind", KINDS)


def fields(units: Units, n: int = 4, seed: int = 1) -> Tensor:
    return torch.randn(n, units.size, dtype=torch.float64, generator=rng(seed))


def real(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def test_the_table_names_every_type_as_the_type_names_itself() -> None:
    assert all(units.kind == name for name, units in UNITS.items())
    assert set(AXES) == set(SIZES)
    assert {make_units(kind).kind for kind in KINDS} == set(UNITS), "the exact tests leave out a unit type"
    assert [make_units(kind).spec for kind in KINDS] == KINDS


@each_kind
def test_log_partition_is_the_sum_over_states(kind: str) -> None:
    units = make_units(kind)
    field = fields(units)
    assert_close(units.log_partition(field), conditional(units, field)[1].logsumexp(1))


@each_kind
def test_mean_and_expected_statistics_are_averages_over_states(kind: str) -> None:
    units = make_units(kind)
    field = fields(units)
    states, log_p = conditional(units, field)
    p = log_p.softmax(1)
    assert_close(units.mean(field), p @ states)
    expected = units.expected_statistics(field)
    assert expected.keys() == units.natural().keys()
    for name, statistic in units.statistics(states).items():
        assert_close(expected[name], p @ statistic)


@each_kind
def test_mean_is_the_gradient_of_log_partition(kind: str) -> None:
    units = make_units(kind)
    field = fields(units).requires_grad_()
    (gradient,) = torch.autograd.grad(units.log_partition(field).sum(), field)
    assert_close(units.mean(field), gradient)


@each_kind
def test_parameter_gradient_is_the_chain_rule_to_the_parameters_as_held(kind: str) -> None:
    units = make_units(kind)
    field = fields(units)
    names, parameters = zip(*units.named_parameters(), strict=True)
    gradients = torch.autograd.grad(units.log_partition(field).sum(), parameters)
    closed = units.parameter_gradient({name: t.sum(0) for name, t in units.expected_statistics(field).items()})
    assert closed.keys() == set(names)
    for name, gradient in zip(names, gradients, strict=True):
        assert_close(closed[name], gradient)


@each_kind
def test_samples_have_the_moments_of_the_distribution(kind: str) -> None:
    units, generator = make_units(kind), rng(2)
    for field in fields(units):
        states, log_p = conditional(units, field[None])
        x = units.sample(field.expand(20_000, -1), generator)
        assert x.shape == (20_000, units.size)
        assert z_scores(x, states, log_p[0].softmax(0)).abs().max() < Z


@each_kind
def test_samples_follow_the_generator(kind: str) -> None:
    units = make_units(kind)
    field = fields(units, 50)
    assert torch.equal(units.sample(field, rng(3)), units.sample(field, rng(3)))
    assert not torch.equal(units.sample(field, rng(3)), units.sample(field, rng(4)))


def test_every_position_of_a_bernoulli_sample_is_drawn_fairly() -> None:
    """Element by element: home-made random bits may be right on average and wrong in every second place."""
    positions, n = 1001, 4000
    units, generator = Bernoulli(positions), rng(4)
    p = torch.linspace(0.02, 0.98, positions)
    x = units.sample(torch.logit(p).expand(n, -1), generator).double()
    z = (x.mean(0) - p) / (p * (1 - p) / n).sqrt()
    assert z.abs().max() < Z
    spread = (2 / positions) ** 0.5  # of the mean of squared z-scores, which is 1
    assert abs(float((z**2).mean()) - 1) < Z * spread
    centered = (x - p) / (p * (1 - p)).sqrt()
    for neighbour in (centered[:, 1:] * centered[:, :-1], centered[1:] * centered[:-1]):
        assert abs(float(neighbour.mean())) < Z / neighbour.numel() ** 0.5


@each_kind
def test_divergence_is_the_kl_between_units_of_those_means(kind: str) -> None:
    units = make_units(kind)
    field, field_hat = fields(units, seed=5), fields(units, seed=6)
    log_p, log_q = (conditional(units, each)[1].log_softmax(1) for each in (field, field_hat))
    kl = (log_p.exp() * (log_p - log_q)).sum(1)
    x, x_hat = units.mean(field), units.mean(field_hat)
    assert_close(units.divergence(x, x_hat), kl)
    assert_close(units.divergence(x, x), torch.zeros(len(x), dtype=torch.float64), rtol=0, atol=1e-12)


def test_bernoulli_divergence_is_finite_where_a_mean_is_rounded_to_0_or_1() -> None:
    x, x_hat = torch.tensor([[0.0], [1.0], [0.0], [1.0]]), torch.tensor([[0.0], [1.0], [1.0], [0.0]])
    divergence = Bernoulli(1).divergence(x, x_hat)
    assert divergence[:2].max() < 1e-6
    worst = -torch.log(torch.tensor(torch.finfo(torch.float32).eps))
    assert_close(divergence[2:], worst.expand(2))


@pytest.mark.parametrize(
    ("kind", "parameters", "energy"),
    [
        ("bernoulli", {"bias": real(0.5, -2.0)}, [-0.5 * 0.25 + 2 * 1.0]),
        ("gaussian", {"bias": real(0.5, -2.0), "log_precision": real(4.0, 0.5).log()}, [-0.125 + 0.125 + 2 + 0.25]),
        ("spin", {"bias": real(0.5, -2.0)}, [-0.5 * 0.25 + 2 * 1.0]),
        ("categorical(states=2)", {"bias": real(0.5, -2.0)}, [-0.5 * 0.25 + 2 * 1.0]),
    ],
)
def test_energy_by_hand(kind: str, parameters: dict[str, Tensor], energy: list[float]) -> None:
    units = units_named(kind, 2).double()
    units.load_state_dict(parameters)
    assert_close(units.energy(real(0.25, 1.0)[None]), real(*energy))


@each_kind
def test_energy_is_minus_theta_times_statistics(kind: str) -> None:
    units = make_units(kind)
    x = fields(units)
    theta, statistics = units.natural(), units.statistics(x)
    products = torch.cat([theta[name] * statistics[name] for name in theta], 1)
    assert_close(units.energy(x), -products.sum(1))
    assert_close(statistics["bias"], x)


@each_kind
def test_linear_statistics_says_whether_a_mean_may_stand_for_a_sample(kind: str) -> None:
    units = make_units(kind)
    field = fields(units)
    at_mean, expected = units.statistics(units.mean(field)), units.expected_statistics(field)
    assert units.linear_statistics == all(torch.allclose(at_mean[name], expected[name]) for name in expected)


def test_bernoulli_marginals_are_laplace_smoothed() -> None:
    units = Bernoulli(3).double()
    units.fit_marginals(real(0.0, 0.25, 1.0), real(0.0, 0.1875, 0.0), 8)
    assert_close(units.mean(torch.zeros(1, 3)), real(1 / 10, 3 / 10, 9 / 10)[None])


def test_marginals_stay_finite_where_very_many_rows_are_alike() -> None:
    units = Bernoulli(2)
    units.fit_marginals(torch.tensor([0.0, 1.0]), torch.zeros(2), 50_000_000)
    assert_close(units.bias.detach(), torch.tensor([-1.0, 1.0]) * math.log(5e7 + 1))


@pytest.mark.parametrize(
    ("variance", "kept"),
    [
        (real(0.25, 4.0, 2.0), real(0.25, 4.0, 2.0)),
        (real(0.0, 4.0, 0.003), real(0.004, 4.0, 0.004)),  # raised to a thousandth of the greatest
        (real(0.0, 0.0, 0.0), real(1.0, 1.0, 1.0)),
    ],
)
def test_gaussian_marginals_are_reproduced(variance: Tensor, kept: Tensor) -> None:
    units, mean = Gaussian(3).double(), real(-1.0, 0.5, 3.0)
    units.fit_marginals(mean, variance, 8)
    assert_close(units.mean(torch.zeros(1, 3)), mean[None])
    states = units.expected_statistics(torch.zeros(1, 3, dtype=torch.float64))
    assert_close(-2 * states["precision"] - mean**2, kept[None])


@pytest.mark.parametrize("kind", HIDDEN)
def test_as_linear_is_the_mean_as_a_layer_of_a_network(kind: str) -> None:
    units = make_units(kind)
    weight = torch.randn(units.size, 5, dtype=torch.float64, generator=rng(7))
    x = torch.randn(6, 5, dtype=torch.float64, generator=rng(8))
    layer_weight, layer_bias, activation = units.as_linear(weight)
    output = x @ layer_weight.T + layer_bias
    if activation != "identity":
        output = activation_module(activation)(output)
    assert_close(output, units.mean(x @ weight.T))


@each_kind
def test_quadratic_precision_is_how_fast_the_density_falls(kind: str) -> None:
    units = make_units(kind)
    precision = units.quadratic_precision()
    states, _ = support(units)
    if precision is None:
        assert states.abs().max() <= 1
        return
    if not precision.isfinite().all():
        precision = precision.where(precision.isfinite(), 0.0)  # bounded units, whose energy is linear
    x = torch.eye(units.size, dtype=torch.float64)
    curvature = units.energy(x) + units.energy(-x) - 2 * units.energy(torch.zeros_like(x))
    assert_close(precision, curvature)


@each_kind
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.float64])
def test_units_take_the_states_of_their_support(kind: str, dtype: torch.dtype) -> None:
    """And what lies between them where they are not a continuum; in bytes, and in another precision than their own."""
    units = make_units(kind)
    states = support(units)[0]
    continuous = kind in CONTINUOUS
    if dtype == torch.uint8 and states.min() < 0 and not continuous:
        states = states.abs()  # what of spins a byte can hold
    assert units.in_support(states if continuous else states.to(dtype))
    assert units.in_support(states[:0])
    if kind == MIXED:  # whose last column is one of a category's
        continuous = False
    for value in (2, 255) if dtype == torch.uint8 else (0.5, -1.5, 1 + 1e-6, math.inf, math.nan):
        some = states.to(dtype)
        some[-1, -1] = value
        assert units.in_support(some) == continuous


@each_kind
def test_rows_are_as_wide_as_the_units_are_many(kind: str) -> None:
    units = make_units(kind)
    units.check_rows(torch.zeros(0, units.size))
    for shape in ((2, units.size + 1), (units.size,), (1, 1, units.size)):
        with pytest.raises(InputError, match=f"{units.size} {units.kind} units need rows of {units.size} values"):
            units.check_rows(torch.zeros(shape))
