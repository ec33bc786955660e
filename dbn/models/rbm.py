"""The restricted Boltzmann machine of any two unit types.

    E(v, h) = visible.energy(v) + hidden.energy(h) − h·W·v,    p(v, h) = exp(−E(v, h)) / Z

Smolensky (1986); Hinton (2002), "Training products of experts by minimizing contrastive divergence".
"""

import copy
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import final

import torch
from torch import Tensor, nn

from dbn.arrays import Array, as_tensor, as_values, floats, in_type
from dbn.errors import InputError, check_types
from dbn.models.matmul import product
from dbn.models.units.base import Units

LARGEST = 1e9
"""Of any parameter or mean: beyond it squares are near the end of float32."""


class Harmonium(ABC):
    """Two layers of units and the fields between them. Visible states are (B, V), hidden states (B, H).

    States may be of any numeric type, and arrays of any library: they are taken as values of the parameters' own type,
    which results have. They are not scaled: bytes of 0 … 255 are numbers up to 255.
    """

    visible: Units
    hidden: Units

    @abstractmethod
    def hidden_field(self, v: Array) -> Tensor:
        """The input of the hidden units, (B, H)."""

    @abstractmethod
    def visible_field(self, h: Array) -> Tensor:
        """The input of the visible units, (B, V)."""

    def up(self, v: Array) -> Tensor:
        """E[h | v]."""
        return self.hidden.mean(self.hidden_field(v))

    def down(self, h: Array) -> Tensor:
        """E[v | h]."""
        return self.visible.mean(self.visible_field(h))

    def sample_hidden(self, v: Array, generator: torch.Generator | None = None) -> Tensor:
        """h ~ p(h | v)."""
        return self.hidden.sample(self.hidden_field(v), generator)

    def sample_visible(self, h: Array, generator: torch.Generator | None = None) -> Tensor:
        """v ~ p(v | h)."""
        return self.visible.sample(self.visible_field(h), generator)

    def gibbs(self, v: Array, steps: int, generator: torch.Generator | None = None) -> Tensor:
        """The visible state after `steps` rounds of h ~ p(h | v), v ~ p(v | h)."""
        v = self.visible.values(v)
        for _ in range(steps):
            v = self.sample_visible(self.sample_hidden(v, generator), generator)
        return v

    def energy(self, v: Array, h: Array) -> Tensor:
        """E(v, h), (B,)."""
        return self.visible.energy(v) + self.hidden.energy(h) - (self.hidden_field(v) * self.hidden.values(h)).sum(-1)

    def free_energy(self, v: Array) -> Tensor:
        """F(v) = −log Σ_h exp(−E(v, h)) = visible.energy(v) − hidden.log_partition(W v), (B,), in nats."""
        return self.visible.energy(v) - self.hidden.log_partition(self.hidden_field(v))


@final
class RBM(Harmonium, nn.Module):
    """Two layers of units coupled by `weight` (H, V), as in `nn.Linear`. Parameters are 0 until `initialize`.

    >>> from dbn.models import Bernoulli, Gaussian
    >>> rbm = RBM(Bernoulli(784), Gaussian(20))
    >>> rbm.up(torch.zeros(5, 784)).shape, rbm.free_energy(torch.zeros(5, 784)).shape
    (torch.Size([5, 20]), torch.Size([5]))
    """

    @check_types
    def __init__(self, visible: Units, hidden: Units) -> None:
        super().__init__()
        self.visible = visible
        self.hidden = hidden
        self.weight = nn.Parameter(torch.zeros(hidden.size, visible.size, dtype=torch.float32))
        self._rounded: Tensor | None = None

    def forward(self, v: Array) -> Tensor:
        """`up`."""
        return self.up(v)

    def up(self, v: Array) -> Tensor:
        """E[h | v], (B, H). InputError for rows of another width."""
        v = as_tensor(v, "v")
        if v.shape[-1:] != (self.visible.size,):
            self.visible.check_rows(v)
        return super().up(v)

    def __repr__(self) -> str:
        return f"RBM({self.visible}, {self.hidden})"

    @torch.no_grad()
    def initialize(self, mean: Tensor, variance: Tensor, n: int, generator: torch.Generator) -> None:
        """Weights from N(0, 0.01²), visible units at the marginals of `n` examples, hidden biases 0.

        Hinton (2010), "A practical guide to training restricted Boltzmann machines", section 8.
        """
        self.weight.normal_(0.0, 0.01, generator=generator)
        self.visible.fit_marginals(mean, variance, n)

    @torch.no_grad()
    def fix_gauge(self) -> bool:
        """Give weights and biases of one-hot groups the sum 0, which leaves p(v, h) as it is; whether there are such.

        Σ_s x_s = 1 in a group: what the weights of its columns share moves into the bias of the other side, and what
        the biases share is a part of log Z alone.
        """
        fixed = False
        for units, other, weight in (
            (self.visible, self.hidden, self.weight),
            (self.hidden, self.visible, self.weight.T),
        ):
            if (found := units.centered(weight)) is not None and (bias := units.centered(units.bias)) is not None:
                weight.copy_(found[0])
                other.bias.add_(found[1])
                units.bias.copy_(bias[0])
                fixed = True
        return fixed

    @torch.no_grad()
    def uncoupled(self) -> "RBM":
        """The same units with W = 0 and hidden biases 0, a model in which all are independent; nothing is learned."""
        with self.weight.device:  # whatever the default device is
            alone = RBM(copy.deepcopy(self.visible), copy.deepcopy(self.hidden)).to(self.weight).requires_grad_(False)
        alone.hidden.bias.zero_()
        return alone

    def transposed(self) -> "RBM":
        """The RBM with its sides exchanged; units and weight are shared with this one."""
        transposed = RBM(self.hidden, self.visible)
        transposed.weight = nn.Parameter(self.weight.T, requires_grad=False)
        return transposed

    @torch.no_grad()
    def init_from_transpose(self, below: "RBM") -> None:
        """Initialize as the transpose of `below`; hidden units beyond its visible ones keep their parameters.

        Without such units the marginal of the visible side is that of `below`'s hidden side, so that a stack of both
        has the likelihood of `below`. Raises InputError if a side does not fit. Hinton, Osindero & Teh (2006), "A fast
        learning algorithm for deep belief nets", section 4.
        """
        kinds = (self.visible.spec, self.visible.size, self.hidden.spec)
        if kinds != (below.hidden.spec, below.hidden.size, below.visible.spec) or self.hidden.size < below.visible.size:
            raise InputError(
                f"{self.hidden.size} {self.hidden.spec} hidden units cannot start as the {below.visible.size} "
                f"{below.visible.spec} units two layers below: use as many of that kind, or more"
            )
        n = below.visible.size
        self.weight[:n] = below.weight.T
        for name, parameter in below.visible.named_parameters():
            self.hidden.get_parameter(name)[:n] = parameter
        self.visible.load_state_dict(below.hidden.state_dict())

    def hidden_field(self, v: Array) -> Tensor:
        """W v, (B, H)."""
        own, weight = self._weights()
        return in_type(product(as_values(v, weight.dtype, "v"), weight), own.dtype)

    def visible_field(self, h: Array) -> Tensor:
        """Wᵀ h, (B, V)."""
        own, weight = self._weights()
        return in_type(product(as_values(h, weight.dtype, "h"), weight.T), own.dtype)

    def _weights(self) -> tuple[Tensor, Tensor]:
        """W, and W as products take it."""
        weight = self.weight
        return weight, weight if self._rounded is None else self._rounded

    @property
    def product_dtype(self) -> torch.dtype:
        """The type that products are computed in."""
        return self._weights()[1].dtype

    def products_in(self, dtype: torch.dtype) -> AbstractContextManager[None]:
        """In this context fields are computed from W and states rounded to `dtype`; W must not change in it."""
        return nullcontext() if dtype == self.weight.dtype else self._rounded_to(dtype)

    @contextmanager
    def _rounded_to(self, dtype: torch.dtype) -> Iterator[None]:
        self._rounded = self.weight.detach().to(dtype)
        try:
            yield
        finally:
            self._rounded = None

    def has_partition(self) -> bool:
        """Whether Z is finite: always, unless both sides are unbounded and A = Λ_h^−½ W Λ_v^−½ has a norm of 1 or more.

        Of units without negative values this is enough but not needed: for two such sides the norm of the positive part
        of A may be below 1 instead, as hWv is at most that part's, and for one the norm of the positive part of AᵀA or
        AAᵀ. Of units that fall off otherwise above 0 than below Λ has the smaller precision, which is enough as well.
        Where none of these norms is below 1, Z is taken for infinite.
        """
        visible, hidden = self.visible.quadratic_precision(), self.hidden.quadratic_precision()
        if visible is None or hidden is None:
            return True
        # The singular values on the CPU, since not every torch has them on MPS, nor in 16 bits.
        coupling = floats((self.weight / hidden.sqrt()[:, None] / visible.sqrt()).cpu())
        norm = torch.linalg.matrix_norm(coupling, 2)
        if self.visible.nonnegative and self.hidden.nonnegative:
            norm = norm.minimum(torch.linalg.matrix_norm(coupling.clamp(min=0), 2))
        elif self.visible.nonnegative or self.hidden.nonnegative:
            products = coupling.T @ coupling if self.visible.nonnegative else coupling @ coupling.T
            norm = norm.minimum(torch.linalg.matrix_norm(products.clamp(min=0), 2).sqrt())
        return bool(norm < 1)

    def check_finite(self, name: str = "RBM") -> None:
        """InputError naming the parameters that are not finite."""
        broken = [key for key, parameter in self.named_parameters() if not parameter.isfinite().all()]
        if broken:
            raise InputError(f"the {name}'s {' and '.join(broken)} is not finite: use a model saved before it diverged")

    def check_partition(self, name: str = "RBM") -> None:
        """InputError unless every parameter and Z are finite."""
        self.check_finite(name)
        if not self.has_partition():
            visible, hidden = self.visible, self.hidden
            has = "has" if visible.even and hidden.even else "may have"
            raise InputError(
                f"the {name} {has} no finite Z, as its {visible.size} {visible.kind} visible and {hidden.size} "
                f"{hidden.kind} hidden units are coupled too strongly: make the weights smaller"
            )
