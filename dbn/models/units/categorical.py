"""Categories as one-hot groups of columns, the colors of a Potts model."""

from numbers import Integral
from typing import Any, final

import torch
from torch import Tensor

from dbn.arrays import Array, floats
from dbn.errors import InputError
from dbn.models.units.base import Units
from dbn.models.units.sites import Sites

FEW_STATES = 16
"""Of fewer a CPU's softmax takes one number at a time: many groups at once do in a sixth of that."""


@final
class Categorical(Units):
    """Groups of q = `states` columns, of which one is 1 and the others 0: p(x_s = 1 | field) = softmax_s(field + bias).

    size: columns, a multiple of q; InputError otherwise. Data are codes 0 … q−1, a column a group: `Scaling` encodes
    them.

    Welling, Rosen-Zvi & Hinton (2004); Salakhutdinov, Mnih & Hinton (2007), "Restricted Boltzmann machines for
    collaborative filtering".

    >>> units = Categorical(6, states=3)
    >>> units.mean(torch.zeros(1, 6)).detach()  # two groups
    tensor([[0.3333, 0.3333, 0.3333, 0.3333, 0.3333, 0.3333]])
    """

    kind = "categorical"
    linear_statistics = True

    def __init__(self, size: int, states: int) -> None:
        super().__init__(size)
        given: Any = states
        if not isinstance(given, Integral) or given < 2:
            raise InputError(f"states of categorical units must be a whole number of at least 2, not {states!r}")
        if size % states:
            raise InputError(f"{size} categorical units are no groups of {states}: give a multiple of {states}")
        self.states = int(states)

    @property
    def codes(self) -> int | None:
        return self.states

    def range_error(self, least: float, greatest: float) -> str:
        return "" if least >= 0 and greatest <= 1 else "categorical units need groups of columns with a single 1"

    def _groups(self, x: Tensor) -> Tensor:
        """(…, size) -> (…, groups, q)."""
        groups: Tensor = x.unflatten(-1, (x.shape[-1] // self.states, self.states))
        return groups

    def log_partition(self, field: Array) -> Tensor:
        """Σ_groups log Σ_s exp(field_s + bias_s)."""
        return self._groups(self.values(field) + self.bias).logsumexp(-1).sum(-1)

    def mean(self, field: Array) -> Tensor:
        """The softmax of field + bias in each group."""
        groups = self._groups(self.values(field) + self.bias)
        if self.states < FEW_STATES and groups.device.type == "cpu":
            return groups.transpose(-1, -2).contiguous().softmax(-2).transpose(-1, -2).flatten(-2)
        return groups.softmax(-1).flatten(-2)

    def sample(self, field: Array, generator: torch.Generator | None = None) -> Tensor:
        """x ~ p(x | field) by inversion: one uniform number a group, to 2⁻²⁴ in float32."""
        upper = self._groups(self.mean(field).detach()).cumsum(-1)
        total = upper[..., -1:]
        uniform = torch.empty_like(total).uniform_(generator=generator).mul_(total)
        steps = torch.gt(upper, uniform, out=upper)  # 0 … 0 1 … 1: the first 1 is at the state drawn
        x = steps.clone()
        x[..., 1:] -= steps[..., :-1]
        return x.flatten(-2)

    def divergence(self, x: Array, x_hat: Array) -> Tensor:
        """Σ_i x_i log(x_i/x̂_i), x̂ kept one rounding step away from 0."""
        x, x_hat = self.values(x), self.values(x_hat)
        return (torch.xlogy(x, x) - torch.xlogy(x, x_hat.clamp_min(torch.finfo(x_hat.dtype).eps))).sum(-1)

    @torch.no_grad()
    def fit_marginals(self, mean: Tensor, variance: Tensor, n: int) -> None:
        """bias = log p with Laplace's p = (Σx + 1)/(n + q), less its mean in the group."""
        self.bias.copy_(self.centered(torch.log(floats(mean) * n + 1))[0])

    def centered(self, x: Tensor) -> tuple[Tensor, Tensor]:
        groups = self._groups(x)
        mean = groups.mean(-1, keepdim=True)
        return (groups - mean).flatten(-2), mean.sum((-2, -1))

    def as_linear(self, weight: Tensor) -> tuple[Tensor, Tensor, str]:
        """The softmax of W x + bias in each group."""
        return weight, self.bias, f"softmax(states={self.states})"

    def support(self) -> Tensor | None:
        return self.bias.new_tensor((0.0, 1.0))

    def sites(self) -> tuple[Sites, ...] | None:
        one_hot = torch.eye(self.states, dtype=self.bias.dtype, device=self.bias.device)
        return (Sites(one_hot, self.size // self.states),)

    def quadratic_precision(self) -> Tensor | None:
        return None
