"""log Z of every layer of a stack, and of every layer relative to the one below.

Only the chains of forward AIS start from exact samples: reverse AIS, and annealing between two layers, are diagnostics.
"""

from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from dbn.config.evaluation import EvaluateConfig
from dbn.evaluation.examples import EvaluationData
from dbn.likelihood import exact
from dbn.likelihood.ais import (
    Bracket,
    LogZ,
    Progress,
    ais,
    bracket,
    ess_warnings,
    estimate_log_z,
    reverse_ais,
    temperature_schedule,
)
from dbn.likelihood.layer_ratio import can_bridge, layer_ratio
from dbn.models.annealing import Path, independent_base
from dbn.models.dbn import DBN
from dbn.models.rbm import RBM
from dbn.pretraining.layer_data import LayerData
from dbn.rng import fixed_subset, permutation, stream
from dbn.sampling.chains import autocorrelation
from dbn.training.loop import progress_bar

SOME = 10_000
"""Training rows at most, and hidden states of a lower layer."""

TIMES_CHAINS, PART_OF_TEMPERATURES, PART_OF_STEPS = 4, 20, 3
"""Annealing between two layers, relative to AIS: more chains, as their weights differ by the region that each is in;
fewer temperatures, as the path is short; and a third of their number as Gibbs steps before it."""

REMEMBERED = 0.1
"""The autocorrelation with the data above which there is a warning."""


class Estimate(NamedTuple):
    """log Z of one layer."""

    log_z: float
    interval: tuple[float, float]
    effective_sample_size: float | None
    """Of the forward chains; None for an exact value."""
    reverse: dict[str, LogZ]
    """By the start of the reverse run."""
    warnings: list[str]


class Ratio(NamedTuple):
    """log Z_{l+1}/Z_l of two neighboring layers."""

    both: Bracket
    autocorrelation: tuple[float, float]
    """Of the forward and the reverse chains with the data, at their start."""
    warnings: list[str]


def log_partitions(stack: DBN, data: EvaluationData, config: EvaluateConfig, *, progress: bool) -> list[Estimate]:
    """log Z of every layer; its data are the training rows passed up through the layers below."""
    if config.exact:
        values = [exact.log_partition(rbm) for rbm in stack.layers]
        return [Estimate(value, (value, value), None, {}, []) for value in values]
    betas = temperature_schedule(config.resolved()["ais"])
    steps = len(stack.layers) * (3 if config.reverse else 1) * (len(betas) - 1)
    with progress_bar(steps, "annealing", shown=progress) as bar:
        return [_annealed(stack, layer, data, betas, config, bar.update) for layer in range(len(stack.layers))]


def _annealed(
    stack: DBN, layer: int, data: EvaluationData, betas: Tensor, config: EvaluateConfig, progress: Progress
) -> Estimate:
    """AIS of layer 0, 1, …, and reverse AIS from its data and from the end points of AIS, neither exact samples."""
    rbm = stack.layers[layer]

    def noise(purpose: str) -> torch.Generator:
        return stream(config.seed, purpose, layer, device=rbm.weight.device)

    inputs = _inputs(stack, layer, data, noise("what AIS is based on"))
    path = Path(independent_base(rbm, *inputs.moments(), len(inputs)), rbm)
    chains = config.resolved()["chains"]
    forward = ais(path, betas, chains, noise("AIS"), progress)
    found = estimate_log_z(forward)
    log_z, *interval, size = found
    reverse, warnings = {}, ess_warnings("forward", forward, found)
    if config.reverse:
        drawn = permutation(len(inputs), stream(config.seed, "where reverse AIS starts", layer))[:chains]
        starts = {"data": inputs.batch(drawn.to(rbm.weight.device)), "end points": forward.states}
        for name, start in starts.items():
            both = bracket(forward, reverse_ais(path, betas, start, noise(f"reverse AIS from {name}"), progress))
            reverse[name] = both.reverse
            warnings += [warning.replace("reverse", f"reverse (from {name})", 1) for warning in both.warnings]
    return Estimate(log_z, (interval[0], interval[1]), size, reverse, list(dict.fromkeys(warnings)))


def log_ratios(stack: DBN, data: EvaluationData, config: EvaluateConfig, *, progress: bool) -> list[Ratio | None]:
    """log Z_{l+1}/Z_l of neighboring layers, in nats, by annealing from one to the other.

    Chains start at draws of q(h_l | x) for training rows, then take Gibbs steps of the lower and of the upper RBM:
    close to samples of the two if they mix, but not exact. None where log Z is exact, without reverse runs, and where
    no path leads from one layer to the other.
    """
    pairs = list(pairwise(stack.layers))
    if config.exact or not config.reverse:
        return [None] * len(pairs)
    temperatures = len(temperature_schedule(config.resolved()["ais"]))
    count, gibbs_steps = max(2, temperatures // PART_OF_TEMPERATURES), temperatures // PART_OF_STEPS
    betas = torch.linspace(0, 1, count, dtype=torch.float64)
    steps = 2 * (gibbs_steps + count - 1) * sum(can_bridge(*pair) for pair in pairs)
    with progress_bar(steps, "annealing between layers", shown=progress and steps > 0) as bar:
        return [
            _ratio(stack, layer, data, betas, gibbs_steps, config, bar.update) if can_bridge(*pair) else None
            for layer, pair in enumerate(pairs, start=1)
        ]


def _ratio(
    stack: DBN,
    layer: int,
    data: EvaluationData,
    betas: Tensor,
    gibbs_steps: int,
    config: EvaluateConfig,
    progress: Progress,
) -> Ratio:
    """Of layer 1, 2, … and the one below."""
    lower, upper = stack.layers[layer - 1 : layer + 1]
    noise = stream(config.seed, "annealing between layers", layer, device=upper.weight.device)
    inputs = _inputs(stack, layer, data, noise)
    chains = TIMES_CHAINS * config.resolved()["chains"]
    h = inputs.batch(torch.randint(len(inputs), (chains,), generator=noise, device=noise.device))
    starts = (
        _settled(lower.transposed(), h, gibbs_steps, noise, progress),
        _settled(upper, h, gibbs_steps, noise, progress),
    )
    both = layer_ratio(lower, upper, betas, starts, noise, progress)
    left = float(autocorrelation(starts[0], h)), float(autocorrelation(starts[1], h))
    warnings = list(both.warnings)
    if max(left) > REMEMBERED:
        warnings.append(
            f"After {gibbs_steps:,} Gibbs steps the chains still have an autocorrelation of {max(left):.2f} with the "
            "data that they started from, so the layer's gain by annealing may be wrong; use more temperatures."
        )
    if abs(both.difference) > 1:
        warnings.append("The two layers are too far apart for a path between them: compare their separate log Z.")
    return Ratio(both, left, warnings)


def _settled(rbm: RBM, v: Tensor, steps: int, generator: torch.Generator, progress: Progress) -> Tensor:
    for _ in range(steps):
        v = rbm.gibbs(v, 1, generator)
        progress(1)
    return v


def _inputs(stack: DBN, layer: int, data: EvaluationData, noise: torch.Generator) -> LayerData:
    """Training rows passed up to layer 0, 1, …; at most `SOME` of them above the first layer."""
    rows = data.base if layer == 0 else subsample(data.base)
    inputs = LayerData(rows, data.scaling, stack.layers[:layer], features="sample", noise=lambda _: noise)
    inputs.prepare(1)
    return inputs


def subsample(x: Tensor, most: int | None = None) -> Tensor:
    """At most so many rows, `SOME` by default, at random but always the same."""
    most = SOME if most is None else most
    return x if len(x) <= most else x[fixed_subset(len(x), most).to(x.device)]
