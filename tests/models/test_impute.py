"""Missing units given the observed ones, against sums over all states."""

from math import inf, isnan, nan

import numpy as np
import pandas
import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from dbn.errors import InputError
from dbn.likelihood import conditional_log_likelihood
from dbn.models.dbn import DBN
from dbn.models.impute import conditional
from dbn.models.missing import Observed, fill
from dbn.models.rbm import RBM
from dbn.models.scaling import Scaling
from dbn.models.units.apart import log_partitions, log_probabilities, sites_apart
from dbn.models.units.naming import make_units
from tests.enumeration import DISCRETE, KINDS, MIXED, Z, make_rbm, rng, support

SITES = {"categorical(states=3)": [[0, 1, 2], [3, 4, 5]], MIXED: [[0], [1], [2], [3, 4, 5]]}
COPIES = 40


def sites_of(rbm: RBM) -> list[list[int]]:
    return SITES.get(rbm.visible.spec, [[place] for place in range(rbm.visible.size)])


def row_with_holes(rbm: RBM, seed: int = 0) -> tuple[Tensor, Tensor]:
    """A state of the visible units, and which are observed: all but the first site and, of more than two, the last."""
    states, _ = support(rbm.visible)
    x = states[torch.randint(len(states), (1,), generator=rng(seed))]
    if rbm.visible.spec in ("gaussian", "relu", MIXED):  # not far out
        x = states[states.abs().amax(1) < 2][seed::7][:1]
    sites = sites_of(rbm)
    known = torch.ones(1, rbm.visible.size, dtype=torch.bool)
    for site in sites[:1] + sites[-1:] * (len(sites) > 2):
        known[:, site] = False
    return x, known


@torch.no_grad()
def exact(rbm: RBM, x: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
    """The states that agree with what is observed, and their probabilities."""
    states, weight = support(rbm.visible)
    agree = ((states == x) | ~known).all(1)
    return states[agree], (weight[agree] - rbm.free_energy(states[agree])).softmax(0)


@torch.no_grad()
def exact_alone(rbm: RBM, x: Tensor, known: Tensor, site: list[int]) -> tuple[Tensor, Tensor]:
    """The same in the RBM of the observed units and one missing site."""
    own = known.clone()
    own[:, site] = True
    states, weight = support(rbm.visible)
    agree = ((states == x) | ~known).all(1)
    rest = ((states == states[agree][0]) | own).all(1)  # one state of the other missing units
    kept = states[agree & rest] * own
    return kept, (weight[agree & rest] - rbm.free_energy(kept)).softmax(0)


def check(found: Tensor, wanted: Tensor, slack: float = 1e-9) -> None:
    """Averages of independent copies (n, V) against the truth."""
    error = found.std(0) / len(found) ** 0.5
    assert ((found.mean(0) - wanted).abs() <= Z * error + slack).all(), (found.mean(0), wanted, error)


@pytest.mark.parametrize("kind", KINDS)
def test_means_are_those_given_what_is_observed(kind: str) -> None:
    rbm = make_rbm(kind, "bernoulli")
    x, known = row_with_holes(rbm)
    states, p = exact(rbm, x, known)
    rows = (x * known).expand(COPIES, -1)
    found, drawn = conditional(DBN([rbm]), rows, known.expand(COPIES, -1), 100, 20, rng(1))
    check(found, p @ states)
    check(drawn, p @ states)
    assert torch.equal(found[:, known[0]], rows[:, known[0]])


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "relu"])
def test_means_of_a_model_of_incomplete_rows_are_those_of_each_site_beside_the_observed_ones(kind: str) -> None:
    rbm = make_rbm(kind, "bernoulli", seed=3)
    x, known = row_with_holes(rbm)
    stack = DBN([rbm], Scaling(1.0, missing="absent"))
    rows = (x * known).expand(COPIES, -1)
    found, drawn = conditional(stack, rows, known.expand(COPIES, -1), 400, 0, rng(1))
    for site in sites_of(rbm):
        if not known[0, site[0]]:
            states, p = exact_alone(rbm, x, known, site)
            check(found[:, site], (p @ states)[site], slack=5e-3)  # weights are normalized by their own sum
            check(drawn[:, site], (p @ states)[site], slack=5e-3)


@pytest.mark.parametrize("missing", ["", "absent"])
@pytest.mark.parametrize("kind", [*DISCRETE, MIXED])
def test_a_discrete_unit_alone_is_exact(kind: str, missing: str) -> None:
    """One hole beside all others, and each of several beside what a model of incomplete rows observes."""
    rbm = make_rbm(kind, "bernoulli", seed=3)
    x, known = row_with_holes(rbm)
    if not missing:
        known = torch.ones_like(known)
        known[:, sites_of(rbm)[0]] = False
    rows = (x * known).expand(4000, -1)
    stack = DBN([rbm], Scaling(1.0, missing=missing))
    found, drawn = conditional(stack, rows, known.expand(4000, -1), 1, 0, rng(1))
    for site in sites_of(rbm):
        if not known[0, site[0]]:
            states, p = exact_alone(rbm, x, known, site)
            assert_close(found[0, site], (p @ states)[site])
            check(drawn[:, site], (p @ states)[site])
            assert rbm.visible.in_support(torch.where(known, x, drawn))


@pytest.mark.parametrize("kind", KINDS)
def test_filled_rows_keep_what_is_observed_and_follow_the_conditional(kind: str) -> None:
    rbm = make_rbm(kind, "bernoulli", seed=1)
    x, known = row_with_holes(rbm)
    filled = fill(rbm, (x * known).expand(4000, -1), known.expand(4000, -1), 20, rng(2))
    states, p = exact(rbm, x, known)
    check(filled, p @ states)
    assert torch.equal(filled[:, known[0]], x[:, known[0]].expand(4000, -1))


@pytest.mark.parametrize("kind", KINDS)
def test_sites_apart_sum_to_the_layer(kind: str) -> None:
    units = make_rbm(kind, "bernoulli").visible
    field = torch.randn(3, units.size, generator=rng(), dtype=torch.float64)
    apart = sites_apart(units)
    assert_close(log_partitions(apart, field)[0].sum(1), units.log_partition(field))
    states = units.sample(field, rng(1))
    wanted = (field * states).sum(1) - units.energy(states) - units.log_partition(field)
    assert_close(log_probabilities(apart, states, field).sum(1), wanted)


@pytest.mark.parametrize("missing", ["", "absent"])
@pytest.mark.parametrize("kind", [*DISCRETE, "gaussian", MIXED])
def test_likelihoods_of_held_out_values(kind: str, missing: str) -> None:
    """Of one hole exactly, of several those of each site alone."""
    rbm = make_rbm(kind, "bernoulli", seed=2)
    scaling = Scaling(1.0, codes=rbm.visible.codes, missing=missing)
    x, known = row_with_holes(rbm)
    stack = DBN([rbm], scaling)
    truth = scaling.inverse(x)
    of_data = torch.tensor([[bool(known[0, site[0]]) for site in sites_of(rbm)]])
    found = conditional_log_likelihood(stack, truth, of_data, steps=2000)
    for place, site in enumerate(sites_of(rbm)):
        if known[0, site[0]]:
            assert isnan(found[0, place])
            continue
        states, p = exact_alone(rbm, x, known, site) if missing else exact(rbm, x, known)
        wanted = p[(states[:, site] == x[:, site]).all(1)].sum().log()
        if kind == "gaussian" or (kind == MIXED and site == [2]):
            wanted -= float(torch.log(torch.tensor(0.5)))  # the density, on a grid of that step
        is_exact = kind in DISCRETE and (missing or (~of_data).sum() == 1)
        assert_close(found[0, place], wanted, rtol=1e-5 if is_exact else 0.05, atol=1e-5 if is_exact else 0.03)


def test_a_single_hole_is_exact_in_a_stack_of_complete_rows() -> None:
    rbm = make_rbm("spin", "bernoulli")
    x, known = torch.tensor([[1.0, -1.0, 1.0]]), torch.tensor([[True, True, False]])
    states, p = exact(rbm, x, known)
    found = conditional_log_likelihood(DBN([rbm], Scaling(1.0, limits=(-1.0, 1.0))), x, known)
    assert_close(found[0, 2], p[(states == x).all(1)].log()[0])


def test_numbers_have_densities_as_they_are_stored() -> None:
    rbm = RBM(make_units("gaussian", 2), make_units("bernoulli", 1))  # independent, of variance 1
    scaling = Scaling(1.0, torch.tensor([5.0, 0.0]), torch.tensor([10.0, 1.0]))
    x = torch.tensor([[7.0, 0.3]])
    found = conditional_log_likelihood(DBN([rbm], scaling), x, torch.tensor([[False, True]]), steps=3)
    assert_close(found[0, 0], torch.distributions.Normal(5.0, 10.0).log_prob(x[0, 0]))


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_of_observed_units_sends_nothing_to_the_others(kind: str) -> None:
    rbm = make_rbm(kind, "bernoulli")
    x, known = row_with_holes(rbm)
    of_rows = Observed(rbm, known)
    v = of_rows.gibbs(x * known, 3, rng())
    assert not v[~known].any()
    assert not of_rows.down(torch.ones(1, rbm.hidden.size))[~known].any()
    assert_close(of_rows.up(x * known), rbm.hidden.mean((x * known).to(rbm.weight) @ rbm.weight.T))


def small() -> DBN:
    return DBN([make_rbm("bernoulli", "bernoulli").float()], Scaling(1.0))


def test_observed_values_stay_as_they_are_and_types_of_holes_are_one() -> None:
    x = np.array([[1 / 3, nan, 1.0], [0.1, 0.2, nan]])
    known = ~np.isnan(x)
    found = small().impute(x)
    assert found.dtype == torch.float64
    assert np.array_equal(found.numpy()[known], x[known])
    assert not found.isnan().any()
    masked = np.ma.MaskedArray(np.nan_to_num(x), ~known)
    assert torch.equal(small().impute(masked), found)
    assert torch.equal(small().impute(np.nan_to_num(x, nan=0.5), known), found)
    assert torch.equal(small().impute(torch.from_numpy(x)), found)
    assert torch.equal(small().impute(x, seed=1), found)  # one hole is exact
    two = [[nan, nan, 1.0]]
    assert not torch.equal(small().impute(two, seed=1), small().impute(two))
    assert set(small().impute(x, draws=True)[~torch.from_numpy(known)].tolist()) <= {0.0, 1.0}


def test_bytes_with_a_mask_are_divided_as_in_training() -> None:
    stack = DBN([make_rbm("bernoulli", "bernoulli").float()], Scaling(255.0, stored="bytes"))
    x = torch.tensor([[200, 0, 255]], dtype=torch.uint8)
    known = torch.tensor([[True, False, True]])
    found, scaled = stack.impute(x, known), DBN(stack.layers, Scaling(1.0)).impute(x / 255, known)
    assert found[0, 0] == 200
    assert_close(found[0, 1], 255 * scaled[0, 1].double(), rtol=1e-5, atol=1e-5)


def test_codes_are_filled_in_with_codes() -> None:
    stack = DBN([make_rbm("categorical(states=3)", "bernoulli").float()], Scaling(1.0, codes=3))
    found = stack.impute([[2, nan], [nan, 0]])
    assert found[0, 0] == 2
    assert found[1, 1] == 0
    assert found[0, 1] in (0, 1, 2)
    assert stack.impute(torch.tensor([[2, 1]]), torch.tensor([[True, False]])).dtype == torch.int64


def test_a_stack_of_several_layers_fills_in_too() -> None:
    rbms = [make_rbm("bernoulli", "bernoulli", seed).float() for seed in (0, 1)]
    found = DBN(rbms, Scaling(1.0)).impute([[1.0, nan, 0.0]], steps=5)
    assert 0 < found[0, 1] < 1


@pytest.mark.parametrize(
    ("x", "options", "said"),
    [
        ([[1, 0, 1], [nan, nan, nan]], {}, r"x: row 1 \(counted from 0\) holds no value at all: leave the row out"),
        ([[1, 0, nan]], {"known": [[True, False]]}, r"known has shape \(1, 2\), but x has \(1, 3\)"),
        ([[1, 0, 1]], {"known": [[1, nan, 1]]}, "known has values other than true and false"),
        ([[1, 0, nan]], {"steps": 0}, "at least one Gibbs step"),
        ([[1, 0, nan]], {"steps": 2.5}, r"DBN\.impute: steps must be of type int, not float"),
        ([[1, 0, inf]], {}, r"\[0, 1\].*replace what is infinite$"),
        ([[1, nan]], {}, "2 values an example"),
        ([[2, 0, nan]], {}, r"trained on values in \[0, 1\]"),
    ],
)
def test_what_is_refused(x: list[list[float]], options: dict[str, object], said: str) -> None:
    with pytest.raises(InputError, match=said):
        small().impute(x, **options)  # type: ignore[arg-type]


def test_a_mask_with_names_is_matched_by_them() -> None:
    stack = DBN([make_rbm("bernoulli", "bernoulli").float()], Scaling(1.0, columns=("a", "b", "c")))
    x = pandas.DataFrame({"a": [1.0], "b": [0.0], "c": [1.0]})
    mask = pandas.DataFrame({"c": [True], "a": [False], "b": [True]})
    found = stack.impute(x, mask)
    assert torch.equal(found, stack.impute(x, [[False, True, True]]))
    assert torch.equal(found[0, 1:], torch.tensor([0.0, 1.0]).to(found))
    with pytest.raises(InputError, match="known has other columns than x, which has 'a', 'b', 'c': give the same"):
        stack.impute(x, mask.rename(columns={"a": "d"}))


def test_codes_that_are_missing_are_refused_elsewhere() -> None:
    stack = DBN([make_rbm("categorical(states=3)", "bernoulli").float()], Scaling(1.0, codes=3))
    with pytest.raises(InputError, match="nan in row 0, column 1"):
        stack.up(torch.tensor([[2, nan]]))
