"""Evaluate a DBN: log Z per layer, log-likelihoods or bounds, and how reliable they are.

A figure that depends on log Z is given at both ends of log Z's interval: it is as optimistic as that.
"""

import copy
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from dbn.config.evaluation import EvaluateConfig
from dbn.data.checks import Array
from dbn.data.rows import Rows
from dbn.errors import InputError, naming_arguments
from dbn.evaluation.checkpoint import EvaluationCheckpoint
from dbn.evaluation.examples import EvaluationData, evaluation_data
from dbn.evaluation.external_rbm import read_model
from dbn.evaluation.log_partitions import Estimate, Ratio, kept_nowhere, log_partitions, log_ratios, subsample
from dbn.evaluation.report import evaluation_text
from dbn.likelihood import exact
from dbn.likelihood.ais import temperature_schedule
from dbn.likelihood.dbn_bound import layer_bounds
from dbn.likelihood.layer_ratio import gain
from dbn.likelihood.pseudo_likelihood import pseudo_log_likelihood
from dbn.models import DBN, RBM, Scaling
from dbn.models.units.sites import number_of_states
from dbn.models.values import mean_and_error
from dbn.rng import stream
from dbn.training.device import pick_device
from dbn.training.loop import progress_bar

FLIPS = 8e9
"""Work of a pseudo-likelihood, V·H per row: a minute or so."""

ROWS = 500


@dataclass(frozen=True, eq=False, repr=False)
class Evaluation:
    """Results of an evaluation, in nats; `str()` gives the tables, `to_dict()` every number."""

    found: dict[str, Any]

    @property
    def log_z(self) -> float:
        """log Z of the top layer."""
        return float(self.found["log_z"])

    @property
    def log_z_interval(self) -> tuple[float, float]:
        """ln(Ẑ ± 3 standard errors) of AIS; both ends are log Z where it is exact."""
        lower, upper = self.found["log_z_interval"]
        return lower, upper

    @property
    def test_log_likelihood(self) -> float | None:
        """Mean over the test rows, nats per row; None for several layers, which have a `test_bound`."""
        value: float | None = self.found["test_log_likelihood"]
        return value

    @property
    def test_bound(self) -> float | None:
        """Lower bound on it for a model of several layers; None for one layer."""
        value: float | None = self.found["test_bound"]
        return value

    @property
    def warnings(self) -> list[str]:
        """What makes the numbers doubtful."""
        return list(self.found["warnings"])

    def to_dict(self) -> dict[str, Any]:
        """Plain data, as result.json of torch-dbn evaluate holds it: see `evaluate_stack`."""
        return copy.deepcopy(self.found)

    def __repr__(self) -> str:
        return evaluation_text(self.found)


def evaluate(
    model: RBM | DBN | Path | str,
    test: Array,
    train: Array | None = None,
    exact: bool = False,
    binarize: Literal["threshold", "sample", "fixed"] | None = None,
    seed: int = 0,
    *,
    ais: int | Literal["published", "quick"] | None = None,
    chains: int | None = None,
    reverse: bool = True,
    device: str = "auto",
    progress: bool | None = False,
    divisor: float | None = None,
    sample_weight: Array | str | None = None,
) -> Evaluation:
    """log Z of every layer, and the log-likelihood of rows, or its lower bound for several layers.

    Salakhutdinov & Murray (2008), "On the quantitative analysis of deep belief networks".

    model: an RBM, a DBN, the run folder of one, or a file of either. An RBM takes rows as its units do, bytes divided
    by 255; a DBN scales rows as in its training.
    test, train: (N, V) or images; rows as they are stored. AIS is based on the means of `train`, else of `test`.
    divisor: of the rows; by default that of training, and where it is not certain which, an error says so.
    exact: sum over every state of the smaller side in place of AIS; feasible up to 2²⁵ states.
    binarize: how grey levels become 0 or 1 where units are binary; left out, as a run folder was trained.
    ais: temperatures of AIS, a number, "quick" (1,001) or "published" (14,501, the default); chains: 100 by default;
    reverse: anneal back as well, which takes three times the work and shows whether chains mix.
    sample_weight: of the test rows, (N,), by which means over them are weighted, or the name of a column of frames; a
    standard error takes a row for one observation, whatever its weight.
    progress: show bars, in a notebook too; None shows them where standard error is a terminal.

    >>> from dbn.models import Bernoulli
    >>> rbm = RBM(Bernoulli(4), Bernoulli(3))
    >>> _ = torch.nn.init.zeros_(rbm.weight)
    >>> found = evaluate(rbm, torch.eye(4), exact=True)
    >>> f"{found.log_z:.4f} {found.test_log_likelihood:.4f}"  # 7 ln 2 and −4 ln 2
    '4.8520 -2.7726'

    Raises:
        InputError: options or rows that cannot be used, rows that do not fit the model or its units, a model that is
            too large for exact values, or a file that cannot be read.
    """
    with naming_arguments():
        path = Path(model) if isinstance(model, str | Path) else None
        config = EvaluateConfig(
            run=path or Path(), exact=exact, binarize=binarize, seed=seed, ais=ais, chains=chains, reverse=reverse,
            device=device, divisor=divisor,
        )  # fmt: skip
        place = pick_device(device)
        stack = read_model(path) if path else copied(model)
        data = evaluation_data(stack, test, train, config, from_run=path is not None, sample_weight=sample_weight)
        return Evaluation(evaluate_stack(stack.to(place), data.to(place), config, progress=progress))


def copied(model: Any) -> DBN:
    """On a device of its own, so that the caller's model stays where it is."""
    if not isinstance(model, RBM | DBN):
        raise InputError(f"model must be an RBM, a DBN or the path of one, not {type(model).__name__}")
    model = copy.deepcopy(model)
    return (DBN([model], Scaling(1.0)) if isinstance(model, RBM) else model).eval()


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
    parts: dict[str, dict[str, Any]] = {}
    gains: list[dict[str, Any]] = []
    for part, x in data.parts.items():
        rows, weights = x, data.weights.get(part)
        if part == "train":
            rows, weights = subsample(x), None if weights is None else subsample(weights)
        terms = bounds_plus_log_z(stack, data, rows, config.seed, part)
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
