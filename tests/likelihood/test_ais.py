"""Annealed importance sampling against exact partition functions."""

import copy
import math
import os
from functools import cache
from pathlib import Path as File
from typing import Any

import numpy as np
import pytest
import torch
from enumeration import PAIRS, Z, draw, joint, make_rbm, marginals, randomize, rng
from torch import Tensor
from torch.testing import assert_close
from torch.utils._python_dispatch import TorchDispatchMode

from dbn.errors import InputError
from dbn.likelihood.ais import anneal, anneal_back, anneal_between, path_from_data, temperature_schedule
from dbn.likelihood.estimates import Annealing, combine, ess_warnings, estimate_log_z
from dbn.likelihood.exact import log_partition
from dbn.likelihood.exact import sample as exact_sample
from dbn.models.annealing import Path, independent_base
from dbn.models.rbm import RBM
from dbn.models.units.base import Units
from dbn.models.units.bernoulli import Bernoulli
from dbn.models.units.binomial import Binomial
from dbn.models.units.gaussian import Gaussian
from dbn.models.units.relu import ReLU

BINARY = ("bernoulli", "bernoulli")

each_pair = pytest.mark.parametrize("pair", PAIRS, ids="-".join)
both_ways = pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])


def make_path(pair: tuple[str, str] = BINARY, seed: int = 0) -> Path:
    rbm = make_rbm(*pair, seed=seed)
    states, p = marginals(rbm)[0]
    mean = p @ states
    return Path(independent_base(rbm, mean, p @ (states - mean) ** 2, 100), rbm)


@cache
def exact(pair: tuple[str, str]) -> tuple[Path, Tensor, Tensor, float]:
    """A path, every visible state of its model and their probabilities, and log Z."""
    path = make_path(pair)
    states, p = marginals(path.rbm)[0]
    with torch.no_grad():
        return path, states, p, float(joint(path.rbm)[2].logsumexp((0, 1)))


def exact_run(pair: tuple[str, str], reverse: bool, betas: Tensor, chains: int, seed: int) -> tuple[Annealing, float]:
    """A run from exact draws of the base or of the model, and log Z."""
    path, states, p, log_z = exact(pair)
    generator = rng(seed)
    if not reverse:
        return anneal(path, betas, chains, generator), log_z
    return anneal_back(path, betas, draw(states, p, chains, generator), generator), log_z


def annealing(*log_weights: float) -> Annealing:
    return Annealing(torch.tensor(log_weights, dtype=torch.float64), torch.zeros(len(log_weights), 1))


def test_the_published_schedule() -> None:
    betas = temperature_schedule("published")
    assert betas.dtype == torch.float64
    assert len(betas) == len(betas.unique()) == 14_501
    grids = [torch.linspace(a, b, n + 1, dtype=torch.float64) for a, b, n in
             ((0, 0.5, 500), (0.5, 0.9, 4000), (0.9, 1, 10_000))]  # fmt: skip
    assert_close(betas, torch.cat([grids[0], grids[1][1:], grids[2][1:]]), rtol=0, atol=1e-13)
    assert (betas[0], betas[-1]) == (0, 1)
    assert torch.equal(temperature_schedule("quick"), temperature_schedule(1001))


@pytest.mark.parametrize("count", [2, 3, 30, 1001])
def test_a_schedule_of_any_length_keeps_the_proportions(count: int) -> None:
    betas = temperature_schedule(count)
    assert len(betas) == count
    assert betas[0] == 0
    assert betas[-1] == 1
    assert (betas.diff() > 0).all()
    along = np.interp(np.linspace(0, 1, count), [0, 0.3, 0.6, 1], [0, 0.5, 0.9, 1])
    assert_close(betas, torch.from_numpy(along), rtol=0, atol=1e-12)


def test_the_quick_schedule_has_a_thousand_steps() -> None:
    assert torch.equal(temperature_schedule("quick"), temperature_schedule(1_001))
    assert len(temperature_schedule("quick")) == 1_001


@pytest.mark.parametrize("wrong", ["slow", "", 1, 0, -5])
def test_a_schedule_that_does_not_exist_is_refused(wrong: str | int) -> None:
    with pytest.raises(InputError, match="published, quick"):
        temperature_schedule(wrong)


@each_pair
@both_ways
@pytest.mark.parametrize("count", [2, 12])
def test_the_weights_are_unbiased(pair: tuple[str, str], reverse: bool, count: int) -> None:
    run, log_z = exact_run(pair, reverse, temperature_schedule(count), 20_000, seed=1)
    weights = ((-1 if reverse else 1) * (run.log_weights - log_z)).exp()
    error = float(weights.std()) / len(weights) ** 0.5
    assert error < 0.05
    assert abs(float(weights.mean()) - 1) < Z * error


@pytest.mark.parametrize("pair", [pair for pair in PAIRS if pair[0] in ("bernoulli", "gaussian")], ids="-".join)
@both_ways
def test_intervals_hold_the_truth_as_often_as_they_say(pair: tuple[str, str], reverse: bool) -> None:
    trials, chains, sign = 100, 200, -1 if reverse else 1
    run, truth = exact_run(pair, reverse, temperature_schedule(40), trials * chains, seed=2)
    held, scores = 0, []
    for log_weights in run.log_weights.split(chains):
        found = estimate_log_z(Annealing(log_weights, run.states), reverse)
        held += found.lower <= truth <= found.upper
        weights = (sign * (log_weights - truth)).exp()
        scores.append((weights.mean() - 1) / (weights.std() / chains**0.5))
    spread = float(torch.stack(scores).std())
    assert held >= 97
    assert 0.8 < spread < 1.25


@pytest.mark.slow
@pytest.mark.parametrize(
    ("visible", "hidden"),
    [
        (Bernoulli(9), Binomial(4, trials=5)),
        (Binomial(4, trials=6), Bernoulli(7)),
        (Bernoulli(8), ReLU(7)),
        (ReLU(9), Bernoulli(8)),
    ],
    ids=["bernoulli-binomial", "binomial-bernoulli", "bernoulli-relu", "relu-bernoulli"],
)
@both_ways
def test_intervals_hold_log_z_of_larger_models(visible: Units, hidden: Units, reverse: bool) -> None:
    """Against the sum over the listed side, from exact samples of base or model, with 400 chains a trial."""
    rbm = RBM(copy.deepcopy(visible), copy.deepcopy(hidden))
    randomize(rbm, 3)
    rbm.requires_grad_(False)
    data = exact_sample(rbm, 2000, rng(1))
    path = path_from_data(rbm, data)
    truth, chains, scores, held = log_partition(rbm), 400, [], 0
    for trial in range(100):
        generator = rng(100 + trial)
        run = (
            anneal_back(path, temperature_schedule(120), exact_sample(rbm, chains, generator), generator)
            if reverse
            else anneal(path, temperature_schedule(120), chains, generator)
        )
        found = estimate_log_z(run, reverse)
        held += found.lower <= truth <= found.upper
        weights = ((-1 if reverse else 1) * (run.log_weights - truth)).exp()
        scores.append((weights.mean() - 1) / (weights.std() / chains**0.5))
    spread = float(torch.stack(scores).std())
    print(f"{rbm}: {held} of 100, z-scores {spread:.2f}, sample size {found.effective_sample_size:.0f} of {chains}")
    assert held >= 97
    assert 0.8 < spread < 1.25


@each_pair
def test_forward_chains_end_near_the_model_and_back_ones_at_the_base(pair: tuple[str, str]) -> None:
    """A slow path keeps the chains in equilibrium: the weights vary little, the states have the model's mean."""
    path = exact(pair)[0]
    there = anneal(path, torch.linspace(0, 1, 60), 4000, rng(3))
    back = anneal_back(path, torch.linspace(0, 1, 60), there.states, rng(4))
    for run, end in ((there, path.rbm), (back, path.base)):
        states, p = marginals(end)[0]
        mean = p @ states
        error = ((p @ (states - mean) ** 2) / len(run.states)).sqrt()
        assert ((run.states.mean(0) - mean) / error).abs().max() < Z + 1
        assert run.log_weights.std() < 0.3


@torch.no_grad()
def test_chains_that_do_not_mix_put_log_z_too_low_forward_and_too_high_back() -> None:
    """Two modes far apart: an estimate from few temperatures flatters the model one way and wrongs it the other."""
    rbm = RBM(Bernoulli(3), Bernoulli(3)).double()
    for parameter, value in ((rbm.weight, 8.0), (rbm.visible.bias, -12.0), (rbm.hidden.bias, -12.0)):
        parameter.fill_(value)
    path = Path(independent_base(rbm, torch.full((3,), 0.5), torch.full((3,), 0.25), 100), rbm)
    states, p = marginals(rbm)[0]
    log_z, chains = float(joint(rbm)[2].logsumexp((0, 1))), 4000
    runs = (
        anneal(path, temperature_schedule(4), chains, rng(1)),
        anneal_back(path, temperature_schedule(4), draw(states, p, chains, rng(2)), rng(3)),
    )
    for run, sign in zip(runs, (-1, 1), strict=True):
        estimates = torch.tensor([estimate_log_z(Annealing(w, w), sign > 0).log_z for w in run.log_weights.split(4)])
        error = float(estimates.std()) / len(estimates) ** 0.5
        assert sign * (float(estimates.mean()) - log_z) > Z * error


class Products(TorchDispatchMode):
    """Counts the matrix products that have a matrix of so many elements for a factor."""

    def __init__(self, elements: int) -> None:
        super().__init__()
        self.elements, self.count = elements, 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        if name in {"mm", "addmm", "bmm", "baddbmm", "mv", "addmv", "linear", "einsum"}:
            self.count += any(isinstance(x, Tensor) and x.numel() == self.elements for x in args)
        return func(*args, **(kwargs or {}))


@both_ways
@pytest.mark.parametrize("hidden", [Bernoulli(5), Gaussian(5)])
def test_a_step_costs_two_matrix_products(hidden: Bernoulli | Gaussian, reverse: bool) -> None:
    rbm = RBM(Bernoulli(7), hidden)
    path = Path(independent_base(rbm, torch.full((7,), 0.5), torch.full((7,), 0.25), 10), rbm)
    with Products(7 * 5) as products:
        if reverse:
            anneal_back(path, temperature_schedule(21), torch.zeros(3, 7), rng())
        else:
            anneal(path, temperature_schedule(21), 3, rng())
    assert products.count == 2 * 20


def test_the_sum_of_many_small_terms_is_exact_in_single_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    path = make_path()
    path = Path(path.base.float(), path.rbm.float())
    term = torch.tensor([0.1, 1e-6, -3.3])
    monkeypatch.setattr(Path, "log_ratio", lambda *_: term)
    run = anneal(path, torch.linspace(0, 1, 2101), 3, rng())
    assert_close(run.log_weights, path.base_log_partition() + 2100 * term.double(), rtol=0, atol=1e-7)


def test_single_precision_gives_the_log_weights_of_double() -> None:
    """Along the same states: a one-step path visits none but the start."""
    path = make_path()
    start = draw(*marginals(path.rbm)[0], 50, rng(5))
    double = anneal_back(path, temperature_schedule(2), start, rng()).log_weights
    single = anneal_back(Path(path.base.float(), path.rbm.float()), temperature_schedule(2), start, rng()).log_weights
    assert single.dtype == torch.float64
    assert_close(single, double, rtol=0, atol=1e-5)


def test_a_run_repeats_with_its_generator_and_leaves_its_start_alone() -> None:
    path = make_path()
    one, same, other = (anneal(path, temperature_schedule(10), 50, rng(seed)) for seed in (1, 1, 2))
    assert torch.equal(one.log_weights, same.log_weights)
    assert torch.equal(one.states, same.states)
    assert not torch.equal(one.log_weights, other.log_weights)
    before = one.states.clone()
    anneal_back(path, temperature_schedule(10), one.states, rng())
    assert torch.equal(one.states, before)


@pytest.mark.parametrize("count", [2, 7, 1001, 1203])
def test_progress_adds_up_to_the_steps(count: int) -> None:
    told: list[int] = []
    anneal(make_path(), temperature_schedule(count), 1, rng(), told.append)
    assert sum(told) == count - 1
    assert min(told) > 0
    assert len(told) <= 2 * 200


@pytest.mark.parametrize("shift", [0.0, 5000.0, -5000.0])
def test_a_summary_by_hand(shift: float) -> None:
    """Weights 1 and 3: mean 2, standard error 1."""
    log_z, lower, upper, size = estimate_log_z(annealing(shift, shift + math.log(3)))
    assert log_z == pytest.approx(shift + math.log(2))
    assert lower == -math.inf
    assert upper == pytest.approx(shift + math.log(5))
    assert size == pytest.approx(16 / 10)
    log_z, lower, upper, size = estimate_log_z(annealing(-shift, -shift - math.log(3)), reverse=True)
    assert log_z == pytest.approx(-shift - math.log(2))
    assert lower == pytest.approx(-shift - math.log(5))
    assert upper == math.inf
    assert size == pytest.approx(16 / 10)


def test_a_summary_of_many_chains_has_two_finite_ends() -> None:
    """100 weights, half 1 and half 3: the variance is 100/99."""
    error = 3 * (100 / 99 / 100) ** 0.5
    found = estimate_log_z(annealing(*[0.0, math.log(3)] * 50))
    assert found == pytest.approx((math.log(2), math.log(2 - error), math.log(2 + error), 200**2 / 500))


def test_equal_weights_are_certain_and_one_chain_is_not() -> None:
    assert estimate_log_z(annealing(*[3.0] * 8)) == pytest.approx((3.0, 3.0, 3.0, 8.0))
    for reverse in (False, True):
        assert estimate_log_z(annealing(3.0), reverse) == pytest.approx((3.0, -math.inf, math.inf, 1.0))


def test_log_weights_that_are_not_finite_are_refused() -> None:
    with pytest.raises(InputError, match="2 of 3 annealed chains"):
        estimate_log_z(annealing(math.nan, 0.0, math.inf))


def test_only_exact_starts_bound_log_z() -> None:
    forward, reverse = annealing(*[0.0, 0.2] * 50), annealing(*[0.1, 0.4] * 50)
    up, down = estimate_log_z(forward), estimate_log_z(reverse, reverse=True)
    exact, diagnostic = combine(forward, reverse, exact_start=True), combine(forward, reverse)
    assert exact.bounds == (up.lower, down.upper)
    assert diagnostic.bounds is None
    assert exact.difference == diagnostic.difference == down.log_z - up.log_z
    assert (exact.forward, exact.reverse) == (up, down)
    assert exact.warnings == diagnostic.warnings == []


@pytest.mark.parametrize(
    ("forward", "reverse", "warnings"),
    [
        (annealing(*[0.0] * 100), annealing(*[0.9] * 100), []),
        (annealing(*[0.0] * 100), annealing(*[1.1] * 100), ["differ by 1.10 nats"]),
        (annealing(*[1.1] * 100), annealing(*[0.0] * 100), ["differ by 1.10 nats"]),
        (annealing(*[0.0] * 9), annealing(*[0.0] * 10), ["forward run has an effective sample size of 9.0 out of 9"]),
        (
            annealing(*[0.0] * 9),
            annealing(*[0.0] * 9),
            ["says little; use more chains", "says little; use more chains"],
        ),
        (annealing(0.0), annealing(*[0.0] * 10), ["1.0 out of 1 chains, so its interval says little; use more chains"]),
        (annealing(*[0.0] * 8, *[-50.0] * 12), annealing(*[0.0] * 10), ["may be too narrow; use more temperatures"]),
        (annealing(50.0, *[0.0] * 8), annealing(*[50.0] * 10), ["too narrow; use more temperatures", "differ by"]),
        (annealing(*[0.0] * 11, *[-50.0] * 100), annealing(*[-2.3] * 10), ["size of 11.0 out of 111"]),
        (annealing(*[0.0] * 10), annealing(*[0.0] * 11, *[50.0] * 100), ["reverse run has", "differ by"]),
    ],
)
def test_doubtful_figures_are_warned_of(forward: Annealing, reverse: Annealing, warnings: list[str]) -> None:
    said = combine(forward, reverse).warnings
    assert len(said) == len(warnings)
    for sentence, part in zip(said, warnings, strict=True):
        assert part in sentence


@pytest.mark.parametrize(
    "betas",
    [
        [],
        [1.0],
        [0.0, 0.5],
        [0.5, 1.0],
        [0.0, 0.5, 0.5, 1.0],
        [0.0, 0.6, 0.5, 1.0],
        [1.0, 0.0],
        [[0.0, 1.0]],
        [0.0, math.nan, 1.0],
    ],
)
def test_temperatures_that_do_not_rise_from_0_to_1_are_refused(betas: list[Any]) -> None:
    for run in (
        lambda b: anneal(make_path(), b, 2, rng()),
        lambda b: anneal_back(make_path(), b, torch.zeros(2, 3), rng()),
    ):
        with pytest.raises(InputError, match="increase from 0 to 1"):
            run(torch.tensor(betas))


def test_a_coupled_base_is_refused_before_any_work() -> None:
    path = Path(make_rbm(*BINARY, seed=1), make_rbm(*BINARY))
    told: list[int] = []
    for run in (
        lambda: anneal(path, temperature_schedule(5), 2, rng(), told.append),
        lambda: anneal_back(path, temperature_schedule(5), torch.zeros(2, 3), rng(), told.append),
    ):
        with pytest.raises(InputError, match="weight 0"):
            run()
    assert told == []


@pytest.mark.parametrize("chains", [0, -1])
def test_no_chains_are_refused(chains: int) -> None:
    with pytest.raises(InputError, match="at least one chain"):
        anneal(make_path(), temperature_schedule(5), chains, rng())


@pytest.mark.parametrize("start", [torch.zeros(0, 3), torch.zeros(3), torch.zeros(2, 4)])
def test_a_start_of_another_shape_is_refused(start: Tensor) -> None:
    with pytest.raises(InputError, match=r"rows of 3 values|at least one state"):
        anneal_back(make_path(), temperature_schedule(5), start, rng())


def test_a_start_that_is_not_finite_is_refused() -> None:
    with pytest.raises(InputError, match="finite ones only"):
        anneal_back(
            make_path(("gaussian", "bernoulli")), temperature_schedule(5), torch.tensor([[1.0, math.nan]]), rng()
        )


def test_a_start_from_grey_pixels_is_refused_where_units_are_binary() -> None:
    with pytest.raises(InputError, match=r"states of 0, 1 only, not .* in row .*: binarize"):
        anneal_back(make_path(), temperature_schedule(5), torch.tensor([[0.0, 1.0, 0.5]]), rng())
    anneal_back(make_path(("gaussian", "bernoulli")), temperature_schedule(5), torch.tensor([[0.5, -1.5]]), rng())


@pytest.mark.parametrize("name", ["weight", "visible.bias", "hidden.log_precision"])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_parameters_that_are_not_finite_are_refused(name: str, value: float) -> None:
    path = make_path(("bernoulli", "gaussian"))
    with torch.no_grad():
        path.rbm.get_parameter(name).view(-1)[0] = value
    with pytest.raises(InputError, match=f"model's {name} is not finite"):
        anneal(path, temperature_schedule(5), 2, rng())


def test_a_base_without_z_is_refused() -> None:
    base, rbm = (make_rbm("gaussian", "gaussian", seed=seed) for seed in (1, 0))
    with torch.no_grad():
        base.weight.mul_(100)
    with pytest.raises(InputError, match="no finite Z"):
        anneal_between(Path(base, rbm), temperature_schedule(5), torch.zeros(2, 2), rng())


def test_a_model_without_z_is_refused() -> None:
    path = make_path(("gaussian", "gaussian"))
    with torch.no_grad():
        path.rbm.weight.mul_(100)
    with pytest.raises(InputError, match="no finite Z"):
        anneal_back(path, temperature_schedule(5), torch.zeros(2, 2), rng())


FILES = [File(os.environ.get("DBN_DATA", "")) / name for name in ("sm08_rbm_cd25_500.npz", "sm08_binarized_mnist.npz")]


@pytest.mark.slow
@pytest.mark.skipif(not all(file.is_file() for file in FILES), reason="the published model is not in $DBN_DATA")
def test_the_published_model() -> None:
    """Salakhutdinov & Murray's CD25(500): log Z 451.28, test log-likelihood −86.34 with 100 chains."""
    model, data = (np.load(file) for file in FILES)
    train, test = (torch.from_numpy(np.unpackbits(data[name], axis=1)).float() for name in ("train", "test"))
    rbm = RBM(Bernoulli(784), Bernoulli(500)).requires_grad_(False)
    names = {"weight": "weight", "visible.bias": "visible_bias", "hidden.bias": "hidden_bias"}
    rbm.load_state_dict({name: torch.from_numpy(model[key]).float().squeeze() for name, key in names.items()})
    mean = train.mean(0)
    path, generator = Path(independent_base(rbm, mean, mean * (1 - mean), len(train)), rbm), rng(0)
    there = anneal(path, temperature_schedule("published"), 100, generator)
    log_z = estimate_log_z(there).log_z
    assert abs(log_z - 451.28) < 0.3
    assert abs(float(-rbm.free_energy(test).double().mean()) - log_z + 86.34) < 0.15
    for start in (there.states, test[torch.randperm(len(test), generator=generator)[:100]]):
        back = combine(there, anneal_back(path, temperature_schedule("published"), start, generator))
        assert abs(back.difference) < 0.5
        assert back.warnings == []


def test_few_chains_with_weight_are_doubted_without_a_reverse_run() -> None:
    even = Annealing(torch.zeros(100, dtype=torch.float64), torch.empty(0))
    one = Annealing(torch.tensor([50.0] + [0.0] * 99, dtype=torch.float64), torch.empty(0))
    assert ess_warnings("forward", even, estimate_log_z(even)) == []
    (sentence,) = ess_warnings("forward", one, estimate_log_z(one))
    assert sentence.startswith("The forward run has an effective sample size of 1.0 out of 100 chains")
