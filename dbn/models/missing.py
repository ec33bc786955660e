"""Rows with holes: how an RBM takes visible units of which only some are observed.

A row x (V,) comes with `known` (V,), true where a unit is observed; x is 0 elsewhere, so that the unit adds nothing to
W x. Two ways: `fill` samples the missing units given the observed ones, and `Observed` is the RBM without them.
"""

from typing import final

import torch
from torch import Tensor

from dbn.arrays import Array
from dbn.models.rbm import RBM, Harmonium


@final
class Observed(Harmonium):
    """For each row the RBM of its observed units alone, which shares the weights and biases of `rbm`.

        p(v_known) = Σ_h exp(−E(v_known, h)) / Z_known

    with a normalization of its own for every set of observed units. The others have no state: they are 0 in results,
    and must be 0 in what is given. `known` is (B, V).

    Salakhutdinov, Mnih & Hinton (2007), "Restricted Boltzmann machines for collaborative filtering".

    >>> from dbn.models import Bernoulli
    >>> Observed(RBM(Bernoulli(2), Bernoulli(1)), torch.tensor([[True, False]])).down(torch.ones(1, 1)).detach()
    tensor([[0.5000, 0.0000]])
    """

    def __init__(self, rbm: RBM, known: Tensor) -> None:
        self.rbm, self.known = rbm, known
        self.visible, self.hidden = rbm.visible, rbm.hidden

    def hidden_field(self, v: Array) -> Tensor:
        """W v of the observed units."""
        return self.rbm.hidden_field(v)

    def visible_field(self, h: Array) -> Tensor:
        """Wᵀ h, (B, V), also of units that are not observed."""
        return self.rbm.visible_field(h)

    def down(self, h: Array) -> Tensor:
        """E[v | h], 0 for units that are not observed."""
        return super().down(h).masked_fill(~self.known, 0.0)

    def sample_visible(self, h: Array, generator: torch.Generator | None = None) -> Tensor:
        """v ~ p(v | h), 0 for units that are not observed."""
        return super().sample_visible(h, generator).masked_fill(~self.known, 0.0)


@torch.no_grad()
def fill(rbm: Harmonium, x: Tensor, known: Tensor, steps: int, generator: torch.Generator | None = None) -> Tensor:
    """Rows (B, V) whose missing units are filled in by `steps` Gibbs steps.

    h ~ p(h | v) and v_missing ~ p(v_missing | h) in turn, the observed units being held; the first h is drawn from the
    observed units alone. For many steps the rows are samples of p(v_missing | v_known).
    """
    for _ in range(steps):
        v = rbm.sample_visible(rbm.sample_hidden(x, generator), generator)
        x = torch.where(known, x, v)
    return x


@final
class Missing:
    """How rows with holes are learned from: "gibbs", by `fill` with so many `steps`, or "absent", by `Observed`.

    With "gibbs" the data side of the gradient is that of samples of p(v_missing | v_known), which makes it the gradient
    of log p(v_known), as far as the steps suffice.
    """

    def __init__(self, way: str, steps: int | None = None) -> None:
        self.way, self.steps = way, steps or 10

    def at(
        self, rbm: RBM, x: Tensor, known: Tensor, generator: torch.Generator | None = None
    ) -> tuple[Harmonium, Tensor]:
        """The model of rows x (B, V), and these as it takes them."""
        if self.way == "absent":
            return Observed(rbm, known), x
        return rbm, fill(rbm, x, known, self.steps, generator)

    def up(self, rbm: RBM, x: Tensor, known: Tensor, generator: torch.Generator, *, draws: bool = False) -> Tensor:
        """E[h | v] of rows (B, V), or `draws` of h."""
        of_rows, x = self.at(rbm, x, known, generator)
        return of_rows.sample_hidden(x, generator) if draws else of_rows.up(x)
