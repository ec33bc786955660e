"""The log-likelihood gradient in closed form, plain or centered.

For any parameter it is the mean of its statistic under data minus under the model, with the hidden side in
expectation. With negative samples in place of the model it is, up to sign, the gradient of F(data).mean() −
F(negatives).mean() at given negatives; the value of that difference is not a loss.

Centered, it is the gradient of the same model with offsets, −(h − λ)·W·(v − μ) − b·v − c·h − …, mapped back: M·Mᵀ times
the plain gradient, where M is the linear map from those parameters to the ordinary ones.

Montavon & Müller (2012), "Deep Boltzmann machines and the centering trick"; Melchior, Fischer & Wiskott (2016), "How
to center deep Boltzmann machines".
"""

from collections.abc import Callable
from operator import attrgetter
from typing import NamedTuple, Self, final

import torch
from torch import Tensor, nn

from dbn.arrays import in_type, without_gradients
from dbn.compiled import is_tracing
from dbn.errors import InputError
from dbn.models import RBM, Units
from dbn.models.matmul import product
from dbn.models.values import weighted

Count = float | Tensor

ALIGNED = 64
"""Bytes. Where the result of a product is in memory may decide on its last bit: new tensors are at multiples of it."""


class Means(NamedTuple):
    """Means over a batch of data: of v, (V,), and of E[h | v], (H,)."""

    visible: Tensor
    hidden: Tensor


class GlobalBatch(NamedTuple):
    """The whole batch, of which a process has a share."""

    data: int
    """Examples of all processes."""
    negatives: int
    all_reduce_sum: Callable[[Tensor, Tensor], None]
    """Replaces every `.grad` and its two arguments by their sums over all processes."""
    weight: Tensor | None = None
    """Sum of the weights of these examples, where they have such."""


class Side(NamedTuple):
    """Data or negatives."""

    h: Tensor
    v: Tensor
    """(R, H) and (R, V), whose product Σ_r h_r v_rᵀ is the statistic of the weight."""
    hidden: dict[str, Tensor]
    """E[T(h) | v] of the rows by name, each (B, H), times the weights of the rows."""
    visible: dict[str, Tensor]
    """T(v) of the rows by name, each (B, V), times these weights."""
    n: Count
    """What sums over rows are divided by."""

    @classmethod
    def of_rows(cls, rbm: RBM, v: Tensor, hidden: dict[str, Tensor], n: Count, weights: Tensor | None) -> Self:
        """Of rows v (B, V) with their E[T(h) | v] and weights (B,), if any."""
        hidden = weighted_rows(hidden, weights)
        # The statistic of a bias is x itself, so its expectation is E[h | v].
        return cls(hidden["bias"], v, hidden, weighted_rows(rbm.visible.statistics(v), weights), n)


@final
class Offsets:
    """μ (V,) and λ (H,) of the centered gradient: moving averages of batch means. InputError unless 0 ≤ slide ≤ 1.

    >>> from dbn.models import RBM, Bernoulli
    >>> rbm, data = RBM(Bernoulli(4), Bernoulli(3)), torch.ones(5, 4)
    >>> offsets = Offsets.start(rbm, data.mean(0))
    >>> _ = set_gradient(rbm, data, torch.zeros(5, 4), offsets=offsets)
    >>> offsets.hidden
    tensor([0.5000, 0.5000, 0.5000])
    """

    capturable = True
    """As of `dbn.sampling.chains.Chains`."""

    def __init__(self, visible: Tensor, hidden: Tensor, slide: float = 0.01) -> None:
        if not 0 <= slide <= 1:
            raise InputError(f"the slide of the offsets is a fraction from 0 to 1, not {slide}")
        self.visible, self.hidden = visible, hidden
        self.slide = slide

    @classmethod
    @torch.no_grad()
    def start(cls, rbm: RBM, mean: Tensor, slide: float = 0.01) -> Self:
        """μ at the data's mean (V,), λ at E[h | v = mean], about ½ for fresh Bernoulli units."""
        mean = mean.to(rbm.weight)
        return cls(mean.clone(), rbm.up(mean[None])[0], slide)

    def update(self, means: Means) -> None:
        """μ ← (1−s)·μ + s·⟨v⟩ and λ ← (1−s)·λ + s·⟨E[h|v]⟩ with s = `slide`."""
        # Never in place: a state taken earlier stays what it was.
        self.visible = torch.lerp(self.visible.to(means.visible), means.visible, self.slide)
        self.hidden = torch.lerp(self.hidden.to(means.hidden), means.hidden, self.slide)

    def state(self) -> dict[str, Tensor]:
        """The offsets by name."""
        return {"visible": self.visible, "hidden": self.hidden}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Restore a `state`."""
        self.visible, self.hidden = state["visible"], state["hidden"]


@without_gradients
def set_gradient(
    rbm: RBM,
    data: Tensor,
    negatives: Tensor,
    hidden_field: Tensor | None = None,
    offsets: Offsets | None = None,
    negative_field: Tensor | None = None,
    whole: GlobalBatch | None = None,
    weights: Tensor | None = None,
    *,
    paired: bool = False,
    data_hidden: dict[str, Tensor] | None = None,
) -> Means:
    """Write ∂/∂θ [mean_data F − mean_negatives F] into `.grad` of every parameter; return the means of the data.

    An optimizer descends it. For the weight it is −⟨E[h|v] vᵀ⟩_data + ⟨E[h|v] vᵀ⟩_negatives. With offsets, updated
    first, it is G = −⟨(E[h|v] − λ)(v − μ)ᵀ⟩_data + ⟨…⟩_negatives, and Gᵀλ and Gμ are subtracted from the gradients of
    the visible and the hidden bias.

    data: (B, V); negatives: (N, V); hidden_field, negative_field: their W v, (B, H) and (N, H), if known; data_hidden:
    `rbm.hidden.expected_statistics(hidden_field)`, if known. whole: the batch of all processes, of which these are a
    share, possibly empty; gradient and means are those of the whole.

    weights: (B,), of the data, which average 1 over the data set; the gradient is then that of
    Σ_i w_i·(F(data_i) − ⟨F⟩_negatives)/B, which is unbiased for any batch, and the means are weighted. paired: whether
    negative i has started at row i, and stands in for ⟨·⟩ there, as in contrastive divergence.

    >>> from dbn.models import RBM, Bernoulli
    >>> rbm = RBM(Bernoulli(4), Bernoulli(3))
    >>> set_gradient(rbm, torch.ones(5, 4), negatives=torch.zeros(5, 4)).visible
    tensor([1., 1., 1., 1.])
    >>> rbm.weight.grad[0]  # −½
    tensor([-0.5000, -0.5000, -0.5000, -0.5000])
    """
    data, negatives = rbm.visible.values(data), rbm.visible.values(negatives)
    n = len(data) if whole is None else whole.data
    n_negatives: Count = len(negatives) if whole is None else whole.negatives
    total: Count = n
    if weights is not None:
        total = weights.sum() if whole is None or whole.weight is None else whole.weight
        n_negatives = n if paired else n_negatives * (n / total)
    if data_hidden is None:
        data_hidden = rbm.hidden.expected_statistics(rbm.hidden_field(data) if hidden_field is None else hidden_field)
    fields = rbm.hidden_field(negatives) if negative_field is None else negative_field
    means = set_difference(
        rbm,
        Side.of_rows(rbm, data, data_hidden, n, weights),
        Side.of_rows(rbm, negatives, rbm.hidden.expected_statistics(fields), n_negatives, weights if paired else None),
    )
    if whole is not None:
        whole.all_reduce_sum(*means)
    if weights is not None:
        means = Means(*(mean * (n / total) for mean in means))
    if offsets is not None:
        offsets.update(means)
        center(rbm, offsets.visible, offsets.hidden)
    return means


def weighted_rows(statistics: dict[str, Tensor], weights: Tensor | None) -> dict[str, Tensor]:
    """The statistics of rows (B, …) times their weights (B,), if any."""
    if weights is None:
        return statistics
    return {name: weighted(each, weights) for name, each in statistics.items()}


def set_difference(rbm: RBM, data: Side, negatives: Side) -> Means:
    """The `.grad` of every parameter, the statistics of the negatives less those of the data; the means of the data."""
    dtype = rbm.product_dtype
    # One product of both, so that rounding is of their small difference, not of two large numbers.
    h = torch.cat([in_type(negatives.h / negatives.n, dtype), in_type(data.h / -data.n, dtype)])
    v = torch.cat([in_type(negatives.v, dtype), in_type(data.v, dtype)])
    gradient = gradient_of(rbm.weight)
    if not is_tracing() and gradient.dtype == dtype and gradient.data_ptr() % ALIGNED == 0:
        product(h.T, v.T, out=gradient)
    else:
        gradient.copy_(product(h.T, v.T))
    hidden = set_unit_gradient(rbm.hidden, (data.hidden, data.n), (negatives.hidden, negatives.n))
    return Means(set_unit_gradient(rbm.visible, (data.visible, data.n), (negatives.visible, negatives.n)), hidden)


def set_unit_gradient(
    units: Units, data: tuple[dict[str, Tensor], Count], negatives: tuple[dict[str, Tensor], Count]
) -> Tensor:
    """The `.grad` of the units' parameters; returns the mean of x under data.

    Each side: its statistics, and the number to divide by.
    """
    (of_data, n), (of_negatives, n_negatives) = data, negatives
    means = {name: each.sum(0).div_(n) for name, each in of_data.items()}
    difference = {name: of_negatives[name].sum(0).div_(n_negatives).sub_(mean) for name, mean in means.items()}
    for name, gradient in units.parameter_gradient(difference).items():
        gradient_of(attrgetter(name)(units)).copy_(gradient)
    return means["bias"]


def center(rbm: RBM, mu: Tensor, lam: Tensor) -> None:
    """Replace the gradient by M·Mᵀ times it. The product λμᵀ of the offsets cancels; two of rank one remain."""
    weight, visible, hidden = gradient_of(rbm.weight), gradient_of(rbm.visible.bias), gradient_of(rbm.hidden.bias)
    if is_tracing():  # one pass with what precedes, which a product is not
        weight.sub_(lam[:, None] * visible + hidden[:, None] * mu)
    else:
        weight.addmm_(torch.stack([lam, hidden], 1), torch.stack([visible, mu]), alpha=-1)
    visible.addmv_(weight.T, lam, alpha=-1)
    hidden.addmv_(weight, mu, alpha=-1)


def gradient_of(parameter: nn.Parameter) -> Tensor:
    """`.grad`, created as zeros if missing."""
    gradient = parameter.grad
    if gradient is None:
        gradient = parameter.grad = torch.zeros_like(parameter)
    return gradient
