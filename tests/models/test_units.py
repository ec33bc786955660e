"""Every unit type against sums over its states."""

import math

import numpy as np
import pytest
import torch
from enumeration import (
    AXES,
    CHANCE,
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
from scipy import stats
from torch import Tensor
from torch.testing import assert_close

from dbn.errors import InputError
from dbn.models.mlp import activation_module
from dbn.models.units import UNITS
from dbn.models.units.base import Units
from dbn.models.units.bernoulli import Bernoulli
from dbn.models.units.binomial import Binomial
from dbn.models.units.drelu import DReLU
from dbn.models.units.gaussian import Gaussian
from dbn.models.units.naming import make_units as units_named
from dbn.models.units.relu import ReLU

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


@each_kind
def test_a_sample_with_its_expected_statistics_is_the_one_and_the_other(kind: str) -> None:
    units = make_units(kind)
    field = fields(units)
    states, expected = units.sample_and_expect(field, rng(3))
    assert torch.equal(states, units.sample(field, rng(3)))
    assert_close(expected, units.expected_statistics(field), rtol=0, atol=0)


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
def test_energy_is_minus_theta_times_statistics_and_what_has_no_parameter(kind: str) -> None:
    units = make_units(kind)
    x = fields(units)
    theta, statistics = units.natural(), units.statistics(x)
    products = torch.cat([theta[name] * statistics[name] for name in theta], 1)
    measure = units.with_natural({name: torch.zeros_like(value) for name, value in theta.items()}).energy(x)
    assert_close(units.energy(x), measure - products.sum(1))
    assert_close(statistics["bias"], x)
    assert (units.kind == "binomial") == bool(measure.any())


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


def test_binomial_units_are_counts_of_bernoulli_units_that_share_their_bias() -> None:
    """Every state of six units of bias 0.7 and −0.4, summed by how many are on."""
    units = Binomial(1, trials=6).double()
    on = torch.cartesian_prod(*[torch.tensor([0.0, 1.0], dtype=torch.float64)] * 6)
    for bias in (0.7, -0.4):
        units.load_state_dict({"bias": real(bias)})
        weights = (bias * on.sum(1)).exp()
        by_count = torch.stack([weights[on.sum(1) == count].sum() for count in range(7)])
        counts = torch.arange(7, dtype=torch.float64)[:, None]
        assert_close((-units.energy(counts)).exp(), by_count)
        assert_close(units.log_partition(torch.zeros(1, 1)).exp(), by_count.sum()[None])


@pytest.mark.parametrize("states", [2, 8, 15, 16, 21])
@torch.no_grad()
def test_categories_have_the_softmax_as_mean_and_draws_by_inversion_however_many_states(states: int) -> None:
    """Two ways of computing it, by the number of states; and each uniform number is that of its group."""
    units = units_named(f"categorical(states={states})", 5 * states)
    units.bias.copy_(torch.randn(units.size, generator=rng(1)))
    field = 3 * torch.randn(70, units.size, generator=rng(2))
    field[0], field[1, 0] = 0.0, 90.0
    total = (field + units.bias).double().unflatten(-1, (5, states))
    p = units.mean(field)
    assert p.is_contiguous()
    assert_close(p.double(), total.softmax(-1).flatten(-2), rtol=1e-5, atol=1e-7)
    upper, uniform = p.view(70, 5, states).cumsum(-1), torch.empty(70, 5, 1).uniform_(generator=rng(3))
    drawn = (upper <= uniform * upper[..., -1:]).sum(-1)
    assert torch.equal(units.sample(field, rng(3)), torch.nn.functional.one_hot(drawn, states).flatten(-2).float())


@pytest.mark.parametrize("trials", [1, 5, 32, 33, 300])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_counts_have_their_probabilities_however_they_are_drawn(trials: int, dtype: torch.dtype) -> None:
    units, n = Binomial(4, trials).to(dtype), 50_000
    p = [0.003, 0.3, 0.5, 0.98]
    field = torch.logit(torch.tensor(p, dtype=dtype))
    x = units.sample(field.expand(n, -1), rng(3))
    assert x.dtype == dtype
    assert torch.equal(x, units.sample(field.expand(n, -1), rng(3)))
    for column, chance in enumerate(p):
        exact = stats.binom(trials, chance)
        seen = np.bincount(x[:, column].long().numpy(), minlength=trials + 1)
        expected = exact.pmf(np.arange(trials + 1)) * n
        # Rare counts together, as Pearson's formula asks.
        rare = expected < 10
        both = [np.append(each[~rare], each[rare].sum()) for each in (seen, expected)]
        kept = both[1] > 0.5
        z = (both[0][kept] - both[1][kept]) / np.sqrt(both[1][kept])
        assert stats.chi2.sf((z**2).sum(), max(1, kept.sum() - 1)) > CHANCE


@pytest.mark.parametrize("trials", [0, -3, 2.5, "4"])
def test_trials_are_a_whole_number_above_0(trials: object) -> None:
    with pytest.raises(InputError, match="trials of binomial units must be a whole number above 0, not"):
        Binomial(3, trials)  # type: ignore[arg-type]


def test_data_out_of_range_are_refused_with_what_to_do() -> None:
    counts = Binomial(3, trials=16)
    assert counts.range_error(0, 16) == ""
    assert "give binomial(trials=…) with trials at least the greatest value 17" in counts.range_error(0, 17)
    assert "need counts, of 0 or more" in counts.range_error(-1, 3)
    assert ReLU(3).range_error(0, 1e6) == ""
    assert "need values of 0 or more" in ReLU(3).range_error(-1e-3, 1)
    mixed = units_named("1 spin + 1 relu", 2)
    assert mixed.range_error(-1, 3) == ""  # no one part has both
    assert "spin units" in mixed.range_error(-2, 3)
    with pytest.raises(InputError, match=r"0 or more only, not -2 as in row 1, column 2"):
        ReLU(3).check_states(torch.tensor([[0.0, 0.0, 1.0], [0.0, 5.0, -2.0]]))


def test_binomial_marginals_are_laplace_smoothed() -> None:
    units = Binomial(3, trials=4).double()
    units.fit_marginals(real(0.0, 1.25, 4.0), real(0.0, 0.5, 0.0), 8)
    assert_close(units.mean(torch.zeros(1, 3)), 4 * real(1 / 34, 11 / 34, 33 / 34)[None])


@pytest.mark.parametrize(
    ("mean", "variance", "kept"),
    [
        (real(0.5, 2.0, 30.0), real(0.2, 0.05, 20.0), None),
        # The third falls off no slower than exponentially, and the variances of the others are raised.
        (real(2.0, 3.0, 1.0), real(0.0, 0.002, 4.0), real(0.004, 0.004, 0.98)),
        (real(0.0, 5.0, 1.0), real(0.0, 0.0, 0.0), real(0.0098, 1.0, 0.98)),
    ],
)
def test_rectified_marginals_are_reproduced(mean: Tensor, variance: Tensor, kept: Tensor | None) -> None:
    units = ReLU(3).double()
    units.fit_marginals(mean, variance, 8)
    found = units.mean(torch.zeros(1, 3))
    second = -2 * units.expected_statistics(torch.zeros(1, 3, dtype=torch.float64))["precision"]
    assert_close(found, mean.clamp(min=0.1 if kept is not None and mean[0] == 0 else 0)[None])
    assert_close(second - found**2, (variance if kept is None else kept)[None])


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
    if kind != "relu":  # which gives the most probable state
        assert_close(output * units.mean_factor, units.mean(x @ weight.T))


@torch.no_grad()
def test_a_rectified_layer_of_a_network_gives_the_most_probable_states() -> None:
    units = make_units("relu")
    weight, field = torch.eye(2, dtype=torch.float64), fields(units, 8)
    layer_weight, layer_bias, activation = units.as_linear(weight)
    assert activation == "relu"
    found = torch.relu(field @ layer_weight.T + layer_bias)
    x = torch.linspace(0, 8, 8001, dtype=torch.float64)[:, None].expand(-1, 2)
    log_p = field[:, None] * x + units.bias * x - 0.5 * units.precision * x * x
    assert_close(found, log_p.argmax(1).double() * 0.001, rtol=0, atol=0.0005001)
    above = (units.mean(field) - found) * units.precision.sqrt()
    assert above.min() > 0
    assert above.max() < (2 / math.pi) ** 0.5


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@torch.no_grad()
def test_double_rectified_units_without_threshold_and_of_equal_precisions_are_gaussian(dtype: torch.dtype) -> None:
    """Far out as well, where one side has no mass that a number could hold."""
    units, gaussian = DReLU(3).to(dtype), Gaussian(3).to(dtype)
    for name in ("log_precision_plus", "log_precision_minus"):
        units.get_parameter(name).copy_(torch.tensor([-4.0, 0.0, 3.0]))
    gaussian.log_precision.copy_(units.log_precision_plus)
    field = torch.tensor([-300.0, -9.0, -0.1, 0.0, 1e-3, 40.0], dtype=dtype)[:, None].expand(-1, 3)
    close = 100 * torch.finfo(dtype).eps
    assert_close(units.mean(field), gaussian.mean(field), rtol=close, atol=close)
    assert_close(units.log_partition(field), gaussian.log_partition(field), rtol=close, atol=close)
    expected, wanted = units.expected_statistics(field), gaussian.expected_statistics(field)["precision"]
    assert_close(expected["precision_plus"] + expected["precision_minus"], wanted, rtol=close, atol=close)
    x, x_hat = (torch.tensor([[0.5, -2.0, each]], dtype=dtype) for each in (3.0, -1.5))
    assert_close(units.divergence(x, x_hat), gaussian.divergence(x, x_hat), rtol=1e3 * close, atol=1e3 * close)


@torch.no_grad()
def test_double_rectified_units_with_a_high_precision_below_are_rectified() -> None:
    units, rectified = DReLU(2).double(), ReLU(2).double()
    units.load_state_dict(
        {"bias": real(0.5, 0.0), "threshold": real(1.0, -0.5), "log_precision_plus": real(0.3, -0.2),
         "log_precision_minus": real(60.0, 60.0)}
    )  # fmt: skip
    rectified.load_state_dict({"bias": units.bias - units.threshold, "log_precision": units.log_precision_plus})
    field = fields(units, 8)
    assert_close(units.mean(field), rectified.mean(field), rtol=0, atol=1e-10)
    assert_close(units.log_partition(field), rectified.log_partition(field), rtol=0, atol=1e-10)


@pytest.mark.parametrize("threshold", [-12.0, -2.0, 0.3, 4.0, 30.0])
@torch.no_grad()
def test_double_rectified_units_of_one_mode_two_or_a_peak_have_their_moments_and_divergence(threshold: float) -> None:
    """Against quadrature on either side; draws as well."""
    units = DReLU(1).double()
    units.load_state_dict(
        {"bias": real(0.2), "threshold": real(threshold), "log_precision_plus": real(0.5),
         "log_precision_minus": real(-0.3)}
    )  # fmt: skip
    end = 14 + max(0.0, -2 * threshold)
    nodes, weights = np.polynomial.legendre.leggauss(400)
    x = torch.from_numpy((nodes + 1) * end / 2)
    x, log_weight = torch.cat([-x, x])[:, None], torch.from_numpy(np.tile(weights * end / 2, 2)).log()
    field = real(-4.0, -0.6, -0.2, 0.0, 0.5, 4.0)[:, None]
    log_p = field @ x.T - units.energy(x) + log_weight
    assert_close(units.log_partition(field), log_p.logsumexp(1))
    p = log_p.softmax(1)
    mean = units.mean(field)
    assert_close(mean, p @ x, atol=1e-12, rtol=1e-9)
    for name, statistic in units.statistics(x).items():
        assert_close(units.expected_statistics(field)[name], p @ statistic, atol=1e-12, rtol=1e-9)
    kl = (p * (log_p.log_softmax(1) - log_p.flip(0).log_softmax(1))).sum(1)
    assert_close(units.divergence(mean, mean.flip(0)), kl, rtol=1e-7, atol=1e-9)
    for each, its_p in zip(field, p, strict=True):
        assert z_scores(units.sample(each.expand(20_000, 1), rng(2)), x, its_p).abs().max() < Z


@each_kind
def test_quadratic_precision_is_how_fast_the_density_falls(kind: str) -> None:
    units = make_units(kind)
    precision = units.quadratic_precision()
    if precision is None:
        assert units.support() is not None, "a continuum has no end"
        return
    if not precision.isfinite().all():
        precision = precision.where(precision.isfinite(), 0.0)  # bounded units, whose energy is linear
    x = 1e7 * torch.eye(units.size, dtype=torch.float64)
    slower = torch.minimum(units.energy(x), units.energy(-x)) * 2e-14
    assert_close(precision, slower, rtol=1e-6, atol=1e-6)


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
    for value in (4, 255) if dtype == torch.uint8 else (0.5, -1.5, 1 + 1e-6, math.inf, math.nan):
        some = states.to(dtype)
        some[-1, -1] = value
        assert units.in_support(some) == (continuous and not (kind == "relu" and (value < 0 or math.isnan(value))))


@each_kind
def test_rows_are_as_wide_as_the_units_are_many(kind: str) -> None:
    units = make_units(kind)
    units.check_rows(torch.zeros(0, units.size))
    for shape in ((2, units.size + 1), (units.size,), (1, 1, units.size)):
        with pytest.raises(InputError, match=f"{units.size} {units.kind} units need rows of {units.size} values"):
            units.check_rows(torch.zeros(shape))
