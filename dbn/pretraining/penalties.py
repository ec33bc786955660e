"""Penalties and bounds on the weights and activities of an RBM. L2 is the optimizers' own weight decay."""

from typing import final

import torch
from torch import Tensor

from dbn.config.pretraining import Pretraining
from dbn.errors import InputError
from dbn.likelihood.gradient import Means, gradient_of
from dbn.models.rbm import RBM
from dbn.pretraining import PENALTIES
from dbn.registry import read_parameters


class Penalty:
    """Adds to the gradient before a step of the optimizer, or corrects the parameters after it, or both.

    The gradient is that of the ordinary parameters, after centering. A new one is a class and a line in `PENALTIES`,
    which a user names with values of its parameters: `--penalty "l1(strength=0.001)"`.
    """

    capturable = False
    """Whether what persists between calls is tensors alone, in attributes, so that calls may be replayed as a CUDA
    graph."""

    def before_step(self, rbm: RBM, means: Means) -> None:
        """Add to `.grad`; `means` is what `set_gradient` returned."""

    def after_step(self, rbm: RBM) -> None:
        """Correct the parameters."""

    def state(self) -> dict[str, Tensor]:
        """What must be kept between steps."""
        return {}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Restore a `state`."""


@final
class L1(Penalty):
    """strength·Σ|W|: adds strength·sign(W), 0 where a weight is 0. InputError for a negative strength.

    Tibshirani (1996), "Regression shrinkage and selection via the lasso"; Hinton (2010), section 10.
    """

    capturable = True

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
    """cost·(−p log q − (1−p) log(1−q)) of the mean activity q (H,) of every hidden unit and the target p.

    Its gradient by a unit's field, cost·(q − p), goes to the bias and, times the mean of v, to the incoming weights; to
    the bias alone, it would drive weights up against it. q is the moving average decay·q + (1−decay)·⟨E[h|v]⟩ over
    batches, starting from the first.

    Exact for Bernoulli units on a batch of equal rows, otherwise Hinton's simplification: σ and v are averaged apart.
    For other units it is the same step on −cost·log p(h = p | field), whose gradient by the field is cost·(E[h] − p);
    parameters besides bias and weight are left alone.

    InputError unless 0 < target < 1, cost ≥ 0 and 0 ≤ decay < 1.
    Hinton (2010), "A practical guide to training restricted Boltzmann machines", section 11.
    """

    capturable = True

    def __init__(self, target: float, cost: float = 0.01, decay: float = 0.9) -> None:
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
        """Update q, then add cost·(q − p) to the hidden bias and cost·(q − p)·⟨v⟩ᵀ to the weight."""
        # Never in place: a state taken earlier stays what it was.
        old = means.hidden if self.activity is None else self.activity
        self.activity = torch.lerp(old, means.hidden, 1 - self.decay)
        by_field = self.cost * (self.activity - self.target)
        gradient_of(rbm.hidden.bias).add_(by_field)
        gradient_of(rbm.weight).addr_(by_field, means.visible)

    def state(self) -> dict[str, Tensor]:
        """q, after the first batch."""
        return {} if self.activity is None else {"activity": self.activity}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Restore q."""
        self.activity = state.get("activity")


@final
class MaxNorm(Penalty):
    """Bounds the norm of a hidden unit's incoming weights, a row of W. InputError unless the bound is above 0.

    Srivastava et al. (2014), "Dropout", section 5.1.
    """

    capturable = True

    def __init__(self, bound: float) -> None:
        if not bound > 0:
            raise InputError(f"the max-norm needs a bound above 0, not {bound}")
        self.bound = bound

    @torch.no_grad()
    def after_step(self, rbm: RBM) -> None:
        """W_j ← W_j·min(1, bound/‖W_j‖₂)."""
        rbm.weight.renorm_(2, 0, self.bound)


def penalties(config: Pretraining) -> dict[str, Penalty]:
    """The penalties of a configuration by name: --l1, --sparsity-target and --max-norm, then those of --penalty.

    InputError for one named twice, an unknown parameter, a missing one, and a value that cannot be used.
    """
    short = {
        "l1": (config.l1,) if config.l1 else None,
        "sparsity": (config.sparsity_target, config.resolved()["sparsity_cost"]) if config.sparsity_target else None,
        "max_norm": (config.max_norm,) if config.max_norm else None,
    }
    made: dict[str, Penalty] = {name: PENALTIES[name](*values) for name, values in short.items() if values}
    for text in config.penalty:  # the configuration has checked its form
        name, parenthesis, inside = "".join(text.split()).removesuffix(")").partition("(")
        try:
            if name in made:
                raise InputError(f"the penalty {name} is given twice: keep one")
            parameters = read_parameters(name, inside if parenthesis else None, PENALTIES.parameters(name), {})
            made[name] = PENALTIES[name](**parameters)
        except InputError as error:
            raise InputError(f"--penalty {text}: {error}") from error
    return made
