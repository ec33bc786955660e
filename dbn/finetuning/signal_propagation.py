"""Signal propagation: activations, gradients and Jacobians of a network, layer by layer.

Glorot & Bengio (2010), sections 3 and 4.2.1; He et al. (2015). Measured on a copy: weights, gradients, running
averages, random state and training mode of the network do not change.
"""

import copy
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dbn.errors import InputError, check_types, parsing
from dbn.models.mlp import ACTIVATIONS
from dbn.runs.tensorboard import EventLog

EXAMPLES = 5
"""Examples whose Jacobians are decomposed."""

FLAT = 4 * 0.01 * 0.99
"""Slope, over the steepest, of a sigmoid or tanh whose value is 1 % of its range away from an end."""

LAST_BIN = 1e20
"""The end of TensorBoard's bins: torch's writer refuses a histogram beyond them."""


class LayerTrace(NamedTuple):
    """The values of one layer: `h = f(z)`, `z = W·h_below + b` (normalized, where the layer does that)."""

    z: Tensor
    """(B, H): pre-activations."""
    h: Tensor
    """(B, H): activations."""
    gradient: Tensor
    """(B, H): ∂ℓ/∂z, ℓ an example's loss in nats; with batch normalisation, of the losses' sum."""
    weight_gradient: Tensor
    """(H, H_below): ∂L/∂W, L the mean loss in nats."""
    flat: Tensor
    """(B, H): 1 where |f'(z)| is less than 3.96 % of the steepest, 0 elsewhere, NaN where it is NaN."""
    singular_values: Tensor
    """(n, min(H, H_below)): of the Jacobian ∂h/∂h_below at the first n examples, falling."""


class LayerSignal(NamedTuple):
    """Summary of one layer. Each `std` is √(mean of squares about the mean) over all units and examples."""

    z_mean: float
    z_std: float
    """Forward spread: of pre-activations."""
    example_std: float
    """Of pre-activations about each unit's own mean over examples: what still distinguishes examples. In single
    precision, rounding alone makes it some 1e-8 of their size."""
    h_mean: float
    h_std: float
    """Of activations."""
    saturated: float
    """Share of activations (unit and example) whose slope is less than 3.96 % of the steepest. Sigmoid and tanh:
    the value lies within 1 % of the range from an end. ReLU: the unit is off, as half of them are at initialization."""
    dead: float
    """Share of units that are saturated on every example, so that nothing in the batch can train them."""
    gradient_std: float
    """Backward spread: of an example's loss by pre-activations, nats."""
    weight_gradient_std: float
    """Of the mean loss by weights, nats."""
    singular_mean: float
    singular_std: float
    singular_max: float
    """Singular values of the Jacobian from the layer below: 1 preserves small differences."""


class _Layer(NamedTuple):
    linear: nn.Module
    before: nn.Sequential
    """From the linear map to z."""
    activation: nn.Module
    after: nn.Sequential


def trace(
    network: nn.Sequential,
    x: Tensor,
    y: Tensor,
    examples: int = EXAMPLES,
    loss: Callable[[Tensor, Tensor], Tensor] | None = None,
) -> list[LayerTrace]:
    """The values of every layer, the output layer last; arguments and errors as `signal_propagation`.

    loss: of outputs and targets y (B, …), the mean over examples; cross-entropy by default.
    """
    if len(x) < 2 or len(y) != len(x) or (loss is None and y.ndim != 1):
        raise InputError(f"signals need at least 2 examples and a label for each, not {len(x)} and {len(y)}")
    if not any(isinstance(module, nn.Linear) for module in network):
        raise InputError("signals are measured at the Linear modules of an nn.Sequential, and this one has none")
    twin = copy.deepcopy(network).eval().requires_grad_(True)
    norms = [module for module in twin.modules() if isinstance(module, nn.BatchNorm1d)]
    for norm in norms:
        norm.train()
        norm.momentum = 1.0  # the running statistics become those of this batch
    entrance, layers = _layers(twin)
    shapes = f"a batch {tuple(x.shape)} of {x.dtype} with labels of {y.dtype}"
    misfit = f"{shapes} does not go through the network: give x as it takes it, and classes as whole numbers"
    with torch.enable_grad(), parsing(InputError(misfit)):
        h = entrance(x.detach())
        linears, pre, post = [], [], []
        for layer in layers:
            linears.append(layer.linear(h))
            pre.append(layer.before(linears[-1]))
            post.append(layer.activation(pre[-1]))
            h = layer.after(post[-1])
        mean_loss = (loss or F.cross_entropy)(h, y)
        gradients = torch.autograd.grad(mean_loss, [*pre, *(layer.linear.weight for layer in layers)])
    for norm in norms:
        norm.eval()
        if norm.running_var is not None:
            norm.running_var *= (len(x) - 1) / len(x)  # torch keeps the unbiased variance; training uses the biased one
    found = []
    for layer, s, z, value, by_z, by_weight in zip(
        layers, linears, pre, post, gradients[: len(layers)], gradients[len(layers) :], strict=True
    ):
        slope = _slope(layer.activation, z)
        steepest = _slope(layer.activation, torch.linspace(-5, 5, 1001, dtype=z.dtype, device=z.device)).max()
        tail = nn.Sequential(layer.before, layer.activation, layer.after)
        jacobian = _slope(tail, s[:examples])[:, :, None] * layer.linear.weight.detach()
        found.append(
            LayerTrace(
                z.detach(),
                value.detach(),
                by_z * len(x),
                by_weight,
                torch.where(slope.isnan(), slope, (slope.abs() < FLAT * steepest).to(slope.dtype)),
                _singular_values(jacobian),
            )
        )
    return found


def _layers(network: nn.Sequential) -> tuple[nn.Sequential, list[_Layer]]:
    """The modules before the first linear map, and the layers, each from its linear map to the next."""
    modules = list(network)
    starts = [place for place, module in enumerate(modules) if isinstance(module, nn.Linear)]
    layers = []
    for start, stop in pairwise([*starts, len(modules)]):
        linear, *tail = modules[start:stop]
        cut = next((i for i, module in enumerate(tail) if isinstance(module, tuple(ACTIVATIONS.values()))), len(tail))
        activation = tail[cut] if cut < len(tail) else nn.Identity()
        layers.append(_Layer(linear, nn.Sequential(*tail[:cut]), activation, nn.Sequential(*tail[cut + 1 :])))
    return nn.Sequential(*modules[: starts[0]]), layers


def _slope(elementwise: nn.Module, x: Tensor) -> Tensor:
    """f'(x) of a function that acts on every element, or every column, alone."""
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        (slope,) = torch.autograd.grad(elementwise(x).sum(), x)
    return torch.where(x.isnan(), torch.nan, slope)  # that of ReLU is a number even at NaN


def _singular_values(jacobian: Tensor) -> Tensor:
    # LAPACK refuses values that are not finite, and an exploding network is measured too. On the CPU, since not every
    # torch has this decomposition on MPS, and it is needed twice per network.
    finite = jacobian.isfinite().all()
    found: Tensor = torch.linalg.svdvals(torch.where(finite, jacobian, 0.0).cpu()).to(jacobian.device)
    return torch.where(finite, found, torch.nan)


@check_types
def signal_propagation(network: nn.Sequential, x: Tensor, y: Tensor, examples: int = EXAMPLES) -> list[LayerSignal]:
    """How activations and gradients pass through a network, layer by layer, the output layer last.

    x: (B, V), as the network takes it; y: (B,) classes; the loss is the cross-entropy, nats; the Jacobians
    J = diag(f')·W are those at the first `examples`. Batch normalization uses the statistics of the batch, as in
    training, and Jacobians hold these fixed; dropout is off. `dbn.finetuning.signal_tables.table` prints the result.

    >>> network = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Tanh(), nn.Linear(2, 2))
    >>> _ = nn.init.eye_(network[0].weight)
    >>> hidden, output = signal_propagation(network, torch.tensor([[1.0, -1.0], [-3.0, 3.0]]), torch.tensor([0, 1]))
    >>> f"{hidden.z_std:.3f} {hidden.saturated:.2f} {hidden.singular_max:.3f}"
    '2.236 0.50 0.420'

    Raises:
        InputError: fewer than two examples, not a label for each, or no linear layer.
    """
    return summarize(trace(network, x, y, examples))


@torch.no_grad()
def summarize(traced: Sequence[LayerTrace]) -> list[LayerSignal]:
    """The summary of each layer, by one transfer to the host; inf or NaN where a network has exploded."""
    values = [
        torch.stack(
            [
                z.mean(),
                _std(z),
                _std(z - z.mean(0)),
                h.mean(),
                _std(h),
                flat.mean(),
                flat.amin(0).mean(),
                _std(gradient),
                _std(weight_gradient),
                singular_values.mean(),
                _std(singular_values),
                singular_values.max(),
            ]
        )
        for z, h, gradient, weight_gradient, flat, singular_values in traced
    ]
    return [LayerSignal(*row) for row in torch.stack(values).tolist()]


def _std(x: Tensor) -> Tensor:
    # Vanishing gradients are far smaller than the least number whose square is not 0.
    scale = x.abs().amax().clamp_min(torch.finfo(x.dtype).tiny)
    return scale * (x / scale).std(correction=0)


def record(events: EventLog, traced: Sequence[LayerTrace], step: int, prefix: str = "signals") -> list[LayerSignal]:
    """Write scalars and histograms of every layer under `prefix/layerN/…`, the output layer last; return the summary.

    Values that are not finite, or reach `LAST_BIN`, have no histogram.
    """
    found = summarize(traced)
    for number, (layer, signal) in enumerate(zip(traced, found, strict=True), start=1):
        under = f"{prefix}/layer{number}"
        events.scalars(signal._asdict(), prefix=under, step=step)
        for name in ("z", "h", "gradient", "weight_gradient", "singular_values"):
            values = getattr(layer, name)
            if (values.abs() < LAST_BIN).all():
                events.histogram(f"{under}/{name}", values, step)
    return found
