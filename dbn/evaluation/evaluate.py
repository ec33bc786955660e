"""What a stack is worth in nats: log Z of every layer, log-likelihoods or their bounds, and how far to trust them.

A figure that rests on log Z is given at both ends of log Z's interval: it is as optimistic as that.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor

from dbn.config.evaluation import EvaluateConfig
from dbn.evaluation.examples import EvaluationData
from dbn.evaluation.log_partitions import Estimate, Ratio, log_partitions, log_ratios, subsample
from dbn.likelihood import exact
from dbn.likelihood.ais import temperature_schedule
from dbn.likelihood.dbn_bound import layer_bounds
from dbn.likelihood.layer_ratio import gain
from dbn.likelihood.pseudo_likelihood import pseudo_log_likelihood
from dbn.models.dbn import DBN
from dbn.models.rbm import RBM
from dbn.rng import stream
from dbn.training.loop import progress_bar

FLIPS = 8e9
"""Weights that a pseudo-likelihood may look at, V·H an example: a minute or so."""


ROWS = 500


class Mean(NamedTuple):
    """Of a figure over examples, in nats."""

    mean: float
    standard_error: float | None
    """None for a single example."""


@torch.no_grad()
def evaluate_stack(
    stack: DBN, data: EvaluationData, config: EvaluateConfig, *, progress: bool = False
) -> dict[str, Any]:
    """All that was measured, as plain data in nats.

    log_z and log_z_interval are the top layer's. test_log_likelihood is None for a stack of several layers, which
    has a test_bound; `parts` has the bounds of the first 1, 2, … layers (the first is no bound, but the
    log-likelihood of the lowest RBM), `gains` what each layer after the first brought on the test part: by the
    difference of two log Z and, under `annealed`, by annealing between the two layers; None where log Z is exact,
    without reverse runs, and where no path leads from one to the other.

    Stack and data on one device. InputError as for `dbn.likelihood.log_partition` and `dbn.likelihood.ais`.
    """
    estimates = log_partitions(stack, data, config, progress=progress)
    ratios = log_ratios(stack, data, config, progress=progress)
    parts: dict[str, dict[str, Any]] = {}
    gains: list[dict[str, Any]] = []
    for part, x in data.parts.items():
        rows = subsample(x) if part == "train" else x
        terms = _terms(stack, data, rows, config.seed, part)
        parts[part] = {"rows": len(rows), "layers": [_at(e, term) for e, term in zip(estimates, terms, strict=True)]}
        if part == "test":
            gains = [
                _gain(*ends, after - before) | {"annealed": ratio and _annealed_gain(after - before, ratio)}
                for ends, (before, after), ratio in zip(pairwise(estimates), pairwise(terms), ratios, strict=True)
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
        "exact_possible": all(_has_exact_values(rbm) for rbm in stack.layers),
        **_method(config),
        "layers": [_described(estimate) for estimate in estimates],
        "parts": parts,
        "gains": gains,
        "pseudo_likelihood": _pseudo_likelihood(stack, data, progress=progress),
        "warnings": _warnings(estimates, ratios, config),
    }


def _warnings(estimates: Sequence[Estimate], ratios: Sequence[Ratio | None], config: EvaluateConfig) -> list[str]:
    """What an estimate gave cause for, the layer named where there are several; and what was not looked at."""
    several = len(estimates) > 1
    warnings = [
        (f"Layer {layer}: " if several else "") + warning
        for layer, estimate in enumerate(estimates, start=1)
        for warning in estimate.warnings
    ]
    for layer, ratio in enumerate(ratios, start=1):
        warnings += [f"From layer {layer} to {layer + 1}: {warning}" for warning in (ratio.warnings if ratio else [])]
    if not config.exact and not config.reverse:
        warnings.append("Without reverse annealing nothing tells whether the chains mix.")
    return warnings


def _has_exact_values(rbm: RBM) -> bool:
    sides = [(side.support(), side.size) for side in (rbm.visible, rbm.hidden)]
    if all(support is None for support, _ in sides):
        return True  # a Gaussian integral
    return any(support is not None and len(support) ** size <= exact.MOST_STATES for support, size in sides)


# What rests on it


def _terms(stack: DBN, data: EvaluationData, rows: Tensor, seed: int, part: str) -> Tensor:
    """The bound of the first 1, 2, … layers plus the log Z of the last of them, of every row, (L, N)."""
    noise = stream(seed, "bound", part, device=rows.device)
    terms = [layer_bounds(stack, data.scaling(x), noise) for x in rows.split(ROWS)]
    return torch.cat(terms, 1).cpu().double() - data.log_abs_det_jacobian(part)


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


def _annealed_gain(difference: Tensor, ratio: Ratio) -> dict[str, Any]:
    """See `dbn.likelihood.layer_ratio.gain`."""
    both = ratio.both
    found = gain(difference, both)
    runs = (("forward", both.forward, found.forward), ("reverse", both.reverse, found.reverse))
    return {
        "mean": found.mean,
        "standard_error": found.standard_error,
        "interval": list(found.interval),
        "difference": both.difference,
        **{
            name: {
                "mean": mean,
                "log_ratio": run.log_z,
                "log_ratio_interval": [run.lower, run.upper],
                "effective_sample_size": run.effective_sample_size,
                "start_autocorrelation": left,
            }
            for (name, run, mean), left in zip(runs, ratio.autocorrelation, strict=True)
        },
    }


def _figure(found: Mean, log_z: float, most: float, least: float) -> dict[str, Any]:
    return {
        "mean": found.mean - log_z,
        "standard_error": found.standard_error,
        "interval": [found.mean - most, found.mean - least],
    }


def _pseudo_likelihood(stack: DBN, data: EvaluationData, *, progress: bool) -> dict[str, Any] | None:
    """Of the lowest RBM on the test part, or as many rows of it as `FLIPS` affords; None for continuous units."""
    rbm = stack.layers[0]
    if rbm.visible.support() is None:
        return None
    rows = subsample(data.parts["test"], max(1, int(FLIPS / rbm.weight.numel())))
    values = []
    with progress_bar(len(rows), "pseudo-likelihood", shown=progress) as bar:
        for x in rows.split(ROWS):
            values.append(pseudo_log_likelihood(rbm, data.scaling(x)))
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
        "temperatures": len(temperature_schedule(resolved["ais"])),
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
