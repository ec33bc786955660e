"""Metrics of an RBM during training."""

import torch
from torch import Tensor

from dbn.models.missing import Missing
from dbn.models.rbm import RBM, Harmonium
from dbn.models.values import weighted


@torch.no_grad()
def layer_metrics(
    rbm: RBM,
    train: Tensor,
    valid: Tensor | None,
    generator: torch.Generator,
    weights: tuple[Tensor | None, Tensor | None] = (None, None),
    holes: tuple[Missing, Tensor | None, Tensor | None] | None = None,
) -> dict[str, float]:
    """Metrics on a subset of the training data and on validation data.

    reconstruction_error: |x − x̂|², squared error summed over visible units, mean over examples.
    kl: `visible.divergence(x, x̂)`, nats, mean over examples.
    hidden_activity: mean of E[h | x]; hidden_off, hidden_on: share of units whose mean is below 0.01, above 0.99 of the
    way from the least state to the greatest, of units with a list of states.
    With validation data also valid_reconstruction_error, valid_kl and free_energy_gap: mean F(valid) − mean F(train),
    nats; it grows when the RBM overfits (Hinton 2010, section 6).

    train: (N, V); valid: (M, V); weights: (N,) and (M,), with which means are weighted. holes: how rows with holes are
    taken, and which units of each are observed, (N, V) and (M, V); sums are then over observed units, and there is no
    gap. All values take one transfer to the host.
    """
    missing, *known = holes or (None, None, None)
    error, divergence, energy, activity = _reconstruction(rbm, train, generator, weights[0], (missing, known[0]))
    values = {"reconstruction_error": error, "kl": divergence, "hidden_activity": activity.mean()}
    if (support := rbm.hidden.support()) is not None:
        place = (activity - support.min()) / (support.max() - support.min())
        values |= {"hidden_off": (place < 0.01).float().mean(), "hidden_on": (place > 0.99).float().mean()}
    if valid is not None:
        valid_error, valid_divergence, valid_energy, _ = _reconstruction(
            rbm, valid, generator, weights[1], (missing, known[1])
        )
        values |= {"valid_reconstruction_error": valid_error, "valid_kl": valid_divergence}
        if holes is None:
            values["free_energy_gap"] = valid_energy - energy
    return dict(zip(values, torch.stack(list(values.values())).tolist(), strict=True))


def _reconstruction(
    rbm: RBM,
    x: Tensor,
    generator: torch.Generator,
    weights: Tensor | None = None,
    holes: tuple[Missing | None, Tensor | None] = (None, None),
    chunk: int = 1000,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Means over examples of squared error, divergence and free energy, each 0-dim, and of E[h | x], (H,)."""
    sums = [torch.zeros((), dtype=torch.float32, device=x.device) for _ in range(3)]
    activity = torch.zeros(rbm.hidden.size, dtype=torch.float32, device=x.device)
    own = [None] * -(-len(x) // chunk) if weights is None else weights.split(chunk)
    missing, known = holes
    observed = [None] * len(own) if known is None else known.split(chunk)
    for part, w, there in zip(x.split(chunk), own, observed, strict=True):
        of_rows: Harmonium = rbm
        if missing and there is not None:
            of_rows, part = missing.at(rbm, part, there, generator)
        field = of_rows.hidden_field(part)
        x_hat = of_rows.down(rbm.hidden.sample(field, generator))
        if there is not None:  # alike where nothing is observed
            part, x_hat = part.masked_fill(~there, 0.0), x_hat.masked_fill(~there, 0.0)
        sums[0] += weighted((part - x_hat).square(), w).sum()
        sums[1] += weighted(rbm.visible.divergence(part, x_hat), w).sum()
        sums[2] += weighted(rbm.visible.energy(part) - rbm.hidden.log_partition(field), w).sum()
        activity += weighted(rbm.hidden.mean(field), w).sum(0)
    n = len(x) if weights is None else weights.sum()
    error, divergence, energy = (total / n for total in sums)
    return error, divergence, energy, activity / n
