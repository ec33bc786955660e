"""Chains that start exactly at p(v) stay there, and the check that says so notices chains that do not."""

import copy
import math
from collections import Counter
from collections.abc import Callable
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from enumeration import (
    CHANCE,
    DISCRETE,
    KINDS,
    PAIRS,
    SIZES,
    Z,
    conditional,
    draw,
    histogram_chance,
    joint,
    make_rbm,
    marginals,
    randomize,
    rng,
    support,
    z_scores,
)
from torch import Tensor
from torch.testing import assert_close
from torch.utils._python_dispatch import TorchDispatchMode

from dbn.likelihood.gradient import set_gradient
from dbn.models.rbm import RBM
from dbn.models.units.bernoulli import Bernoulli
from dbn.sampling import CHAINS
from dbn.sampling.chains import Chains, autocorrelation
from dbn.sampling.contrastive_divergence import DataChains
from dbn.sampling.parallel_tempering import TemperedChains
from dbn.sampling.persistent_chains import LaggedChains, PersistentChains
from dbn.storage.tensors import load_state, save_state

Kernel = Callable[[RBM, Tensor, torch.Generator], Tensor]

NOTHING = torch.full((1, 1), torch.nan)
"""In place of data, for chains that must not look at them."""

each_pair = pytest.mark.parametrize(("visible", "hidden"), PAIRS)
each_persistent = pytest.mark.parametrize("estimator", ["pcd", "lagged-pcd", "pt"])


def negatives(chains: Chains, rbm: RBM, generator: torch.Generator) -> Tensor:
    return chains.negatives(rbm, NOTHING, NOTHING, generator).states


def gibbs(rbm: RBM, v: Tensor, generator: torch.Generator) -> Tensor:
    with torch.no_grad():
        return rbm.gibbs(v, 5, generator)


def data_chains(rbm: RBM, v: Tensor, generator: torch.Generator) -> Tensor:
    with torch.no_grad():
        return DataChains(3, mean_last=False).negatives(rbm, v, rbm.hidden_field(v), generator).states


def persistent_chains(rbm: RBM, v: Tensor, generator: torch.Generator) -> Tensor:
    chains = PersistentChains(3, len(v))
    chains.load_state({"v": v, "reference": v})
    return negatives(chains, rbm, generator)


def stays(rbm: RBM, kernel: Kernel, n: int = 40_000) -> bool:
    """Whether chains started at p(v) are still there, by their moments and, where discrete, by their histogram.

    Real units start on the grid of the quadrature, which is as good as a density: a step from there is an
    integral by the trapezoid rule, so after one step the distribution is p(v) to rounding.
    """
    (states, p), _ = marginals(rbm)
    generator = rng(1)
    v = kernel(rbm, draw(states, p, n, generator), generator)
    return follows(v, states, p, discrete=rbm.visible.spec in DISCRETE)


def follows(v: Tensor, states: Tensor, p: Tensor, *, discrete: bool) -> bool:
    return bool(z_scores(v, states, p).abs().max() < Z) and (not discrete or histogram_chance(v, states, p) > CHANCE)


@each_pair
@pytest.mark.parametrize("kernel", [gibbs, data_chains, persistent_chains])
def test_chains_started_at_the_distribution_stay_there(visible: str, hidden: str, kernel: Kernel) -> None:
    assert stays(make_rbm(visible, hidden), kernel)


def biased_visible(rbm: RBM, v: Tensor, generator: torch.Generator) -> Tensor:
    h = rbm.sample_hidden(v, generator)
    signs = (-1.0) ** torch.arange(rbm.visible.size)  # a shift that all columns share changes no category
    return rbm.visible.sample(rbm.visible_field(h) + 0.1 * signs, generator)


def scaled_hidden(rbm: RBM, v: Tensor, generator: torch.Generator) -> Tensor:
    return rbm.sample_visible(rbm.hidden.sample(1.5 * rbm.hidden_field(v), generator), generator)


def transposed_weight(rbm: RBM, v: Tensor, generator: torch.Generator) -> Tensor:
    return rbm.visible.sample(rbm.sample_hidden(v, generator) @ rbm.weight.T, generator)


def mean_hidden(rbm: RBM, v: Tensor, generator: torch.Generator) -> Tensor:
    return rbm.sample_visible(rbm.up(v), generator)


def noiseless(rbm: RBM, v: Tensor, generator: torch.Generator) -> Tensor:
    return rbm.down(rbm.sample_hidden(v, generator))


BROKEN = [
    *((step, *pair) for step in (biased_visible, noiseless) for pair in PAIRS if pair[1] == "bernoulli"),
    *((step, *pair) for step in (scaled_hidden, mean_hidden) for pair in PAIRS if pair[0] == "bernoulli"),
    *((transposed_weight, *pair) for pair in PAIRS if SIZES[pair[0]] == SIZES[pair[1]]),
]
"""Each fault beside every kind of the side that it is in."""


SHOWING = {("bernoulli", "binomial(trials=3)"): 4, ("binomial(trials=3)", "bernoulli"): 4, ("relu", "relu"): 4}
"""Seeds of models in which every fault shows, where it does not in the first."""


@pytest.mark.parametrize(("step", "visible", "hidden"), BROKEN)
def test_a_broken_kernel_is_noticed(step: Kernel, visible: str, hidden: str) -> None:
    rbm = make_rbm(visible, hidden, seed=SHOWING.get((visible, hidden), 0))

    @torch.no_grad()
    def kernel(rbm: RBM, v: Tensor, generator: torch.Generator) -> Tensor:
        for _ in range(5):
            v = step(rbm, v, generator)
        return v

    # With as few chains as above the smallest of these faults lie 5 or 6 standard errors from the truth.
    assert not stays(rbm, kernel, n=160_000)


def spreading_rbm(size: int) -> RBM:
    """Saturated, so that nothing is random: v_i turns on h_i, which turns on v_i and v_{i+1}: one unit a step."""
    rbm = RBM(Bernoulli(size), Bernoulli(size))
    with torch.no_grad():
        rbm.weight.copy_(200 * (torch.eye(size) + torch.eye(size).roll(1, 1).triu()))
        rbm.visible.bias.fill_(-100.0)
        rbm.hidden.bias.fill_(-100.0)
    return rbm


@pytest.mark.parametrize("steps", [1, 2, 3, 5])
@pytest.mark.parametrize("mean_last", [None, True, False])
def test_contrastive_divergence_takes_exactly_k_steps(steps: int, mean_last: bool | None) -> None:
    rbm = spreading_rbm(8)
    data = torch.eye(8)[:1]
    v = DataChains(steps, mean_last).negatives(rbm, data, rbm.hidden_field(data), rng()).states
    assert v.tolist() == [[1.0] * (steps + 1) + [0.0] * (7 - steps)]
    assert torch.equal(rbm.gibbs(data, steps, rng()), v)


def test_the_hidden_field_given_is_the_one_used() -> None:
    rbm = spreading_rbm(4)
    data, other = torch.eye(4)[:1], torch.eye(4)[2:3]
    v = DataChains(1).negatives(rbm, data, rbm.hidden_field(other), rng()).states
    assert v.tolist() == [[0.0, 1.0, 1.0, 1.0]]


@each_pair
@pytest.mark.parametrize(
    ("mean_last", "means"),
    [
        (None, {kind: kind in DISCRETE for kind in KINDS}),
        (True, dict.fromkeys(KINDS, True)),
        (False, dict.fromkeys(KINDS, False)),
    ],
)
def test_the_last_visible_step_gives_means_only_where_they_carry_every_statistic(
    visible: str, hidden: str, mean_last: bool | None, means: dict[str, bool]
) -> None:
    rbm = make_rbm(visible, hidden)
    data = torch.rand(20, rbm.visible.size, dtype=torch.float64, generator=rng(2))
    v = DataChains(1, mean_last).negatives(rbm, data, rbm.hidden_field(data), rng(3)).states
    generator = rng(3)
    h = rbm.sample_hidden(data, generator)
    assert_close(v, rbm.down(h) if means[visible] else rbm.sample_visible(h, generator), rtol=0, atol=0)
    assert not v.requires_grad


@each_pair
def test_negatives_follow_the_generator(visible: str, hidden: str) -> None:
    rbm = make_rbm(visible, hidden)
    data = torch.rand(20, rbm.visible.size, dtype=torch.float64, generator=rng(2))
    fields = rbm.hidden_field(data)
    first, again, other = (DataChains(2).negatives(rbm, data, fields, rng(seed)).states for seed in (4, 4, 5))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("estimator", CHAINS)
@pytest.mark.parametrize("steps", [0, -1])
def test_less_than_one_step_is_refused(estimator: str, steps: int) -> None:
    with pytest.raises(ValueError, match=f"at least one Gibbs step, not {steps}$"):
        CHAINS.build(estimator, steps=steps, chains=5, temperatures=3)


@each_persistent
@pytest.mark.parametrize("chains", [0, -1])
def test_less_than_one_chain_is_refused(estimator: str, chains: int) -> None:
    with pytest.raises(ValueError, match=f"at least one chain, not {chains}$"):
        CHAINS.build(estimator, steps=1, chains=chains, temperatures=3)


@pytest.mark.parametrize(
    "temperatures", [1, 0, (), (1.0,), (0.1, 1.0), (0.0, 0.9), (0.0, 0.5, 0.5, 1.0), (0, math.nan, 1)]
)
def test_temperatures_that_do_not_rise_from_0_to_1_are_refused(temperatures: Any) -> None:
    with pytest.raises(ValueError, match="temperatures"):
        TemperedChains(1, 5, temperatures)


def test_the_table_makes_chains_of_what_each_needs() -> None:
    cd, pcd, pt = (CHAINS.build(name, steps=3, chains=7, temperatures=5) for name in ("cd", "pcd", "pt"))
    assert isinstance(cd, DataChains)
    assert isinstance(pcd, PersistentChains)
    assert isinstance(pt, TemperedChains)
    assert cd.steps == pcd.steps == pt.steps == 3
    assert pcd.chains == pt.chains == 7
    assert pt.betas == (0, 0.25, 0.5, 0.75, 1)
    for chains in (cd, pcd, pt):
        assert chains.state() == chains.metrics() == {}


# --- chains that persist ---------------------------------------------------------------------------------------------


@each_persistent
@each_pair
def test_persistent_chains_start_as_draws_at_field_zero(estimator: str, visible: str, hidden: str) -> None:
    rbm = make_rbm(visible, hidden)
    chains = CHAINS.build(estimator, steps=1, chains=40_000, temperatures=2)
    negatives(chains, rbm, rng(1))
    states, log_p = conditional(rbm.visible, torch.zeros(1, rbm.visible.size, dtype=torch.float64))
    start = chains.state()["reference"]
    assert follows(start, states, log_p[0].detach().softmax(0), discrete=rbm.visible.spec in DISCRETE)


@pytest.mark.parametrize("estimator", [name for name in CHAINS if name != "class-pcd"])  # which needs labels
def test_the_number_of_steps_may_change_and_chains_go_on_where_they_were(estimator: str) -> None:
    rbm = spreading_rbm(8)
    chains = CHAINS.build(estimator, steps=1, chains=1, temperatures=2)
    data = torch.eye(8)[:1]
    if estimator != "cd":
        negatives(chains, rbm, rng())
        start = data.expand(len(chains.state()["v"]), -1)
        field = {"field": rbm.hidden_field(start).detach()} if estimator == "lagged-pcd" else {}
        chains.load_state(chains.state() | {"v": start} | field)
    lit = []
    for chains.steps in (1, 3, 2):
        lit.append(int(chains.negatives(rbm, data, rbm.hidden_field(data), rng()).states.sum()))
    assert lit == ([2, 4, 3] if estimator == "cd" else [2, 5, 7])


@each_persistent
@each_pair
def test_persistent_chains_follow_the_generator_and_are_samples(estimator: str, visible: str, hidden: str) -> None:
    rbm = make_rbm(visible, hidden)

    def run(seed: int) -> Tensor:
        chains = CHAINS.build(estimator, steps=2, chains=9, temperatures=3)
        first, second = (negatives(chains, rbm, rng(seed)) for _ in range(2))
        assert first.shape == second.shape == (9, rbm.visible.size)
        assert not torch.equal(first, second)
        return second

    v = run(4)
    assert torch.equal(v, run(4))
    assert not torch.equal(v, run(5))
    assert not v.requires_grad
    assert rbm.visible.in_support(v)


@each_persistent
def test_states_follow_the_precision_of_the_model(estimator: str) -> None:
    rbm = RBM(Bernoulli(4), Bernoulli(3))
    chains = CHAINS.build(estimator, steps=1, chains=5, temperatures=3)
    for dtype in (torch.float32, torch.float64, torch.float32):
        v = negatives(chains, rbm.to(dtype), rng())
        assert v.dtype == chains.state()["v"].dtype == dtype
        assert math.isfinite(chains.metrics()["chain_autocorrelation"])


class Calls(TorchDispatchMode):
    """Counts operations by name."""

    def __init__(self) -> None:
        super().__init__()
        self.count: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count[func.overloadpacket.__name__] += 1
        return func(*args, **kwargs or {})


@each_persistent
@each_pair
@pytest.mark.parametrize(("steps", "temperatures"), [(1, 2), (1, 7), (3, 7)])
def test_a_step_takes_two_products_at_all_temperatures_and_no_transfer(
    estimator: str, visible: str, hidden: str, steps: int, temperatures: int
) -> None:
    rbm = make_rbm(visible, hidden)
    chains = CHAINS.build(estimator, steps=steps, chains=5, temperatures=temperatures)
    negatives(chains, rbm, rng())
    with Calls() as calls:
        negatives(chains, rbm, rng())
    products = {name: calls.count[name] for name in ("mm", "addmm", "bmm", "baddbmm", "matmul", "mv")}
    assert products == {**dict.fromkeys(products, 0), "mm": 2 * steps}
    assert not {"_local_scalar_dense", "nonzero", "equal", "is_nonzero"} & set(calls.count)
    with Calls() as calls:
        chains.metrics()
    assert calls.count["_local_scalar_dense"] > 0  # the check above can fail


@each_persistent
@each_pair
def test_saved_chains_go_on_bit_for_bit(estimator: str, visible: str, hidden: str, tmp_path: Path) -> None:
    def make() -> Chains:
        return CHAINS.build(estimator, steps=2, chains=6, temperatures=4)

    rbm, going = make_rbm(visible, hidden), make()
    for seed in range(3):
        negatives(going, rbm, rng(seed))
    going.metrics()
    negatives(going, rbm, rng(3))
    state = going.state()
    save_state(tmp_path / "chains", state)
    kept = {name: value.clone() for name, value in state.items()}

    # What the model has learned since the first step must not reach the base.
    learned = make_rbm(visible, hidden, seed=8)
    resumed, twin = make(), copy.deepcopy(learned)
    resumed.load_state(load_state(tmp_path / "chains"))
    rbm.load_state_dict(learned.state_dict())
    for seed in range(4, 7):
        assert torch.equal(negatives(going, rbm, rng(seed)), negatives(resumed, twin, rng(seed)))
    assert going.metrics() == resumed.metrics() != {}
    assert all(torch.equal(going.state()[name], value) for name, value in resumed.state().items())
    assert state.keys() == going.state().keys() == resumed.state().keys()
    assert all(torch.equal(state[name], value) for name, value in kept.items())


@each_pair
def test_persistent_chains_take_every_step_under_the_model_of_now(visible: str, hidden: str) -> None:
    rbm, chains = make_rbm(visible, hidden), PersistentChains(2, 9)
    v = negatives(chains, rbm, rng(1))
    rbm.load_state_dict(make_rbm(visible, hidden, seed=3).state_dict())
    with torch.no_grad():
        assert torch.equal(negatives(chains, rbm, rng(2)), rbm.gibbs(v, 2, rng(2)))


@each_pair
def test_lagged_chains_begin_with_the_field_that_they_gave(visible: str, hidden: str) -> None:
    rbm, chains = make_rbm(visible, hidden), LaggedChains(2, 9)
    v, field, _ = chains.negatives(rbm, NOTHING, NOTHING, rng(1))
    assert field is not None
    assert_close(field, rbm.hidden_field(v))
    rbm.load_state_dict(make_rbm(visible, hidden, seed=3).state_dict())
    # Hidden biases are those of now, and so is W from the second step on.
    generator = rng(2)
    with torch.no_grad():
        first = rbm.sample_visible(rbm.hidden.sample(field, generator), generator)
        second = rbm.sample_visible(rbm.sample_hidden(first, generator), generator)
    assert torch.equal(negatives(chains, rbm, rng(2)), second)


@each_persistent
def test_a_state_taken_before_the_first_step_is_a_start(estimator: str) -> None:
    rbm = make_rbm("bernoulli", "bernoulli")
    first, second = (CHAINS.build(estimator, steps=2, chains=6, temperatures=4) for _ in range(2))
    second.load_state(first.state())
    assert torch.equal(negatives(first, rbm, rng()), negatives(second, rbm, rng()))


def flat_gradient(rbm: RBM, negatives: Tensor) -> Tensor:
    set_gradient(rbm, torch.eye(rbm.visible.size, dtype=torch.float64), negatives)
    return torch.cat([parameter.grad.flatten() for parameter in rbm.parameters() if parameter.grad is not None])


@cache
def exact_gradient(visible: str, hidden: str) -> tuple[Tensor, Tensor]:
    """Mean and deviation, over the model, of the gradient from one negative, in whose histogram it is linear."""
    rbm = make_rbm(visible, hidden)
    (states, p), _ = marginals(rbm)
    by_state = torch.stack([flat_gradient(rbm, state[None]) for state in states])
    mean = p @ by_state
    return mean, (p @ (by_state - mean) ** 2).sqrt()


@each_persistent
@each_pair
def test_the_gradient_of_long_chains_is_the_exact_one(estimator: str, visible: str, hidden: str) -> None:
    rbm, n = make_rbm(visible, hidden), 10_000
    exact, deviation = exact_gradient(visible, hidden)
    chains = CHAINS.build(estimator, steps=20, chains=n, temperatures=3)
    seen = flat_gradient(rbm, negatives(chains, rbm, rng(2)))
    assert ((seen - exact) / deviation * n**0.5).abs().max() < Z


# --- what they report ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("now", "then", "expected"),
    [
        ([[0, 1], [1, 0]], [[0, 1], [1, 0]], 1.0),
        ([[1, 0], [0, 1]], [[0, 1], [1, 0]], -1.0),
        ([[0, 0], [1, 1]], [[0, 1], [1, 0]], 0.0),
        ([[1, 1], [1, 1]], [[1, 1], [1, 1]], 1.0),  # all in one place, and none has moved
        ([[1, 1], [1, 1]], [[0, 0], [0, 0]], 0.0),  # together to another place
        # variances 1/4 + 3/16 and 1/4 + 1/4, covariances 1/4 + 1/8, means apart by 0 and 1/4
        ([[0, 1], [1, 0], [0, 1], [1, 1]], [[0, 1], [1, 0], [0, 1], [1, 0]], 2 * (3 / 8) / (7 / 16 + 1 / 2 + 1 / 16)),
    ],
)  # fmt: skip
def test_autocorrelation_of_given_states(now: list[list[int]], then: list[list[int]], expected: float) -> None:
    x, y = torch.tensor(now).double(), torch.tensor(then).double()
    assert_close(float(autocorrelation(x, y)), expected)


def test_autocorrelation_is_the_distance_to_ones_own_past_over_that_to_anyones() -> None:
    x, y = (torch.randn(2, 30, 4, dtype=torch.float64, generator=rng(1)) * torch.tensor([1.0, 3.0, 0.1, 0.0])).cumsum(0)
    own = (x - y).square().sum(1).mean()
    anyones = (x[:, None] - y).square().sum(2).mean()
    assert_close(autocorrelation(x, y), 1 - own / anyones)
    assert 0.4 < autocorrelation(x, y) < 0.9


@each_persistent
def test_metrics_compare_the_chains_with_those_of_the_last_call(estimator: str) -> None:
    rbm = make_rbm("gaussian", "bernoulli")
    chains = CHAINS.build(estimator, steps=1, chains=50, temperatures=3)
    seen = []
    for seed in range(3):
        v = negatives(chains, rbm, rng(seed)).clone()
        then = chains.state()["reference"].clone()
        assert not seen or torch.equal(then, seen[-1])
        assert chains.metrics()["chain_autocorrelation"] == pytest.approx(float(autocorrelation(v, then)), abs=1e-12)
        assert chains.metrics() == {"chain_autocorrelation": 1.0}  # not a step since
        seen.append(v)


# --- tempering -------------------------------------------------------------------------------------------------------

BETAS = (0.0, 0.35, 1.0)


class Tempered(NamedTuple):
    """Chains at the distribution of each temperature, and the enumeration of all."""

    chains: TemperedChains
    rbm: RBM
    states: Tensor
    p: Tensor
    free_energy: Tensor
    """Both (T, S)."""


def base_of(rbm: RBM) -> RBM:
    base = copy.deepcopy(rbm)
    with torch.no_grad():
        base.weight.zero_()
        base.hidden.bias.zero_()
    return base


@cache
@torch.no_grad()
def tempered_marginals(visible: str, hidden: str) -> tuple[Tensor, Tensor, Tensor]:
    """States, p and F at each β: the energy, too, lies on the line between those of the ends."""
    base, rbm = base_of(make_rbm(visible, hidden, seed=7)), make_rbm(visible, hidden)
    start, end = joint(base)[2], joint(rbm)[2]
    log_p = torch.stack([torch.lerp(start, end, beta).logsumexp(1) for beta in BETAS])
    return support(rbm.visible)[0], log_p.softmax(1), -log_p


def at_rest(visible: str, hidden: str, n: int) -> Tempered:
    """The base is that of a model which has since learned another distribution."""
    states, p, free_energy = tempered_marginals(visible, hidden)
    chains, generator = TemperedChains(1, n, BETAS), rng(1)
    negatives(chains, make_rbm(visible, hidden, seed=7), generator)
    chains.metrics()
    start = torch.cat([draw(states, at_beta, n, generator) for at_beta in p])
    chains.load_state(chains.state() | {"v": start, "rounds": torch.tensor(0)})
    return Tempered(chains, make_rbm(visible, hidden), states, p, free_energy)


@each_pair
def test_tempered_chains_started_at_their_distributions_stay_there(visible: str, hidden: str) -> None:
    chains, rbm, states, p, _ = at_rest(visible, hidden, 40_000)
    chains.steps = 4
    v = negatives(chains, rbm, rng(2))
    everywhere = chains.state()["v"].view(len(BETAS), 40_000, -1)
    assert torch.equal(v, everywhere[-1])
    for at_beta, p_at_beta in zip(everywhere, p, strict=True):
        assert follows(at_beta, states, p_at_beta, discrete=rbm.visible.spec in DISCRETE)


@each_pair
def test_swaps_are_accepted_as_often_as_the_enumeration_says(visible: str, hidden: str) -> None:
    n = 40_000
    chains, rbm, _, p, free_energy = at_rest(visible, hidden, n)
    chains.steps = 2
    negatives(chains, rbm, rng(2))
    accepted, tried = chains.state()["swaps"]
    assert tried.tolist() == [n, n]  # a step each
    rates = []
    for (p_a, p_b), (f_a, f_b) in zip(pairwise(p), pairwise(free_energy), strict=True):
        gain = f_a - f_b
        rates.append(float(p_a @ (gain[:, None] - gain).exp().clamp(max=1) @ p_b))
    exact = torch.tensor(rates)
    assert 0.005 < exact.min() < exact.max() < 0.99
    assert ((accepted / n - exact) / (exact * (1 - exact) / n).sqrt()).abs().max() < Z

    metrics = chains.metrics()
    assert metrics["swap_rate"] == pytest.approx(float((accepted / n).double().mean()))
    assert metrics["swap_rate_lowest"] == pytest.approx(float((accepted / n).double().min()))
    chains.steps = 1
    negatives(chains, rbm, rng(3))
    assert chains.state()["swaps"][1].tolist() == [n, 0]
    metrics = chains.metrics()
    assert metrics["swap_rate"] == metrics["swap_rate_lowest"]


@torch.no_grad()
def test_tempering_equals_a_chain_at_a_time_from_the_same_random_numbers() -> None:
    rbm, betas, n, steps = make_rbm("bernoulli", "bernoulli"), (0.0, 0.2, 0.6, 0.8, 1.0), 40, 5
    models = []
    for beta in betas:
        models.append(base_of(rbm))
        for mine, end in zip(models[-1].parameters(), rbm.parameters(), strict=True):
            mine.lerp_(end, beta)
    chains = TemperedChains(steps, n, betas)
    seen = negatives(chains, rbm, rng(3))

    generator, unbiased = rng(3), Bernoulli(3).double()

    def sample(fields: list[Tensor]) -> list[Tensor]:
        return list(unbiased.sample(torch.cat(fields), generator).split(n))

    v = sample([rbm.visible.bias.expand(n, 3)] * len(betas))
    accepted = [0] * (len(betas) - 1)
    for step in range(steps):
        uniform = torch.empty(len(betas), n, dtype=torch.float64).uniform_(generator=generator)
        for a in range(step % 2, len(betas) - 1, 2):
            b = a + 1
            for i in range(n):
                x_a, x_b = both = v[a][i].clone(), v[b][i].clone()
                (f_a_a, f_a_b), (f_b_a, f_b_b) = (models[t].free_energy(torch.stack(both)).tolist() for t in (a, b))
                if uniform[a, i] < min(1, math.exp(f_a_a + f_b_b - f_a_b - f_b_a)):
                    v[a][i], v[b][i] = x_b, x_a
                    accepted[a] += 1
        h = sample([model.hidden_field(x) + model.hidden.bias for model, x in zip(models, v, strict=True)])
        v = sample([model.visible_field(x) + model.visible.bias for model, x in zip(models, h, strict=True)])

    tried = [3 * n, 2 * n, 3 * n, 2 * n]
    assert chains.state()["swaps"].tolist() == [accepted, tried]
    assert all(0 < part < whole for part, whole in zip(accepted, tried, strict=True))
    assert torch.equal(chains.state()["v"], torch.cat(v))
    assert torch.equal(seen, v[-1])


# --- bars and stripes ------------------------------------------------------------------------------------------------


def bars_and_stripes() -> Tensor:
    """The 14 patterns 3×3 whose rows, or columns, are each all on or all off."""
    rows = torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * 3)[:, None].expand(8, 3, 3)
    return torch.cat([rows, rows.mT]).reshape(16, 9).unique(dim=0)


def learn_bars_and_stripes(chains: Chains, updates: int, learning_rate: float, seed: int) -> float:
    """KL(patterns ‖ model) in nats, Z summed over every visible state."""
    x, generator = bars_and_stripes(), rng(seed)
    rbm = RBM(Bernoulli(9), Bernoulli(16))
    randomize(rbm, seed, spread=0.1)
    optimizer = torch.optim.SGD(rbm.parameters(), lr=learning_rate)
    falls_to_zero = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda update: 1 - update / updates)
    for _ in range(updates):
        set_gradient(rbm, x, negatives(chains, rbm, generator))
        optimizer.step()
        falls_to_zero.step()
    states = torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * 9)
    with torch.no_grad():
        log_z = (-rbm.free_energy(states)).double().logsumexp(0)
        return float(rbm.free_energy(x).double().mean() + log_z) - math.log(len(x))


@pytest.mark.parametrize(
    ("estimator", "steps", "chains", "updates", "learning_rate"),
    [("pcd", 2, 500, 2000, 0.4), ("pt", 1, 100, 1000, 0.8)],
)
@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 8))])
def test_bars_and_stripes_are_learned_to_within_a_fifth_of_a_nat(
    estimator: str, steps: int, chains: int, updates: int, learning_rate: float, seed: int
) -> None:
    source = CHAINS.build(estimator, steps=steps, chains=chains, temperatures=5)
    assert 0 < learn_bars_and_stripes(source, updates, learning_rate, seed) < 0.2
