"""log Z of every layer of a stack, and of every layer relative to the one below.

Only the chains of forward AIS start from exact samples: reverse AIS, and annealing between two layers, are diagnostics.
"""

from collections.abc import Callable
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor

from dbn.config.evaluation import EvaluateConfig
from dbn.data.rows import Rows, in_memory
from dbn.evaluation.examples import EvaluationData
from dbn.likelihood import exact
from dbn.likelihood.ais import anneal, anneal_back, temperature_schedule
from dbn.likelihood.annealed_chains import Keep, Progress
from dbn.likelihood.estimates import Bracket, LogZ, combine, ess_warnings, estimate_log_z
from dbn.likelihood.layer_ratio import can_bridge, layer_ratio
from dbn.models import DBN, RBM
from dbn.models.annealing import Path, independent_base
from dbn.models.gibbs import GibbsChains
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


Keeping = Callable[[str, torch.Generator], Keep]
"""Keeps the chains of a run, by a name of its own and with its generator."""


def kept_nowhere(_: str, __: torch.Generator) -> Keep:
    """Of an evaluation that cannot be resumed."""
    return Keep()


def log_partitions(
    stack: DBN,
    data: EvaluationData,
    config: EvaluateConfig,
    *,
    progress: bool | None,
    keeping: Keeping = kept_nowhere,
) -> list[Estimate]:
    """log Z of every layer; its data are the training rows passed up through the layers below."""
    if config.exact:
        return [_exact(rbm) for rbm in stack.layers]
    work = _Work(stack, data, config, keeping)
    steps = len(stack.layers) * (3 if config.reverse else 1) * (len(work.betas) - 1)
    with progress_bar(steps, "annealing", shown=progress) as bar:
        return [work.log_z(layer, bar.update) for layer in range(len(stack.layers))]


def top_log_partition(stack: DBN, data: EvaluationData, config: EvaluateConfig, *, is_exact: bool) -> Estimate:
    """log Z of the top layer alone, exact or as `log_partitions` estimates it."""
    if is_exact:
        return _exact(stack.layers[-1])
    return _Work(stack, data, config, kept_nowhere).log_z(len(stack.layers) - 1, lambda _: None)


def log_ratios(
    stack: DBN,
    data: EvaluationData,
    config: EvaluateConfig,
    *,
    progress: bool | None,
    keeping: Keeping = kept_nowhere,
) -> list[Ratio | None]:
    """log Z_{l+1}/Z_l of neighboring layers, in nats, by annealing from one to the other.

    Chains start at draws of q(h_l | x) for training rows, then take Gibbs steps of the lower and of the upper RBM:
    close to samples of the two if they mix, but not exact. None where log Z is exact, without reverse runs, and where
    no path leads from one layer to the other.
    """
    pairs = list(pairwise(stack.layers))
    if config.exact or not config.reverse:
        return [None] * len(pairs)
    work = _Work(stack, data, config, keeping)
    steps = 2 * (work.gibbs_steps + len(work.ratio_betas) - 1) * sum(can_bridge(*pair) for pair in pairs)
    with progress_bar(steps, "annealing between layers", shown=progress if steps else False) as bar:
        return [
            work.log_ratio(layer, bar.update) if can_bridge(*pair) else None
            for layer, pair in enumerate(pairs, start=1)
        ]


def _exact(rbm: RBM) -> Estimate:
    value = exact.log_partition(rbm)
    return Estimate(value, (value, value), None, {}, [])


class _Work:
    """The runs of one evaluation."""

    def __init__(self, stack: DBN, data: EvaluationData, config: EvaluateConfig, keeping: Keeping) -> None:
        self.keeping = keeping
        self.stack, self.data, self.seed, self.reverse = stack, data, config.seed, config.reverse
        self.chains = config.resolved()["chains"]
        self.betas = temperature_schedule(config.resolved()["ais"])
        temperatures = len(self.betas)
        self.ratio_betas = torch.linspace(
            0, 1, max(2, temperatures // PART_OF_TEMPERATURES), dtype=torch.float64, device="cpu"
        )
        self.gibbs_steps = temperatures // PART_OF_STEPS

    def log_z(self, layer: int, progress: Progress) -> Estimate:
        """AIS of layer 0, 1, …, and reverse AIS from its data and from the end points of AIS, neither exact samples."""
        rbm = self.stack.layers[layer]
        inputs = self._inputs(layer, self._noise("what AIS is based on", layer))
        path = Path(independent_base(rbm, *inputs.moments(), len(inputs)), rbm)
        noise = self._noise("AIS", layer)
        forward = anneal(path, self.betas, self.chains, noise, progress, self.keeping(f"AIS {layer}", noise))
        found = estimate_log_z(forward)
        log_z, *interval, size = found
        reverse, warnings = {}, ess_warnings("forward", forward, found)
        if self.reverse:
            chosen = stream(self.seed, "where reverse AIS starts", layer)
            if inputs.weights is None:
                drawn = permutation(len(inputs), chosen)[: self.chains]
            else:
                drawn = _by_weight(inputs.weights, self.chains, chosen)
            starts = {"data": inputs.batch(drawn.to(rbm.weight.device)), "end points": forward.states}
            for name, start in starts.items():
                noise = self._noise(f"reverse AIS from {name}", layer)
                keep = self.keeping(f"reverse AIS from {name} {layer}", noise)
                both = combine(forward, anneal_back(path, self.betas, start, noise, progress, keep))
                reverse[name] = both.reverse
                warnings += [warning.replace("reverse", f"reverse (from {name})", 1) for warning in both.warnings]
        return Estimate(log_z, (interval[0], interval[1]), size, reverse, list(dict.fromkeys(warnings)))

    def log_ratio(self, layer: int, progress: Progress) -> Ratio:
        """Of layer 1, 2, … and the one below."""
        lower, upper = self.stack.layers[layer - 1 : layer + 1]
        noise = self._noise("annealing between layers", layer)
        inputs = self._inputs(layer, noise)
        starting = TIMES_CHAINS * self.chains
        if inputs.weights is None:
            drawn = torch.randint(len(inputs), (starting,), generator=noise, device=noise.device)
        else:
            drawn = _by_weight(inputs.weights, starting, noise).to(noise.device)
        h = inputs.batch(drawn)

        def settled(rbm: RBM, keep: Keep) -> Tensor:
            chains, step = GibbsChains(rbm, h, noise), 0

            def state() -> dict[str, Any]:
                return {"step": step, "v": chains.v}

            kept = keep.resumed(state(), self.gibbs_steps)
            chains.v, step = kept["v"], kept["step"]
            progress(step)
            for done in chains.run(self.gibbs_steps, step):
                progress(done - step)
                step = done
                keep.after_step(state)
            return chains.v

        names = "lower chains", "upper chains", "annealing up", "annealing down"
        below, above, *along = (self.keeping(f"{name} {layer}", noise) for name in names)
        starts = settled(lower.transposed(), below), settled(upper, above)
        both = layer_ratio(lower, upper, self.ratio_betas, starts, noise, progress, (along[0], along[1]))
        left = float(autocorrelation(starts[0], h)), float(autocorrelation(starts[1], h))
        warnings = list(both.warnings)
        if max(left) > REMEMBERED:
            warnings.append(
                f"After {self.gibbs_steps:,} Gibbs steps the chains still have an autocorrelation of {max(left):.2f} "
                "with the data that they started from, so the layer's gain by annealing may be wrong; use more "
                "temperatures."
            )
        if abs(both.difference) > 1:
            warnings.append("The two layers are too far apart for a path between them: compare their separate log Z.")
        return Ratio(both, left, warnings)

    def _noise(self, purpose: str, layer: int) -> torch.Generator:
        return stream(self.seed, purpose, layer, device=self.stack.layers[layer].weight.device)

    def _inputs(self, layer: int, noise: torch.Generator) -> LayerData:
        """Training rows passed up to layer 0, 1, …; at most `SOME` of them above the first layer."""
        rows, weights = self.data.base, self.data.base_weights
        if layer:
            rows, weights = subsample(rows), None if weights is None else subsample(weights)
        inputs = LayerData(
            rows,
            self.data.scaling,
            self.stack.layers[:layer],
            features="sample",
            noise=lambda _: noise,
            weights=None if weights is None else (weights / weights.mean()).float().to(rows.device),
        )
        inputs.prepare(1)
        return inputs


def _by_weight(weights: Tensor, n: int, generator: torch.Generator) -> Tensor:
    """`n` rows drawn in proportion to their weights, on the CPU."""
    ends = weights.cpu().double().cumsum(0)
    drawn = torch.rand(n, dtype=torch.float32, generator=generator, device=generator.device).cpu().double()
    return torch.searchsorted(ends, drawn * ends[-1], right=True).clamp(max=len(ends) - 1)


def subsample(x: Tensor | Rows, most: int | None = None) -> Tensor:
    """At most so many rows, `SOME` by default, at random but always the same."""
    most = SOME if most is None else most
    return in_memory(x) if len(x) <= most else x[fixed_subset(len(x), most).to(x.device)]
