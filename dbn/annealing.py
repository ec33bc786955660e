"""From a model of independent units to an RBM, along a line of natural parameters.

    θ(β) = (1 − β)·θ_base + β·θ_rbm,    W(β) = β·W,    f_β(v) = exp(−F_β(v)),    0 ≤ β ≤ 1

The base has W = 0, so the field at any β is β times W v of the RBM: one product serves every β. Z is finite on
the whole line if it is at both ends, because the θ of finite Z form a convex set (Hölder's inequality).

Neal (2001), "Annealed importance sampling"; Salakhutdinov & Murray (2008), "On the quantitative analysis of deep
belief networks".
"""

import copy
from typing import final

import torch
from torch import Tensor

from dbn.errors import InputError
from dbn.rbm import RBM, Harmonium
from dbn.units import Units


@torch.no_grad()
def independent(rbm: RBM, mean: Tensor, variance: Tensor, n: int) -> RBM:
    """The base of a path to `rbm`: W = 0, visible θ at the marginals of `n` examples, hidden biases 0.

    mean, variance: (V,), smoothed as `Units.fit_marginals` does. The rest of the hidden θ, a precision say, is
    copied: at field 0 the hidden units of both ends then have the same width.
    """
    base = rbm.uncoupled()
    base.visible.fit_marginals(mean, variance, n)
    return base


@final
class Annealed(Harmonium):
    """The model at β: what an RBM offers, with θ(β) and fields β times those of `rbm`. Made by `Path.at`."""

    def __init__(self, rbm: RBM, visible: Units, hidden: Units, beta: float | Tensor) -> None:
        self.rbm = rbm
        self.visible = visible
        self.hidden = hidden
        self.beta = beta

    def hidden_field(self, v: Tensor) -> Tensor:
        """β·W v, (B, H)."""
        return self.rbm.hidden_field(v) * self.beta

    def visible_field(self, h: Tensor) -> Tensor:
        """β·Wᵀ h, (B, V)."""
        return self.rbm.visible_field(h) * self.beta


@final
class Path:
    """The line from `base` (W = 0) at β = 0 to `rbm` at β = 1.

    Both are kept, not copied: a path follows an RBM that learns. Raises InputError for two RBMs of different unit
    types or sizes, and for a base whose layers are coupled.
    """

    def __init__(self, base: RBM, rbm: RBM) -> None:
        if _layers(base) != _layers(rbm):
            raise InputError(
                f"a path cannot lead from {_layers(base)} to {_layers(rbm)}: make its base with annealing.independent"
            )
        if base.weight.any():
            raise InputError("the base of a path must have weight 0: make it with annealing.independent")
        self.base = base
        self.rbm = rbm

    @torch.no_grad()
    def at(self, beta: float | Tensor) -> Annealed:
        """The model at β: a number, or (B, 1), a position for every row of the states. Nothing in it is learned."""
        beta = self._position(beta)
        visible = _between(self.base.visible, self.rbm.visible, beta)
        return Annealed(self.rbm, visible, _between(self.base.hidden, self.rbm.hidden, beta), beta)

    @torch.no_grad()
    def log_ratio(self, v: Tensor, product: Tensor, start: float | Tensor, end: float | Tensor) -> Tensor:
        """log f_end(v) − log f_start(v), (B,), in nats. product: W v, (B, H); start, end: positions as `at` takes.

        The visible part, (end − start)·(θ_rbm − θ_base)·T(v), is no difference of two large energies.
        """
        start, end = self._position(start), self._position(end)
        base, rbm = self.base.visible.natural(), self.rbm.visible.natural()
        slope = self.rbm.visible.dot({name: rbm[name] - base[name] for name in rbm}, v)
        step = end - start
        before, after = (_between(self.base.hidden, self.rbm.hidden, beta) for beta in (start, end))
        hidden = after.log_partition(end * product) - before.log_partition(start * product)
        return slope * (step.squeeze(-1) if isinstance(step, Tensor) else step) + hidden

    @torch.no_grad()
    def base_log_partition(self) -> float:
        """log Z of the base in closed form, in nats, in double precision."""
        # On the CPU, since not every device has float64.
        layers = (copy.deepcopy(units).cpu().double() for units in (self.base.visible, self.base.hidden))
        return sum(float(units.log_partition(units.bias.new_zeros(1, units.size))) for units in layers)

    def _position(self, beta: float | Tensor) -> float | Tensor:
        return beta.to(self.rbm.weight) if isinstance(beta, Tensor) else beta


def _layers(rbm: RBM) -> str:
    visible, hidden = rbm.visible, rbm.hidden
    return f"{visible.size} {visible.kind} and {hidden.size} {hidden.kind} units"


def _between(base: Units, rbm: Units, beta: float | Tensor) -> Units:
    start, end = base.natural(), rbm.natural()
    return rbm.with_natural({name: torch.lerp(start[name], end[name], beta) for name in start})
