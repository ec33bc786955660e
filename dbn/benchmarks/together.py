"""Runs of fine-tuning one by one and together: how far apart they end, and how long each way takes."""

from collections.abc import Sequence
from statistics import median
from typing import Any, NamedTuple

import torch
from torch import Tensor

from dbn.benchmarks.ours import noise_problem
from dbn.benchmarks.running import Setting, clocked
from dbn.finetuning.together import train_together
from dbn.finetuning.trainer import Trainer
from dbn.initializers.arms import parse_arm


class BothWays(NamedTuple):
    """Of the same runs."""

    apart: float
    """Mean |w − w'| of the weights of both ways over mean |w − start|, of the run where it is greatest."""
    alone: float
    together: float
    """Seconds of an epoch of all runs, with validation."""


def both_ways(setting: Setting, seeds: int, rates: Sequence[float], epochs: int, **options: Any) -> BothWays:
    """Of every seed and rate, both ways in alternation; the seconds are medians."""
    problem = noise_problem(setting, **options)
    arm = parse_arm("xavier_uniform")
    one, many = ([Trainer(problem, arm, rate, seed) for rate in rates for seed in range(seeds)] for _ in range(2))
    starts = [_weights(fit).clone() for fit in one]
    records, groups = [fit.epochs() for fit in one], train_together(many, lambda position: None)
    ways = [clocked(lambda: [next(each) for each in records]), clocked(lambda: next(groups))]
    seconds = [[way() for way in ways] for _ in range(epochs)]
    apart = [
        float((_weights(other) - _weights(fit)).abs().mean() / (_weights(fit) - start).abs().mean())
        for fit, other, start in zip(one, many, starts, strict=True)
    ]
    alone, together = map(median, zip(*seconds, strict=True))
    return BothWays(max(apart), alone, together)


def _weights(fit: Trainer) -> Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in fit.network.parameters()])
