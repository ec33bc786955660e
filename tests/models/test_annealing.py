"""The path from independent units to an RBM, against sums over the states of every model on it."""

import pytest
import torch
from enumeration import (
    AXES,
    PAIRS,
    Z,
    conditional,
    draw,
    joint,
    make_rbm,
    marginals,
    rng,
    support,
    z_scores,
)
from torch import Tensor
from torch.testing import assert_close

from dbn.errors import InputError
from dbn.models.annealing import Path, independent_base
from dbn.models.rbm import RBM
from dbn.models.units import half_line
from dbn.models.units.bernoulli import Bernoulli
from dbn.models.units.gaussian import Gaussian
from dbn.models.units.mixed import Mixed
from dbn.models.units.naming import units_of

BETAS = (0.0, 0.3, 0.75, 1.0)

each_pair = pytest.mark.parametrize("pair", PAIRS, ids="-".join)
each_base = pytest.mark.parametrize("coupled", [False, True], ids=["independent", "coupled"])


def moments(rbm: RBM) -> tuple[Tensor, Tensor]:
    """Mean and variance of every visible unit."""
    states, p = marginals(rbm)[0]
    mean = p @ states
    return mean, p @ (states - mean) ** 2


def make_path(pair: tuple[str, str], seed: int = 0, coupled: bool = False) -> Path:
    rbm = make_rbm(*pair, seed=seed)
    return Path(make_rbm(*pair, seed=seed + 1) if coupled else independent_base(rbm, *moments(rbm), 1000), rbm)


def by_hand(path: Path, beta: float) -> RBM:
    """The RBM at β, its parameters set one by one."""
    rbm = RBM(*(units_of(units.description()) for units in (path.rbm.visible, path.rbm.hidden))).double()
    with torch.no_grad():
        rbm.weight.copy_((1 - beta) * path.base.weight + beta * path.rbm.weight)
        for side in ("visible", "hidden"):
            start, end, units = (getattr(each, side) for each in (path.base, path.rbm, rbm))
            for name, parameter in units.named_parameters():
                old, new = (each.get_parameter(name) for each in (start, end))
                if "log_precision" in name:
                    parameter.copy_(((1 - beta) * old.exp() + beta * new.exp()).log())
                else:
                    parameter.copy_((1 - beta) * old + beta * new)
    return rbm


def states(path: Path, n: int = 6) -> tuple[Tensor, Tensor]:
    """v (n, V) and h (n, H), drawn from the model."""
    visible, hidden = marginals(path.rbm)
    return draw(*visible, n, rng(1)), draw(*hidden, n, rng(2))


@each_pair
@each_base
def test_the_ends_of_a_path_are_base_and_rbm(pair: tuple[str, str], coupled: bool) -> None:
    path = make_path(pair, coupled=coupled)
    v, h = states(path)
    for model, end in ((path.at(0.0), path.base), (path.at(1.0), path.rbm)):
        assert_close(model.free_energy(v), end.free_energy(v))
        assert_close(model.energy(v, h), end.energy(v, h))


@each_pair
@pytest.mark.parametrize("beta", BETAS)
def test_natural_parameters_lie_on_the_line(pair: tuple[str, str], beta: float) -> None:
    path = make_path(pair)
    model = path.at(beta)
    for base, units, end in (
        (path.base.visible, model.visible, path.rbm.visible),
        (path.base.hidden, model.hidden, path.rbm.hidden),
    ):
        assert units.natural().keys() == end.natural().keys()
        for name, theta in units.natural().items():
            assert_close(theta, (1 - beta) * base.natural()[name] + beta * end.natural()[name])


@each_pair
@each_base
@pytest.mark.parametrize("beta", BETAS)
def test_a_model_on_the_path_is_the_rbm_of_those_parameters(pair: tuple[str, str], coupled: bool, beta: float) -> None:
    path = make_path(pair, coupled=coupled)
    model, rbm = path.at(beta), by_hand(path, beta)
    v, h = states(path)
    assert_close(model.energy(v, h), rbm.energy(v, h))
    assert_close(model.up(v), rbm.up(v))
    assert_close(model.down(h), rbm.down(h))
    _, log_p = conditional(model.hidden, v @ rbm.weight.T)
    assert_close(model.free_energy(v), model.visible.energy(v) - log_p.logsumexp(1))


@each_pair
@each_base
def test_a_position_for_every_row_is_the_same_as_one_after_another(pair: tuple[str, str], coupled: bool) -> None:
    path = make_path(pair, coupled=coupled)
    v, h = states(path)
    rows = torch.linspace(0, 1, len(v), dtype=torch.float64)
    together = path.at(rows[:, None])
    for i, beta in enumerate(rows.tolist()):
        alone = path.at(beta)
        for name, x in (("hidden_field", v), ("visible_field", h), ("up", v), ("down", h), ("free_energy", v)):
            assert_close(getattr(together, name)(x)[i], getattr(alone, name)(x)[i])
        assert_close(together.energy(v, h)[i], alone.energy(v, h)[i])
        assert_close(together.sample_hidden(v, rng(3))[i], alone.sample_hidden(v, rng(3))[i])
        assert_close(together.gibbs(v, 2, rng(4))[i], alone.gibbs(v, 2, rng(4))[i])
        for units, one, x in ((together.visible, alone.visible, v), (together.hidden, alone.hidden, h)):
            assert_close(units.divergence(units.mean(x), x)[i], one.divergence(one.mean(x), x)[i])
            for name, expected in one.expected_statistics(x).items():
                assert_close(units.expected_statistics(x)[name][i], expected[i])


@each_pair
@each_base
def test_log_ratio_is_the_difference_of_two_free_energies(pair: tuple[str, str], coupled: bool) -> None:
    path = make_path(pair, coupled=coupled)
    v, _ = states(path)
    product = path.product(v)
    rows = torch.linspace(0, 1, len(v), dtype=torch.float64)[:, None]
    for start, end in ((0.25, 0.5), (1.0, 0.9), (rows, 1 - rows), (rows, 0.5)):
        before, after = path.at(start), path.at(end)
        assert_close(path.log_ratio(v, product, before, after), before.free_energy(v) - after.free_energy(v))


@each_pair
@each_base
@pytest.mark.parametrize("beta", BETAS)
def test_a_gibbs_step_leaves_every_model_on_the_path_as_it_is(
    pair: tuple[str, str], coupled: bool, beta: float
) -> None:
    path = make_path(pair, coupled=coupled)
    exact = marginals(by_hand(path, beta))[0]
    generator = rng(5)
    v = path.at(beta).gibbs(draw(*exact, 20_000, generator), 1, generator)
    assert z_scores(v, *exact).abs().max() < Z


@each_pair
def test_the_base_has_the_marginals_no_coupling_and_a_known_z(pair: tuple[str, str]) -> None:
    path, n = make_path(pair), 1000
    base, rbm = path.base, path.rbm
    states, p = marginals(base)[0]
    mean, variance = moments(rbm)
    for units, at in base.visible.each() if isinstance(base.visible, Mixed) else [(base.visible, slice(None))]:
        if units.kind == "spin":
            mean[at] = n * mean[at] / (n + 2)
            variance[at] = 1 - mean[at] ** 2
        elif units.linear_statistics:
            trials, added = float(AXES[units.spec][0].max()), 3 if units.kind == "categorical" else 2
            chance = (n * mean[at] + 1) / (n * trials + added)
            mean[at], variance[at] = trials * chance, trials * chance * (1 - chance)
        elif units.kind == "relu":
            variance[at] = variance[at].minimum(half_line.GREATEST_VARIATION * mean[at] ** 2)
    assert_close(p @ states, mean, rtol=5e-5, atol=0)  # the quadrature's error
    assert_close(p @ (states - mean) ** 2, variance, rtol=5e-5, atol=0)
    assert not base.weight.any()
    for name, theta in base.hidden.natural().items():
        assert_close(theta, torch.zeros_like(theta) if name == "bias" else rbm.hidden.natural()[name])
    assert_close(path.base_log_partition(), float(joint(base)[2].logsumexp((0, 1))), rtol=5e-5, atol=0)


def test_a_coupled_base_has_no_z_in_closed_form() -> None:
    with pytest.raises(InputError, match="log Z of a base needs weight 0"):
        make_path(("bernoulli", "bernoulli"), coupled=True).base_log_partition()


def test_making_a_base_leaves_the_rbm_alone() -> None:
    rbm, before = make_rbm("gaussian", "gaussian"), make_rbm("gaussian", "gaussian")
    independent_base(rbm, *moments(rbm), 10)
    for name, parameter in rbm.named_parameters():
        assert torch.equal(parameter, before.get_parameter(name))
        assert parameter.requires_grad


def test_z_is_finite_on_the_whole_path_if_it_is_at_both_ends() -> None:
    for seed in range(20):
        rbm = make_rbm("gaussian", "gaussian", seed=seed)
        with torch.no_grad():
            scaled = rbm.weight / rbm.hidden.precision.sqrt()[:, None] / rbm.visible.precision.sqrt()
            rbm.weight.mul_(0.999 / torch.linalg.matrix_norm(scaled, 2))
        assert rbm.has_partition()
        variance = torch.rand(2, generator=rng(seed), dtype=torch.float64) * 10
        path = Path(independent_base(rbm, torch.zeros(2), variance, 10), rbm)
        assert all(by_hand(path, beta).has_partition() for beta in torch.linspace(0, 1, 51).tolist())


def test_a_path_follows_an_rbm_that_learns() -> None:
    path = make_path(("bernoulli", "gaussian"))
    v = support(path.rbm.visible)[0]
    before = path.at(1.0).free_energy(v)
    with torch.no_grad():
        for parameter in path.rbm.parameters():
            parameter.add_(0.1)
    assert not torch.allclose(path.at(1.0).free_energy(v), before)
    assert_close(path.at(1.0).free_energy(v), path.rbm.free_energy(v))


def test_positions_of_another_precision_are_taken() -> None:
    path = make_path(("gaussian", "gaussian"))
    v, _ = states(path)
    single = Path(path.base.float(), path.rbm.float())
    rows = torch.linspace(0, 1, len(v), dtype=torch.float64)[:, None]
    assert single.at(rows).free_energy(v.float()).dtype == torch.float32


@pytest.mark.parametrize(
    ("base", "sentence"),
    [
        (RBM(Bernoulli(3), Bernoulli(3)), "from 3 bernoulli and 3 bernoulli units to 3 bernoulli and 2 gaussian units"),
        (RBM(Bernoulli(4), Gaussian(2)), "from 4 bernoulli and 2 gaussian units"),
    ],
)
def test_a_base_that_does_not_fit_is_refused(base: RBM, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        Path(base, make_rbm("bernoulli", "gaussian"))
