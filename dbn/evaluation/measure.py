"""What an evaluation measures, as plain data: log Z of each layer, likelihoods or bounds of the rows, gains."""

from collections.abc import Sequence
from contextlib import nullcontext
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from dbn.config.evaluation import EvaluateConfig
from dbn.data.rows import Rows
from dbn.evaluation.checkpoint import EvaluationCheckpoint
from dbn.evaluation.examples import EvaluationData
from dbn.evaluation.log_partitions import Estimate, Ratio, kept_nowhere, log_partitions, log_ratios, subsample
from dbn.likelihood import exact
from dbn.likelihood.ais import temperature_schedule
from dbn.likelihood.dbn_bound import layer_bounds
from dbn.likelihood.layer_ratio import gain
from dbn.likelihood.pseudo_likelihood import pseudo_log_likelihood
from dbn.models import DBN, RBM
from dbn.models.units.sites import number_of_states
from dbn.models.values import mean_and_error
from dbn.rng import stream
from dbn.training.loop import progress_bar

FLIPS = 8e9
"""Work of a pseudo-likelihood, V·H per row: a minute or so."""

ROWS = 500


@torch.no_grad()
def evaluate_stack(
    stack: DBN,
    data: EvaluationData,
    config: EvaluateConfig,
    *,
    progress: bool | None = False,
    kept: EvaluationCheckpoint | None = None,
) -> dict[str, Any]:
    """All results as plain data in nats.

    log_z and log_z_interval are the top layer's. test_log_likelihood is None for a stack of several layers, which
    has a test_bound; `parts` has the bounds of the first 1, 2, … layers (the first is no bound, but the
    log-likelihood of the lowest RBM), `gains` what each layer after the first adds on the test part: by the
    difference of two log Z and, under `annealed`, by annealing between the two layers; None where log Z is exact,
    without reverse runs, and where no path leads from one to the other.

    Stack and data on one device; kept: what an interrupted evaluation resumes from.

    InputError as for `dbn.likelihood.log_partition` and `dbn.likelihood.ais`.
    """
    keeping = kept.keeping if kept else kept_nowhere
    with kept.saving() if kept and not config.exact else nullcontext():
        estimates = log_partitions(stack, data, config, progress=progress, keeping=keeping)
        ratios = log_ratios(stack, data, config, progress=progress, keeping=keeping)
    parts, gains = _parts_and_gains(stack, data, estimates, ratios, config.seed)
    top, scored, single = estimates[-1], parts["test"]["layers"][-1], len(stack.layers) == 1
    units = [stack.layers[0].visible, *(rbm.hidden for rbm in stack.layers)]
    return {
        "log_z": top.log_z,
        "log_z_interval": list(top.interval),
        "test_log_likelihood": scored["mean"] if single else None,
        "test_log_likelihood_interval": scored["interval"] if single else None,
        "test_bound": None if single else scored["mean"],
        "test_bound_interval": None if single else scored["interval"],
        "units": [each.description() for each in units],
        "origin": list(data.origin),
        "seed": config.seed,
        "exact_possible": all(map(has_exact_values, stack.layers)),
        **_method(config),
        "layers": [_layer(estimate) for estimate in estimates],
        "parts": parts,
        "gains": gains,
        "pseudo_likelihood": _pseudo_likelihood(stack, data, progress=progress),
        "warnings": _warnings(estimates, ratios, config),
    }


def _parts_and_gains(
    stack: DBN, data: EvaluationData, estimates: Sequence[Estimate], ratios: Sequence[Ratio | None], seed: int
) -> tuple[dict[str, dict[str, Any]], list[dict[str, Any]]]:
    parts: dict[str, dict[str, Any]] = {}
    gains: list[dict[str, Any]] = []
    for part, x in data.parts.items():
        rows, weights = x, data.weights.get(part)
        if part == "train":
            rows, weights = subsample(x), None if weights is None else subsample(weights)
        terms = bounds_plus_log_z(stack, data, rows, seed, part)
        figures = [
            _figure(term, each.log_z, each.interval, weights) for each, term in zip(estimates, terms, strict=True)
        ]
        parts[part] = {"rows": len(rows), "layers": figures}
        if part == "test":
            gains = [
                _gain(*ends, after - before, weights)
                | {"annealed": ratio and _annealed_gain(after - before, ratio, weights)}
                for ends, (before, after), ratio in zip(pairwise(estimates), pairwise(terms), ratios, strict=True)
            ]
    return parts, gains


def _warnings(estimates: Sequence[Estimate], ratios: Sequence[Ratio | None], config: EvaluateConfig) -> list[str]:
    several = len(estimates) > 1
    warnings = [
        (f"Layer {layer}: " if several else "") + warning
        for layer, estimate in enumerate(estimates, start=1)
        for warning in estimate.warnings
    ]
    for layer, ratio in enumerate(ratios, start=1):
        warnings += [f"From layer {layer} to {layer + 1}: {warning}" for warning in (ratio.warnings if ratio else [])]
    if not config.exact and not config.reverse:
        warnings.append("Without reverse annealing nothing shows whether the chains mix.")
    return warnings


def has_exact_values(rbm: RBM) -> bool:
    """Whether log Z can be a sum over all states of a side, or a Gaussian integral."""
    sides = [sites for side in (rbm.visible, rbm.hidden) if (sites := side.sites()) is not None]
    if not sides:
        return exact.is_gaussian(rbm.visible) and exact.is_gaussian(rbm.hidden)
    return any(number_of_states(sites) <= exact.MOST_STATES for sites in sides)


def bounds_plus_log_z(stack: DBN, data: EvaluationData, rows: Tensor | Rows, seed: int, part: str) -> Tensor:
    """The bound of the first 1, 2, … layers plus the log Z of the last of them, of every row, (L, N)."""
    noise = stream(seed, "bound", part, device=rows.device)
    terms = [layer_bounds(stack, data.scaling(x), noise) for x in rows.split(ROWS)]
    return torch.cat(terms, 1).cpu().double() - data.log_abs_det_jacobian(part)


def _mean(values: Tensor, weights: Tensor | None) -> dict[str, Any]:
    """See `mean_and_error`."""
    return dict(zip(("mean", "standard_error"), mean_and_error(values, weights), strict=True))


def _figure(values: Tensor, log_z: float, interval: tuple[float, float], weights: Tensor | None) -> dict[str, Any]:
    """Mean − log Z, and the same at both ends of log Z's interval: the greater log Z, the smaller the figure."""
    found, (lower, upper) = _mean(values, weights), interval
    ends = [found["mean"] - upper, found["mean"] - lower]
    return {**found, "mean": found["mean"] - log_z, "interval": ends}


def _gain(before: Estimate, after: Estimate, difference: Tensor, weights: Tensor | None) -> dict[str, Any]:
    """What a layer adds to the bound, by the difference of two log Z."""
    (lower, upper), (next_lower, next_upper) = before.interval, after.interval
    return _figure(difference, after.log_z - before.log_z, (next_lower - upper, next_upper - lower), weights)


def _annealed_gain(difference: Tensor, ratio: Ratio, weights: Tensor | None) -> dict[str, Any]:
    """See `dbn.likelihood.layer_ratio.gain`."""
    both = ratio.both
    found = gain(difference, both, weights)
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


def _pseudo_likelihood(stack: DBN, data: EvaluationData, *, progress: bool | None) -> dict[str, Any] | None:
    """Of the lowest RBM on the test part, or as many rows of it as `FLIPS` allows; None for continuous units."""
    rbm = stack.layers[0]
    if rbm.visible.sites() is None:
        return None
    most, weights = max(1, int(FLIPS / rbm.weight.numel())), data.weights.get("test")
    rows, weights = subsample(data.parts["test"], most), None if weights is None else subsample(weights, most)
    values = []
    with progress_bar(len(rows), "pseudo-likelihood", shown=progress) as bar:
        for x in rows.split(ROWS):
            values.append(pseudo_log_likelihood(rbm, data.scaling(x)))
            bar.update(len(x))
    return {"rows": len(rows), **_mean(torch.cat(values).cpu().double(), weights)}


def _method(config: EvaluateConfig) -> dict[str, Any]:
    if config.exact:
        return {"method": "exact"}
    ais, chains = (config.resolved()[name] for name in ("ais", "chains"))
    return {"method": "ais", "chains": chains, "schedule": ais, "temperatures": len(temperature_schedule(ais))}


def _layer(estimate: Estimate) -> dict[str, Any]:
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
