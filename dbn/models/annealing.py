"""Annealing paths: from a base RBM to another of the same units, linear in the natural parameters.

    θ(β) = (1 − β)·θ_base + β·θ_rbm,    W(β) = (1 − β)·W_base + β·W,    f_β(v) = exp(−F_β(v)),    0 ≤ β ≤ 1

A base of independent units has W_base = 0, so one product W v serves every β; a coupled base needs a second. Z is
finite on the path if it is at both ends: parameters of finite Z form a convex set (Hölder's inequality).

Neal (2001), "Annealed importance sampling"; Salakhutdinov & Murray (2008), "On the quantitative analysis of deep
belief networks".
"""

import copy
from functools import cached_property
from typing import final

import torch
from torch import Tensor

from dbn.arrays import Array
from dbn.errors import InputError
from dbn.models.rbm import RBM, Harmonium
from dbn.models.units.base import Units


@torch.no_grad()
def independent_base(rbm: RBM, mean: Tensor, variance: Tensor, n: int) -> RBM:
    """The base of a path to `rbm`: W = 0, visible θ at the marginals of `n` examples, hidden biases 0.

    mean, variance: (V,), smoothed by `Units.fit_marginals`. Other hidden θ, such as a precision, are those of `rbm`.
    """
    base = rbm.uncoupled()
    base.visible.fit_marginals(mean, variance, n)
    return base


@final
class Annealed(Harmonium):
    """The model at β, made by `Path.at`."""

    def __init__(self, path: "Path", beta: float | Tensor) -> None:
        self.path = path
        self.beta = beta

    @cached_property
    def visible(self) -> Units:  # type: ignore[override]
        """Units at β."""
        return _between(self.path.base.visible, self.path.rbm.visible, self.beta)

    @cached_property
    def hidden(self) -> Units:  # type: ignore[override]
        """Units at β."""
        return _between(self.path.base.hidden, self.path.rbm.hidden, self.beta)

    def hidden_field(self, v: Array) -> Tensor:
        """W(β) v, (B, H)."""
        return self.path.field(self.path.product(v), self.beta)

    def visible_field(self, h: Array) -> Tensor:
        """W(β)ᵀ h, (B, V)."""
        of_rbm = self.path.rbm.visible_field(h)
        if not self.path.coupled:
            return of_rbm.mul_(self.beta)
        return torch.lerp(self.path.base.visible_field(h), of_rbm, self.beta)


@final
class Path:
    """The line from `base` at β = 0 to `rbm` at β = 1, neither of them copied: a path follows an RBM that learns.

    `coupled`: whether the base has a weight other than 0. InputError for RBMs of different unit types or sizes,
    and of 16 bits, whose free energies are too coarse for the differences along a path.
    """

    def __init__(self, base: RBM, rbm: RBM) -> None:
        if _layers(base) != _layers(rbm):
            raise InputError(
                f"a path cannot lead from {_layers(base)} to {_layers(rbm)}: make its base with independent_base"
            )
        if rbm.weight.dtype.itemsize < 4:
            raise InputError(
                f"annealing needs parameters in float32 or float64, not {rbm.weight.dtype}: use rbm.float()"
            )
        self.base = base
        self.rbm = rbm
        self.coupled = bool(base.weight.any())

    def at(self, beta: float | Tensor) -> Annealed:
        """The model at β, a number, (), or (B, 1), one per row of the states. Its units have no gradients."""
        return Annealed(self, beta.to(self.rbm.weight) if isinstance(beta, Tensor) else beta)

    def product(self, v: Array) -> Tensor:
        """W v, (B, H), followed by W_base v where the base is coupled, (B, 2H): it serves every β."""
        of_rbm = self.rbm.hidden_field(v)
        return torch.cat([of_rbm, self.base.hidden_field(v)], 1) if self.coupled else of_rbm

    def field(self, product: Tensor, beta: float | Tensor) -> Tensor:
        """W(β) v, (B, H), from the product of v."""
        if not self.coupled:
            return beta * product
        of_rbm, of_base = product.chunk(2, 1)
        return torch.lerp(of_base, of_rbm, beta)

    @torch.no_grad()
    def log_ratio(
        self, v: Tensor, product: Tensor, start: Annealed, end: Annealed, rise: Tensor | None = None
    ) -> Tensor:
        """log f_end(v) − log f_start(v), (B,), in nats, with the `product` of v.

        The visible part, (end − start)·(θ_rbm − θ_base)·T(v), is not a difference of two large energies. rise: end −
        start, (), where both are rounded.
        """
        old, new = start.beta, end.beta
        base, rbm = self.base.visible.natural(), self.rbm.visible.natural()
        slope = self.rbm.visible.dot({name: rbm[name] - base[name] for name in rbm}, v)
        step = new - old if rise is None else rise
        hidden = end.hidden.log_partition(self.field(product, new))
        hidden = hidden - start.hidden.log_partition(self.field(product, old))
        return slope * (step.squeeze(-1) if isinstance(step, Tensor) else step) + hidden

    @torch.no_grad()
    def base_log_partition(self) -> float:
        """log Z of the base in closed form, in nats, in double precision. InputError for a coupled base."""
        if self.coupled:
            raise InputError("log Z of a base needs weight 0: make the base with independent_base")
        # On the CPU, since not every device has float64.
        layers = (copy.deepcopy(units).cpu().double() for units in (self.base.visible, self.base.hidden))
        return sum(float(units.log_partition(units.bias.new_zeros(1, units.size))) for units in layers)


def _layers(rbm: RBM) -> str:
    visible, hidden = rbm.visible, rbm.hidden
    return f"{visible.size} {visible.spec} and {hidden.size} {hidden.spec} units"


@torch.no_grad()
def _between(base: Units, rbm: Units, beta: float | Tensor) -> Units:
    start, end = base.natural(), rbm.natural()
    return rbm.with_natural({name: torch.lerp(start[name], end[name], beta) for name in start})
