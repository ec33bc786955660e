"""Metrics of an RBM during training."""

import torch
from torch import Tensor

from dbn.models.rbm import RBM


@torch.no_grad()
def layer_metrics(rbm: RBM, train: Tensor, valid: Tensor | None, generator: torch.Generator) -> dict[str, float]:
    """Metrics on a subset of the training data and on validation data.

    reconstruction_error: |x − x̂|², squared error summed over visible units, mean over examples.
    kl: `visible.divergence(x, x̂)`, nats, mean over examples.
    hidden_activity: mean of E[h | x]; hidden_off, hidden_on: share of units whose mean is below 0.01, above 0.99 of the
    way from the least state to the greatest, of units with a list of states.
    With validation data also valid_reconstruction_error, valid_kl and free_energy_gap: mean F(valid) − mean F(train),
    nats; it grows when the RBM overfits (Hinton 2010, section 6).

    train: (N, V); valid: (M, V). All values take one transfer to the host.
    """
    error, divergence, energy, activity = _reconstruction(rbm, train, generator)
    values = {"reconstruction_error": error, "kl": divergence, "hidden_activity": activity.mean()}
    if (support := rbm.hidden.support()) is not None:
        place = (activity - support.min()) / (support.max() - support.min())
        values |= {"hidden_off": (place < 0.01).float().mean(), "hidden_on": (place > 0.99).float().mean()}
    if valid is not None:
        valid_error, valid_divergence, valid_energy, _ = _reconstruction(rbm, valid, generator)
        values |= {"valid_reconstruction_error": valid_error, "valid_kl": valid_divergence}
        values["free_energy_gap"] = valid_energy - energy
    return dict(zip(values, torch.stack(list(values.values())).tolist(), strict=True))


def _reconstruction(
    rbm: RBM, x: Tensor, generator: torch.Generator, chunk: int = 1000
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Means over examples of squared error, divergence and free energy, each 0-dim, and of E[h | x], (H,)."""
    sums = [torch.zeros((), dtype=torch.float32, device=x.device) for _ in range(3)]
    activity = torch.zeros(rbm.hidden.size, dtype=torch.float32, device=x.device)
    for part in x.split(chunk):
        field = rbm.hidden_field(part)
        x_hat = rbm.down(rbm.hidden.sample(field, generator))
        sums[0] += (part - x_hat).square().sum()
        sums[1] += rbm.visible.divergence(part, x_hat).sum()
        sums[2] += (rbm.visible.energy(part) - rbm.hidden.log_partition(field)).sum()
        activity += rbm.hidden.mean(field).sum(0)
    error, divergence, energy = (total / len(x) for total in sums)
    return error, divergence, energy, activity / len(x)
