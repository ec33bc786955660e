"""Annealed importance sampling: estimates of log Z with confidence intervals.

Chains move along a path from a base of known Z to the model, or back. At each new β

    log w += log f_new(v) − log f_old(v),    f = exp(−F),

and then one Gibbs step leaves the new model invariant. Forward from exact samples of the base E[w] = Z/Z_base: by
Jensen's inequality log w is a stochastic lower bound on log Z. In reverse from exact samples of the model E[w] =
Z_base/Z, which gives a stochastic upper bound. Where chains do not mix, the first is too low, which flatters the model,
and the second too high: estimate both.

Neal (2001), "Annealed importance sampling"; Salakhutdinov & Murray (2008), "On the quantitative analysis of deep
belief networks"; Burda, Grosse & Salakhutdinov (2015), "Accurate and conservative estimates of MRF log-likelihood
using reverse annealing".
"""

from itertools import pairwise

import torch
from torch import Tensor

from dbn.errors import InputError, check_types
from dbn.likelihood.annealed_chains import KEPT_NOWHERE, Keep, Progress, moved_along
from dbn.likelihood.estimates import Annealing, Bracket, LogZ, combine, estimate_log_z
from dbn.models.annealing import Path, independent_base
from dbn.models.rbm import RBM
from dbn.rng import permutation, stream

PUBLISHED = ((0.0, 0.0), (500 / 14_500, 0.5), (4_500 / 14_500, 0.9), (1.0, 1.0))
"""(fraction of the steps, β): Salakhutdinov & Murray's 500 steps to 0.5, 4,000 to 0.9 and 10,000 to 1."""

SHORT = ((0.0, 0.0), (0.3, 0.5), (0.6, 0.9), (1.0, 1.0))
"""For fewer steps: theirs scaled down to 1,000 would leave 35 below β = 0.5, where most of the error arises."""

TEMPERATURE_SCHEDULES = {"published": (14_501, PUBLISHED), "quick": (1_001, SHORT)}
"""The number of temperatures and their distribution, by name."""


@check_types
@torch.no_grad()
def ais(rbm: RBM, data: Tensor, temperatures: str | int = "quick", chains: int = 100, seed: int = 0) -> LogZ:
    """log Z by annealing `chains` chains from independent units with the marginals of `data` to the RBM.

    data: (N, V), scaled as in training. temperatures: see `temperature_schedule`. InputError for a model without a
    finite Z, rows of another width and no chain. Salakhutdinov & Murray (2008).

    >>> from dbn.models import RBM, Bernoulli
    >>> rbm = RBM(Bernoulli(4), Bernoulli(3))
    >>> found = ais(rbm, torch.eye(4), temperatures=10)
    >>> found.lower < 4.85203 < found.upper  # 7 log 2, the exact value
    True
    """
    return estimate_log_z(_forward(rbm, data, temperatures, chains, seed))


@check_types
@torch.no_grad()
def reverse_ais(rbm: RBM, data: Tensor, temperatures: str | int = "quick", chains: int = 100, seed: int = 0) -> LogZ:
    """log Z by annealing from `chains` random rows of `data`, at most all of them, back to independent units.

    An upper bound only as far as the data are samples of the RBM, else a diagnostic: alone, its ends are no interval of
    log Z, since they hold the spread of the chains and not the error of their starts; see `bracket`. Arguments and
    InputError as for `ais`, and InputError for values outside the support of the visible units. Burda et al. (2015).

    >>> from dbn.models import RBM, Bernoulli
    >>> rbm = RBM(Bernoulli(4), Bernoulli(3))
    >>> data = torch.rand(200, 4, generator=torch.Generator().manual_seed(0)).round()  # exact samples
    >>> found = reverse_ais(rbm, data, temperatures=10)
    >>> found.lower < 4.85203 < found.upper
    True
    """
    return estimate_log_z(_reverse(rbm, data, temperatures, chains, seed), reverse=True)


@check_types
@torch.no_grad()
def bracket(rbm: RBM, data: Tensor, temperatures: str | int = "quick", chains: int = 100, seed: int = 0) -> Bracket:
    """`ais` and `reverse_ais` with their difference and warnings: estimates that disagree cannot be relied on.

    `bounds` is None, as data are not exact samples of the model.

    >>> from dbn.models import RBM, Bernoulli
    >>> rbm = RBM(Bernoulli(4), Bernoulli(3))
    >>> both = bracket(rbm, torch.eye(4).repeat(25, 1), temperatures=50)
    >>> abs(both.difference) < 0.1, both.warnings
    (True, [])
    """
    arguments = rbm, data, temperatures, chains, seed
    return combine(_forward(*arguments), _reverse(*arguments))


def _forward(rbm: RBM, data: Tensor, temperatures: str | int, chains: int, seed: int) -> Annealing:
    path = path_from_data(rbm, data)
    return anneal(path, temperature_schedule(temperatures), chains, stream(seed, "AIS", device=rbm.weight.device))


def _reverse(rbm: RBM, data: Tensor, temperatures: str | int, chains: int, seed: int) -> Annealing:
    path, betas = path_from_data(rbm, data), temperature_schedule(temperatures)
    rows = permutation(len(data), stream(seed, "where reverse AIS starts"))[: check_chains(chains)]
    generator = stream(seed, "reverse AIS", device=rbm.weight.device)
    return anneal_back(path, betas, data[rows.to(data.device)], generator)


def path_from_data(rbm: RBM, data: Tensor) -> Path:
    """The path to `rbm` from independent units with the marginals of `data` (N, V)."""
    rbm.visible.check_rows(data)
    if not len(data):
        raise InputError("the base of annealing needs the marginals of at least one example, and none is given")
    # In float64, which not every device has.
    variance, mean = torch.var_mean(data.cpu().double(), 0, correction=0)
    base = independent_base(rbm, mean.to(rbm.weight), variance.to(rbm.weight), len(data))
    if not all(parameter.isfinite().all() for parameter in base.visible.parameters()):
        raise InputError(f"{rbm.visible.kind} units cannot have the marginals of the data: scale them as in training")
    return Path(base, rbm)


def temperature_schedule(name_or_count: str | int) -> Tensor:
    """β increasing from 0 to 1, float64: by name (`TEMPERATURE_SCHEDULES`), or a number of them distributed as `SHORT`.

    Salakhutdinov & Murray (2008), section 6.1. InputError for an unknown name and for fewer than two.
    """
    if isinstance(name_or_count, str):
        count, knots = TEMPERATURE_SCHEDULES.get(name_or_count, (0, SHORT))
    else:
        count, knots = name_or_count, SHORT
    if count < 2:
        names = ", ".join(TEMPERATURE_SCHEDULES)
        raise InputError(f"no annealing schedule {name_or_count!r}: give one of {names}, or 2 or more temperatures")
    position = torch.linspace(0, 1, count, dtype=torch.float64, device="cpu")
    betas = torch.zeros_like(position)
    for (start, low), (end, high) in pairwise(knots):
        betas += ((position - start) / (end - start)).clamp(0, 1) * (high - low)
    betas[-1] = 1.0
    return betas


@torch.no_grad()
def anneal(
    path: Path,
    betas: Tensor,
    chains: int,
    generator: torch.Generator,
    progress: Progress | None = None,
    keep: Keep = KEPT_NOWHERE,
) -> Annealing:
    """Forward, from exact samples of the base: the mean of exp(log_weights) is unbiased for Z.

    betas: (K,), increasing from 0 to 1. The last Gibbs step is at β = 1. A step costs two matrix products. InputError
    for other betas, no chain, a coupled base, and a model with parameters or Z not finite.
    """
    positions, log_z = _positions(path, betas), path.base_log_partition()
    base = path.base.visible
    start = base.sample(base.bias.new_zeros(check_chains(chains), base.size), generator)
    log_ratios, states = moved_along(path, positions, start, generator, progress, keep)
    return Annealing(log_z + log_ratios, states)


@torch.no_grad()
def anneal_back(
    path: Path,
    betas: Tensor,
    start: Tensor,
    generator: torch.Generator,
    progress: Progress | None = None,
    keep: Keep = KEPT_NOWHERE,
) -> Annealing:
    """Back to the base, from `start` (N, V), states of the full model.

    From exact samples the mean of exp(−log_weights) is unbiased for 1/Z, so that −log of it is a stochastic upper
    bound on log Z. From anything else (data, the final states of `anneal`) it is a diagnostic. betas and InputError as
    for `anneal`, and InputError for starts of another shape or outside the support.
    """
    log_z = path.base_log_partition()
    back = anneal_between(path, betas, start, generator, progress, keep, reverse=True)
    return back._replace(log_weights=log_z + back.log_weights)


@torch.no_grad()
def anneal_between(
    path: Path,
    betas: Tensor,
    start: Tensor,
    generator: torch.Generator,
    progress: Progress | None = None,
    keep: Keep = KEPT_NOWHERE,
    *,
    reverse: bool = False,
) -> Annealing:
    """log Z/Z_base along a path whose base may be coupled, from `start` (N, V): states of the base, or of the model.

    From exact samples of the base the mean of exp(log_weights) is unbiased for Z/Z_base; with `reverse`, from those of
    the model, the mean of exp(−log_weights) is for Z_base/Z. betas and InputError as for `anneal_back`.
    """
    positions = _positions(path, betas)
    visible = path.rbm.visible
    visible.check_states(start)
    start = start.to(path.rbm.weight)
    if not len(start) or not start.isfinite().all():
        raise InputError("annealing needs at least one state to start from, and finite ones only")
    log_ratios, states = moved_along(path, positions[::-1] if reverse else positions, start, generator, progress, keep)
    return Annealing(-log_ratios if reverse else log_ratios, states)


def _positions(path: Path, betas: Tensor) -> list[float]:
    """The betas as numbers; InputError for them and for models as for `anneal`."""
    positions: list[float] = betas.cpu().double().tolist() if betas.ndim == 1 else []
    increasing = all(low < high for low, high in pairwise(positions))  # and no nan
    if not increasing or (positions[:1], positions[-1:]) != ([0], [1]):
        raise InputError("the temperatures of annealing must increase from 0 to 1: see temperature_schedule")
    path.rbm.check_partition("model")
    path.base.check_partition("base")
    return positions


def check_chains(chains: int) -> int:
    """The number of chains; InputError below 1."""
    if chains < 1:
        raise InputError(f"annealed importance sampling needs at least one chain, not {chains}")
    return chains
