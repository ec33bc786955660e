"""The gradient of the log-likelihood, in closed form.

For any parameter it is the mean of its statistic under data minus under the model, the hidden side in
expectation. With negative samples in place of the model it equals, up to sign, the gradient of
F(data).mean() − F(negatives).mean() at given negatives. That difference is no loss: its value says nothing.

Centred, it is that of the same model written with offsets, −(h − λ)·W·(v − μ) − b·v − c·h − …, and carried back: with
M the linear map from those parameters to the ordinary ones, M·Mᵀ times the plain gradient.

Montavon & Müller (2012), "Deep Boltzmann machines and the centering trick"; Melchior, Fischer & Wiskott (2016), "How
to center deep Boltzmann machines".
"""

from collections.abc import Callable
from typing import NamedTuple, Self, final

import torch
from torch import Tensor, nn

from dbn.errors import InputError
from dbn.models.matmul import product
from dbn.models.rbm import RBM
from dbn.models.units.base import Units


class Means(NamedTuple):
    """Of a batch of data: v (V,), and E[h | v] (H,)."""

    visible: Tensor
    hidden: Tensor


class GlobalBatch(NamedTuple):
    """What the examples and negatives of one process are a share of."""

    data: int
    """Examples in the whole batch."""
    negatives: int
    all_reduce_sum: Callable[[Tensor, Tensor], None]
    """Replaces every `.grad`, and the two tensors that it is given, by their sums over all processes."""


@final
class Offsets:
    """μ (V,) and λ (H,) of the centered gradient: moving averages of the means of the data's batches.

    InputError unless 0 ≤ slide ≤ 1; with 0 they stay where they are.
    """

    def __init__(self, visible: Tensor, hidden: Tensor, slide: float = 0.01) -> None:
        if not 0 <= slide <= 1:
            raise InputError(f"offsets slide by a fraction of the way to the batch's means, from 0 to 1, not {slide}")
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
        self.visible = torch.lerp(self.visible, means.visible, self.slide)
        self.hidden = torch.lerp(self.hidden, means.hidden, self.slide)

    def state(self) -> dict[str, Tensor]:
        """What must be kept between steps."""
        return {"visible": self.visible, "hidden": self.hidden}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Take back what `state` gave."""
        self.visible, self.hidden = state["visible"], state["hidden"]


@torch.no_grad()
def set_gradient(
    rbm: RBM,
    data: Tensor,
    negatives: Tensor,
    hidden_field: Tensor | None = None,
    offsets: Offsets | None = None,
    negative_field: Tensor | None = None,
    whole: GlobalBatch | None = None,
) -> Means:
    """Write into `.grad` of every parameter the direction that an optimiser descends; give the means of the data.

    ∂/∂θ [mean_data F − mean_negatives F]: for the weight −⟨E[h|v] vᵀ⟩_data + ⟨E[h|v] vᵀ⟩_negatives.
    With offsets, which slide to the data first, G = −⟨(E[h|v] − λ)(v − μ)ᵀ⟩_data + ⟨…⟩_negatives for the weight; Gᵀλ is
    taken off the visible bias' gradient and Gμ off the hidden one's; other parameters have theirs.

    data: (B, V); negatives: (N, V); hidden_field, negative_field: W v of the data and of the negatives if the caller
    has them, (B, H) and (N, H). whole: where these are a share, which may be empty, the gradient and the means are
    those of the whole.
    """
    n, n_negatives = (len(data), len(negatives)) if whole is None else (whole.data, whole.negatives)
    data_field = rbm.hidden_field(data) if hidden_field is None else hidden_field
    data_hidden = rbm.hidden.expected_statistics(data_field)
    fields = rbm.hidden_field(negatives) if negative_field is None else negative_field
    negative_hidden = rbm.hidden.expected_statistics(fields)

    # The statistic of a bias is x itself, so its expectation is E[h | v].
    _set_weight_gradient(rbm, (data_hidden["bias"], data, n), (negative_hidden["bias"], negatives, n_negatives))
    hidden_mean = _set_unit_gradient(rbm.hidden, (data_hidden, n), (negative_hidden, n_negatives))
    of_data, of_negatives = rbm.visible.statistics(data), rbm.visible.statistics(negatives)
    means = Means(_set_unit_gradient(rbm.visible, (of_data, n), (of_negatives, n_negatives)), hidden_mean)
    if whole is not None:
        whole.all_reduce_sum(*means)
    if offsets is not None:
        offsets.update(means)
        _center(rbm, offsets.visible, offsets.hidden)
    return means


def _set_weight_gradient(rbm: RBM, data: tuple[Tensor, Tensor, int], negatives: tuple[Tensor, Tensor, int]) -> None:
    """Both products of a batch's size. Each side: E[h | v], v, and the number to divide by."""
    (h_data, v_data, n_data), (h_negatives, v_negatives, n_negatives) = data, negatives
    # One product of both: where it is rounded, that is their small difference, not each of two large numbers.
    dtype = rbm.product_dtype
    h = torch.cat([(h_negatives / n_negatives).to(dtype), (h_data / -n_data).to(dtype)])
    v = torch.cat([v_negatives.to(dtype), v_data.to(dtype)])
    gradient_of(rbm.weight).copy_(product(h.T, v.T))


def _set_unit_gradient(
    units: Units, data: tuple[dict[str, Tensor], int], negatives: tuple[dict[str, Tensor], int]
) -> Tensor:
    """Gives the mean of x under data. Each side: its statistics, and the number to divide by."""
    means = {name: statistic.sum(0) / data[1] for name, statistic in data[0].items()}
    difference = {name: negatives[0][name].sum(0) / negatives[1] - mean for name, mean in means.items()}
    for name, gradient in units.parameter_gradient(difference).items():
        gradient_of(units.get_parameter(name)).copy_(gradient)
    return means["bias"]


def _center(rbm: RBM, mu: Tensor, lam: Tensor) -> None:
    """M·Mᵀ times the gradient that is there, without centered copies of the batches.

    The offsets' own product λμᵀ is the same under data and negatives: two products of rank one remain.
    """
    weight, visible, hidden = gradient_of(rbm.weight), gradient_of(rbm.visible.bias), gradient_of(rbm.hidden.bias)
    weight.addmm_(torch.stack([lam, hidden], 1), torch.stack([visible, mu]), alpha=-1)
    visible.addmv_(weight.T, lam, alpha=-1)
    hidden.addmv_(weight, mu, alpha=-1)


def gradient_of(parameter: nn.Parameter) -> Tensor:
    """`.grad`, made of zeros where there is none."""
    if parameter.grad is None:
        parameter.grad = torch.zeros_like(parameter)
    return parameter.grad
