"""The gradient of a label model: generative, discriminative, or a sum of both, with and without labels.

Every part is a weighted sum of ∂F(x, y) over rows and classes, exact but for the negative samples:

    −log p(y | x):   ∂F(x, y) − Σ_c p(c | x) ∂F(x, c)
    −log p(x, y):    ∂F(x, y) − ⟨∂F⟩_model
    −log p(x):       Σ_c p(c | x) ∂F(x, c) − ⟨∂F⟩_model, for a row without a label

Larochelle & Bengio (2008), "Classification using discriminative restricted Boltzmann machines"; Larochelle, Mandel,
Pascanu & Bengio (2012), "Learning algorithms for the classification restricted Boltzmann machine".
"""

from typing import NamedTuple

import torch
from torch import Tensor

from dbn.likelihood.gradient import Count, Means, Offsets, Side, center, set_difference
from dbn.models.label_model import class_fields, class_scores
from dbn.models.rbm import RBM
from dbn.models.values import mean_of, weighted


class Weights(NamedTuple):
    """Of the two parts of the loss."""

    discriminative: float
    """Of −log p(y | x)."""
    generative: float
    """Of −log p(x, y), and of −log p(x) of rows without a label."""


@torch.no_grad()
def set_label_gradient(
    rbm: RBM,
    rows: Tensor,
    n_classes: int,
    negatives: Tensor,
    weights: Weights,
    offsets: Offsets | None = None,
    row_weights: Tensor | None = None,
    *,
    paired: bool = False,
) -> Means:
    """Write the gradient of the weighted loss, a mean over rows, into `.grad` of every parameter.

    rows: (B, F + C), the features and the one-hot label; the label units of a row without a label are 0. negatives:
    (N, F + C), states of the model; they are not used where the generative weight is 0. offsets, row_weights
    (B,), paired: see `set_gradient`.
    Returns the means of the data, the label summed out where there is none.

    >>> from dbn.models import Bernoulli
    >>> from dbn.models.label_model import label_rbm
    >>> rbm = label_rbm("bernoulli", 2, Bernoulli(1), 2)
    >>> rows = torch.tensor([[1.0, 1.0, 1.0, 0.0]])
    >>> _ = set_label_gradient(rbm, rows, 2, rows[:0], Weights(1.0, 0.0))
    >>> rbm.visible.bias.grad  # p(y | x) - y
    tensor([ 0.0000,  0.0000, -0.5000,  0.5000])
    """
    x, y = rows[:, :-n_classes], rows[:, -n_classes:]
    fields = class_fields(rbm, x, n_classes)
    p = class_scores(rbm, fields).softmax(1)
    is_labeled = y.sum(1, keepdim=True)
    posterior = weighted(torch.where(is_labeled > 0, y, p) / len(rows), row_weights)
    share = weights.discriminative * is_labeled * (y - p) / len(rows)
    share = weights.generative * posterior + weighted(share, row_weights)
    statistics = rbm.hidden.expected_statistics(fields)
    hidden = {name: (share[..., None] * each).sum(1) for name, each in statistics.items()}  # (B, H)
    by_class = torch.einsum("bc,bch->ch", share, statistics["bias"])
    # A row for the features of each example, and one for each label unit.
    h = torch.cat([hidden["bias"], by_class])
    v = torch.block_diag(x, torch.eye(n_classes, dtype=x.dtype, device=x.device))
    visible = {name: share.sum(1, keepdim=True) * each for name, each in rbm.visible.statistics(rows).items()}
    visible["bias"] = torch.cat([share.sum(1, keepdim=True) * x, share], 1)

    if not weights.generative:
        negatives = negatives[:0]
    n: Count = len(negatives) / weights.generative if weights.generative else 1.0
    mass: Count = 1.0 if row_weights is None else row_weights.sum() / len(rows)
    own = row_weights if paired and weights.generative else None
    if row_weights is not None and own is None:
        n = n / mass
    expected = rbm.hidden.expected_statistics(rbm.hidden_field(negatives))
    set_difference(rbm, Side(h, v, hidden, visible, 1), Side.of_rows(rbm, negatives, expected, n, own))
    posterior = posterior if row_weights is None else posterior / mass
    hidden_mean = torch.einsum("bc,bch->h", posterior, statistics["bias"])
    means = Means(torch.cat([mean_of(x, row_weights), posterior.sum(0)]), hidden_mean)
    if offsets is not None:
        offsets.update(means)
        center(rbm, offsets.visible, offsets.hidden)
    return means
