"""What is asked of an RBM besides the likelihood: penalties and bounds on its weights and activities.

L2 is the optimisers' own weight decay. A new one is a class and a line in `PENALTIES`.
"""

from typing import final

import torch
from torch import Tensor

from dbn.errors import InputError
from dbn.likelihood.gradient import Means, gradient_of
from dbn.models.rbm import RBM


class Penalty:
    """Acts on the gradient before an optimiser's step, or on the parameters after it; each does what it needs to.

    A gradient is added to what `.grad` holds, in the ordinary parameters: after centring, if there is any.
    """

    def before_step(self, rbm: RBM, means: Means) -> None:
        """Add to `.grad`; `means` is what `set_gradient` gave."""

    def after_step(self, rbm: RBM) -> None:
        """Correct the parameters."""

    def state(self) -> dict[str, Tensor]:
        """What must be kept between steps."""
        return {}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Take back what `state` gave."""


@final
class L1(Penalty):
    """strength·Σ|W|: adds strength·sign(W), nothing where a weight is 0. InputError for a negative strength.

    Tibshirani (1996), "Regression shrinkage and selection via the lasso"; Hinton (2010), section 10.
    """

    def __init__(self, strength: float) -> None:
        if not strength >= 0:
            raise InputError(f"the L1 penalty needs a strength of at least 0, not {strength}")
        self.strength = strength

    @torch.no_grad()
    def before_step(self, rbm: RBM, means: Means) -> None:
        """∂/∂W of strength·Σ|W|."""
        gradient_of(rbm.weight).add_(rbm.weight.sign(), alpha=self.strength)


@final
class SparsityTarget(Penalty):
    """Draws the mean activity q (H,) of every hidden unit towards `target` p, with cost·(−p log q − (1−p) log(1−q)).

    By a unit's field its gradient is cost·(q − p), which goes alike to the bias and, times the mean of v, to the
    incoming weights; to the bias alone, it would drive weights up against it. q is the moving average
    decay·q + (1−decay)·⟨E[h|v]⟩ over batches and begins with the first of them.

    Exact for Bernoulli units on a batch of equal rows, otherwise Hinton's simplification: σ and v are averaged apart.
    For any other units whose mean may be wanted at p, it is the same step on −cost·log p(h = p | field), whose
    gradient by the field is cost·(E[h] − p); parameters besides bias and weight are left alone.

    InputError unless 0 < target < 1, cost ≥ 0 and 0 ≤ decay < 1.
    Hinton (2010), "A practical guide to training restricted Boltzmann machines", section 11.
    """

    def __init__(self, target: float, cost: float, decay: float = 0.9) -> None:
        if not 0 < target < 1:
            raise InputError(f"a sparsity target is a mean activity between 0 and 1, not {target}")
        if not cost >= 0:
            raise InputError(f"the sparsity target needs a cost of at least 0, not {cost}")
        if not 0 <= decay < 1:
            raise InputError(f"the sparsity target needs a decay of at least 0 and below 1, not {decay}")
        self.target, self.cost, self.decay = target, cost, decay
        self.activity: Tensor | None = None

    @torch.no_grad()
    def before_step(self, rbm: RBM, means: Means) -> None:
        """Move q, then cost·(q − p) to the hidden bias and cost·(q − p)·⟨v⟩ᵀ to the weight."""
        # Never in place: a state taken earlier stays what it was.
        old = means.hidden if self.activity is None else self.activity
        self.activity = torch.lerp(old, means.hidden, 1 - self.decay)
        by_field = self.cost * (self.activity - self.target)
        gradient_of(rbm.hidden.bias).add_(by_field)
        gradient_of(rbm.weight).addr_(by_field, means.visible)

    def state(self) -> dict[str, Tensor]:
        """q, once there was a batch."""
        return {} if self.activity is None else {"activity": self.activity}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Take back q."""
        self.activity = state.get("activity")


@final
class MaxNorm(Penalty):
    """No hidden unit's incoming weights, a row of W, are longer than `bound`: a longer row is scaled back to it.

    InputError unless the bound is above 0. Srivastava et al. (2014), "Dropout", section 5.1.
    """

    def __init__(self, bound: float) -> None:
        if not bound > 0:
            raise InputError(f"the max-norm needs a bound above 0, not {bound}")
        self.bound = bound

    @torch.no_grad()
    def after_step(self, rbm: RBM) -> None:
        """W_j ← W_j·min(1, bound/‖W_j‖₂)."""
        rbm.weight.renorm_(2, 0, self.bound)
