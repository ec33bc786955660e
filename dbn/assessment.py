"""What a stack is worth in nats: log Z of every layer, log-likelihoods or their bounds, and how far to trust them.

A figure that rests on log Z is given at both ends of log Z's interval: it is as optimistic as that.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor

from dbn import exact
from dbn.annealing import Path, independent
from dbn.belief_net import DBN
from dbn.config import EvaluateConfig
from dbn.held_out import HeldOut
from dbn.importance import LogZ, Progress, ais, bracket, doubts, reverse_ais, schedule, summarise
from dbn.layer_data import LayerData
from dbn.likelihood import layer_bounds, pseudo_likelihood
from dbn.randomness import always_the_same, permutation, stream
from dbn.rbm import RBM
from dbn.training import progress_bar

SOME = 10_000
"""Rows at most that stand for the training part, and for what a lower layer makes of it."""
FLIPS = 8e9
"""Weights that a pseudo-likelihood may look at, V·H an example: a minute or so."""
ROWS = 500


class Mean(NamedTuple):
    """Of a figure over examples, in nats."""

    mean: float
    standard_error: float | None
    """None for a single example."""


class Estimate(NamedTuple):
    """log Z of one layer."""

    log_z: float
    interval: tuple[float, float]
    effective_sample_size: float | None
    """Of the forward chains; None for an exact value."""
    reverse: dict[str, LogZ]
    """By what the reverse run started from."""
    warnings: list[str]


@torch.no_grad()
def assess(stack: DBN, data: HeldOut, config: EvaluateConfig, *, progress: bool = False) -> dict[str, Any]:
    """All that was measured, as plain data in nats.

    log_z and log_z_interval are the top layer's. test_log_likelihood is None for a stack of several layers, which
    has a test_bound; `parts` has the bounds of the first 1, 2, … layers (the first is no bound, but the
    log-likelihood of the lowest RBM), `gains` what each layer after the first brought on the test part.

    Stack and data on one device. InputError as for `dbn.exact.log_partition` and `dbn.importance.ais`.
    """
    estimates = _estimates(stack, data, config, progress=progress)
    parts: dict[str, dict[str, Any]] = {}
    gains: list[dict[str, Any]] = []
    for part, x in data.parts.items():
        rows = _some(x) if part == "train" else x
        terms = _terms(stack, data, rows, config.seed, part)
        parts[part] = {"rows": len(rows), "layers": [_at(e, term) for e, term in zip(estimates, terms, strict=True)]}
        if part == "test":
            gains = [
                _gain(*ends, after - before)
                for ends, (before, after) in zip(pairwise(estimates), pairwise(terms), strict=True)
            ]
    top, scored = estimates[-1], parts["test"]["layers"][-1]
    single = len(stack.layers) == 1
    return {
        "log_z": top.log_z,
        "log_z_interval": list(top.interval),
        "test_log_likelihood": scored["mean"] if single else None,
        "test_log_likelihood_interval": scored["interval"] if single else None,
        "test_bound": None if single else scored["mean"],
        "test_bound_interval": None if single else scored["interval"],
        "units": _units(stack),
        "origin": list(data.origin),
        "seed": config.seed,
        "exact_possible": all(_can_be_listed(rbm) for rbm in stack.layers),
        **_method(config),
        "layers": [_described(estimate) for estimate in estimates],
        "parts": parts,
        "gains": gains,
        "pseudo_likelihood": _pseudo_likelihood(stack, data, progress=progress),
        "warnings": _warnings(estimates, config),
    }


def _some(x: Tensor, most: int | None = None) -> Tensor:
    """At most so many rows, `SOME` where nothing is said, at random but always the same."""
    most = SOME if most is None else most
    return x if len(x) <= most else x[always_the_same(len(x), most).to(x.device)]


# log Z


def _estimates(stack: DBN, data: HeldOut, config: EvaluateConfig, *, progress: bool) -> list[Estimate]:
    """log Z of every layer, each with the stack below it for its data."""
    if config.exact:
        values = [exact.log_partition(rbm) for rbm in stack.layers]
        return [Estimate(value, (value, value), None, {}, []) for value in values]
    betas = schedule(config.resolved()["ais"])
    steps = len(stack.layers) * (3 if config.reverse else 1) * (len(betas) - 1)
    with progress_bar(steps, "annealing", shown=progress) as bar:
        return [_annealed(stack, layer, data, betas, config, bar.update) for layer in range(len(stack.layers))]


def _annealed(
    stack: DBN, layer: int, data: HeldOut, betas: Tensor, config: EvaluateConfig, progress: Progress
) -> Estimate:
    """AIS of layer 0, 1, …, and reverse AIS from its data and from where AIS ended, neither of them exact samples."""
    rbm = stack.layers[layer]

    def noise(purpose: str) -> torch.Generator:
        return stream(config.seed, purpose, layer, device=rbm.weight.device)

    rows = data.base if layer == 0 else _some(data.base)
    inputs = LayerData(
        rows, data.scaling, stack.layers[:layer], features="sample", noise=lambda _: noise("what AIS is based on")
    )
    inputs.prepare(1)
    path = Path(independent(rbm, *inputs.moments(), len(inputs)), rbm)
    chains = config.resolved()["chains"]
    forward = ais(path, betas, chains, noise("AIS"), progress)
    found = summarise(forward)
    log_z, *interval, size = found
    reverse, warnings = {}, doubts("forward", forward, found)
    if config.reverse:
        drawn = permutation(len(inputs), stream(config.seed, "where reverse AIS starts", layer))[:chains]
        starts = {"data": inputs.batch(drawn.to(rows.device)), "end points": forward.states}
        for name, start in starts.items():
            both = bracket(forward, reverse_ais(path, betas, start, noise(f"reverse AIS from {name}"), progress))
            reverse[name] = both.reverse
            warnings += [warning.replace("reverse", f"reverse (from {name})", 1) for warning in both.warnings]
    return Estimate(log_z, (interval[0], interval[1]), size, reverse, list(dict.fromkeys(warnings)))


def _warnings(estimates: Sequence[Estimate], config: EvaluateConfig) -> list[str]:
    """What an estimate gave cause for, the layer named where there are several; and what was not looked at."""
    several = len(estimates) > 1
    warnings = [
        (f"Layer {layer}: " if several else "") + warning
        for layer, estimate in enumerate(estimates, start=1)
        for warning in estimate.warnings
    ]
    if not config.exact and not config.reverse:
        warnings.append("Without reverse annealing nothing tells whether the chains mix.")
    return warnings


def _can_be_listed(rbm: RBM) -> bool:
    sides = ((side.domain(), side.size) for side in (rbm.visible, rbm.hidden))
    return any(domain is not None and len(domain) ** size <= exact.MOST_STATES for domain, size in sides)


# What rests on it


def _terms(stack: DBN, data: HeldOut, rows: Tensor, seed: int, part: str) -> Tensor:
    """The bound of the first 1, 2, … layers plus the log Z of the last of them, of every row, (L, N)."""
    noise = stream(seed, "bound", part, device=rows.device)
    terms = [layer_bounds(stack, data.scaling(x), noise) for x in rows.split(ROWS)]
    return torch.cat(terms, 1).cpu().double() - data.log_volume(part)


def _mean(values: Tensor) -> Mean:
    error = float(values.std()) / len(values) ** 0.5 if len(values) > 1 else None
    return Mean(float(values.mean()), error)


def _at(estimate: Estimate, term: Tensor) -> dict[str, Any]:
    """A mean over rows at log Z, and at both ends of its interval: the greater log Z, the smaller the mean."""
    found, (lower, upper) = _mean(term), estimate.interval
    return _figure(found, estimate.log_z, upper, lower)


def _gain(before: Estimate, after: Estimate, difference: Tensor) -> dict[str, Any]:
    """What a layer adds to the bound, row by row on the same draws."""
    (lower, upper), (next_lower, next_upper) = before.interval, after.interval
    return _figure(_mean(difference), after.log_z - before.log_z, next_upper - lower, next_lower - upper)


def _figure(found: Mean, log_z: float, most: float, least: float) -> dict[str, Any]:
    return {
        "mean": found.mean - log_z,
        "standard_error": found.standard_error,
        "interval": [found.mean - most, found.mean - least],
    }


def _pseudo_likelihood(stack: DBN, data: HeldOut, *, progress: bool) -> dict[str, Any] | None:
    """Of the lowest RBM on the test part, or as many rows of it as `FLIPS` affords; None for continuous units."""
    rbm = stack.layers[0]
    if rbm.visible.domain() is None:
        return None
    rows = _some(data.parts["test"], max(1, int(FLIPS / rbm.weight.numel())))
    values = []
    with progress_bar(len(rows), "pseudo-likelihood", shown=progress) as bar:
        for x in rows.split(ROWS):
            values.append(pseudo_likelihood(rbm, data.scaling(x)))
            bar.update(len(x))
    return {"rows": len(rows), **_mean(torch.cat(values).cpu().double())._asdict()}


def _method(config: EvaluateConfig) -> dict[str, Any]:
    if config.exact:
        return {"method": "exact"}
    resolved = config.resolved()
    return {
        "method": "ais",
        "chains": resolved["chains"],
        "schedule": resolved["ais"],
        "temperatures": len(schedule(resolved["ais"])),
    }


def _units(stack: DBN) -> list[dict[str, Any]]:
    units = [stack.layers[0].visible, *(rbm.hidden for rbm in stack.layers)]
    return [{"kind": each.kind, "size": each.size} for each in units]


def _described(estimate: Estimate) -> dict[str, Any]:
    return {
        "log_z": estimate.log_z,
        "log_z_interval": list(estimate.interval),
        "effective_sample_size": estimate.effective_sample_size,
        "reverse": {
            start: {
                "log_z": found.log_z,
                "log_z_interval": [found.lower, found.upper],
                "effective_sample_size": found.effective_sample_size,
                "difference": found.log_z - estimate.log_z,
            }
            for start, found in estimate.reverse.items()
        },
    }
