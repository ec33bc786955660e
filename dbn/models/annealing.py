"""From a base to an RBM of the same units, along a line of natural parameters.

    θ(β) = (1 − β)·θ_base + β·θ_rbm,    W(β) = (1 − β)·W_base + β·W,    f_β(v) = exp(−F_β(v)),    0 ≤ β ≤ 1

A base of independent units has W_base = 0, so the field at any β is β times W v of the RBM: one product serves every
β. Between two coupled RBMs two products do. Z is finite on the whole line if it is at both ends, because the
parameters of finite Z form a convex set (Hölder's inequality).

Neal (2001), "Annealed importance sampling"; Salakhutdinov & Murray (2008), "On the quantitative analysis of deep
belief networks".
"""

import copy
from typing import final

import torch
from torch import Tensor

from dbn.errors import InputError
from dbn.models.rbm import RBM, Harmonium
from dbn.models.units.base import Units


@torch.no_grad()
def independent_base(rbm: RBM, mean: Tensor, variance: Tensor, n: int) -> RBM:
    """The base of a path to `rbm`: W = 0, visible θ at the marginals of `n` examples, hidden biases 0.

    mean, variance: (V,), smoothed as `Units.fit_marginals` does. The rest of the hidden θ, a precision say, is
    copied: at field 0 the hidden units of both ends then have the same width.
    """
    base = rbm.uncoupled()
    base.visible.fit_marginals(mean, variance, n)
    return base


@final
class Annealed(Harmonium):
    """The model at β: what an RBM offers, with the parameters at that position. Made by `Path.at`."""

    def __init__(self, path: "Path", visible: Units, hidden: Units, beta: float | Tensor) -> None:
        self.path = path
        self.visible = visible
        self.hidden = hidden
        self.beta = beta

    def hidden_field(self, v: Tensor) -> Tensor:
        """W(β) v, (B, H)."""
        return self.path.field(self.path.product(v), self.beta)

    def visible_field(self, h: Tensor) -> Tensor:
        """W(β)ᵀ h, (B, V)."""
        of_rbm = self.path.rbm.visible_field(h)
        return (
            torch.lerp(self.path.base.visible_field(h), of_rbm, self.beta)
            if self.path.coupled
            else of_rbm.mul_(self.beta)
        )


Position = float | Tensor | Annealed
"""On a path: a position, or the model there."""


@final
class Path:
    """The line from `base` at β = 0 to `rbm` at β = 1.

    Both are kept, not copied: a path follows an RBM that learns. `coupled` tells whether the base has a weight other
    than 0. Raises InputError for two RBMs of different unit types or sizes.
    """

    def __init__(self, base: RBM, rbm: RBM) -> None:
        if _layers(base) != _layers(rbm):
            raise InputError(
                f"a path cannot lead from {_layers(base)} to {_layers(rbm)}: make its base with annealing.independent"
            )
        self.base = base
        self.rbm = rbm
        self.coupled = bool(base.weight.any())

    @torch.no_grad()
    def at(self, beta: float | Tensor) -> Annealed:
        """The model at β: a number, or (B, 1), a position for every row of the states. Nothing in it is learned."""
        beta = self._position(beta)
        visible = _between(self.base.visible, self.rbm.visible, beta)
        return Annealed(self, visible, _between(self.base.hidden, self.rbm.hidden, beta), beta)

    def product(self, v: Tensor) -> Tensor:
        """What every β needs of v: W v, (B, H), and W_base v beside it where the base is coupled, (B, 2H)."""
        of_rbm = self.rbm.hidden_field(v)
        return torch.cat([of_rbm, self.base.hidden_field(v)], 1) if self.coupled else of_rbm

    def field(self, product: Tensor, beta: float | Tensor) -> Tensor:
        """W(β) v, (B, H), from the product of v."""
        if not self.coupled:
            return beta * product
        of_rbm, of_base = product.chunk(2, 1)
        return torch.lerp(of_base, of_rbm, beta)

    @torch.no_grad()
    def log_ratio(self, v: Tensor, product: Tensor, start: Position, end: Position) -> Tensor:
        """log f_end(v) − log f_start(v), (B,), in nats. product: of v; start, end: positions, or what `at` gave there.

        The visible part, (end − start)·(θ_rbm − θ_base)·T(v), is no difference of two large energies.
        """
        (old, before), (new, after) = self._hidden_at(start), self._hidden_at(end)
        base, rbm = self.base.visible.natural(), self.rbm.visible.natural()
        slope = self.rbm.visible.dot({name: rbm[name] - base[name] for name in rbm}, v)
        step = new - old
        hidden = after.log_partition(self.field(product, new)) - before.log_partition(self.field(product, old))
        return slope * (step.squeeze(-1) if isinstance(step, Tensor) else step) + hidden

    def _hidden_at(self, place: Position) -> tuple[float | Tensor, Units]:
        if isinstance(place, Annealed):
            return place.beta, place.hidden
        beta = self._position(place)
        return beta, _between(self.base.hidden, self.rbm.hidden, beta)

    @torch.no_grad()
    def base_log_partition(self) -> float:
        """log Z of the base in closed form, in nats, in double precision. InputError for a coupled base."""
        if self.coupled:
            raise InputError("log Z of a base needs weight 0: make the base with annealing.independent")
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
