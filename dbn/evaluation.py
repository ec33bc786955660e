"""What is measured: of an RBM while it learns, of a classifier, of a comparison over seeds."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from scipy.special import stdtr, stdtrit
from torch import Tensor, nn

from dbn.errors import InputError
from dbn.rbm import RBM


@torch.no_grad()
def layer_metrics(rbm: RBM, train: Tensor, valid: Tensor | None, generator: torch.Generator) -> dict[str, float]:
    """How well an RBM stands on a fixed subset of its training data and on validation data.

    reconstruction_error: |x − x̂|², squared error summed over visible units, mean over examples.
    kl: KL of actual from recreation, `visible.divergence(x, x̂)`, nats, mean over examples.
    hidden_activity: mean of E[h | x]; hidden_off, hidden_on: share of units whose mean is below 0.01, above 0.99.
    With validation data also valid_reconstruction_error, valid_kl and
    free_energy_gap: mean F(valid) − mean F(train), nats; it grows when the RBM overfits (Hinton 2010, section 6).

    train: (N, V); valid: (M, V). The sums stay on the device; one transfer brings all values.
    """
    error, divergence, energy, activity = _reconstruction(rbm, train, generator)
    values = {
        "reconstruction_error": error,
        "kl": divergence,
        "hidden_activity": activity.mean(),
        "hidden_off": (activity < 0.01).float().mean(),
        "hidden_on": (activity > 0.99).float().mean(),
    }
    if valid is not None:
        valid_error, valid_divergence, valid_energy, _ = _reconstruction(rbm, valid, generator)
        values["valid_reconstruction_error"] = valid_error
        values["valid_kl"] = valid_divergence
        values["free_energy_gap"] = valid_energy - energy
    return dict(zip(values, torch.stack(list(values.values())).tolist(), strict=True))


def _reconstruction(
    rbm: RBM, x: Tensor, generator: torch.Generator, chunk: int = 1000
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Means over examples of squared error, divergence and free energy, each 0-dim, and of E[h | x], (H,)."""
    sums = [torch.zeros((), device=x.device) for _ in range(3)]
    activity = torch.zeros(rbm.hidden.size, device=x.device)
    for part in x.split(chunk):
        field = rbm.hidden_field(part)
        x_hat = rbm.down(rbm.hidden.sample(field, generator))
        sums[0] += (part - x_hat).square().sum()
        sums[1] += rbm.visible.divergence(part, x_hat).sum()
        sums[2] += (rbm.visible.energy(part) - rbm.hidden.log_partition(field)).sum()
        activity += rbm.hidden.mean(field).sum(0)
    error, divergence, energy = (total / len(x) for total in sums)
    return error, divergence, energy, activity / len(x)


@torch.no_grad()
def predict(network: nn.Module, scale: nn.Module, x: Tensor, chunk: int = 2000) -> Tensor:
    """Logits, (N, C), of raw data (N, V) that `scale` brings to the network's inputs."""
    return torch.cat([network(scale(part)) for part in x.split(chunk)])


def error_rate(network: nn.Module, scale: nn.Module, x: Tensor, y: Tensor) -> float:
    """Misclassified examples in per cent."""
    return share_wrong(predict(network, scale, x), y)


def share_wrong(logits: Tensor, y: Tensor) -> float:
    """Rows of logits (N, C) whose greatest is not that of the class y (N,), in per cent: one division of two counts."""
    return 100.0 * int((logits.argmax(1) != y).sum()) / len(y)


class Interval(NamedTuple):
    """A mean, and the half-width of its 95 % interval where there are at least two values."""

    mean: float
    half_width: float | None


def mean_interval(values: Sequence[float]) -> Interval:
    """Mean ± t_{0.975, n−1}·s/√n, Student's interval; no half-width for a single value."""
    n = len(values)
    if n == 0:
        raise InputError("a mean needs at least one value")
    sample = torch.tensor(values, dtype=torch.float64)
    if n == 1:
        return Interval(sample.item(), None)
    return Interval(sample.mean().item(), float(stdtrit(n - 1, 0.975)) * sample.std().item() / n**0.5)


def paired_t_test(a: Sequence[float], b: Sequence[float]) -> float:
    """Two-sided p of Student's paired t-test for equal means; a[i] and b[i] share a seed.

    Differences that are all alike give p = 1 where they are zero and p = 0 where they are not.
    """
    if len(a) != len(b) or len(a) < 2:
        raise InputError("a paired test needs two lists of the same length, at least 2")
    difference = torch.tensor(a, dtype=torch.float64) - torch.tensor(b, dtype=torch.float64)
    mean, deviation = difference.mean().item(), difference.std().item()
    if deviation == 0:
        return 1.0 if mean == 0 else 0.0
    return float(2 * stdtr(len(a) - 1, -abs(mean) / (deviation / len(a) ** 0.5)))
