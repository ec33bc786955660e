"""Persistent contrastive divergence: chains that never return to the data."""

from typing import final

import torch
from torch import Tensor

from dbn.models.rbm import RBM
from dbn.sampling.chains import NegativeSamples, at_field_zero, autocorrelation, check_chains, check_steps


@final
class PersistentChains:
    """PCD-k: `chains` chains that never go back to the data and take `steps` Gibbs steps a gradient.

    They start as draws of the visible units at field 0. Raises InputError for no chain or no step.

    Tieleman (2008), "Training restricted Boltzmann machines using approximations to the likelihood gradient".
    """

    def __init__(self, steps: int, chains: int) -> None:
        check_steps("persistent contrastive divergence", steps)
        check_chains("persistent contrastive divergence", chains)
        self.steps = steps
        self.chains = chains
        self._kept: dict[str, Tensor] = {}

    @torch.no_grad()
    def negatives(self, rbm: RBM, data: Tensor, hidden_field: Tensor, generator: torch.Generator) -> NegativeSamples:
        """The chains k steps on, (chains, V); data and their field are not used.

        Hidden units begin with the field that the last call gave, of the weights before the last update, and with the
        biases of now: the gradient has needed it meanwhile, and a step costs as many products as one of CD.
        """
        if not self._kept:
            v = at_field_zero(rbm, self.chains, generator)
            self._kept = {"v": v, "field": rbm.hidden_field(v), "reference": v}
        v, field = self._kept["v"].to(rbm.weight), self._kept["field"].to(rbm.weight)
        for _ in range(self.steps):
            v = rbm.sample_visible(rbm.hidden.sample(field, generator), generator)
            field = rbm.hidden_field(v)
        self._kept |= {"v": v, "field": field}
        return NegativeSamples(v, field)

    def metrics(self) -> dict[str, float]:
        """`chain_autocorrelation`: of the chains now and at the last call, at first their start."""
        if not self._kept:
            return {}
        then, now = self._kept["reference"], self._kept["v"]
        self._kept["reference"] = now
        return {"chain_autocorrelation": float(autocorrelation(now, then.to(now)))}

    def state(self) -> dict[str, Tensor]:
        """`v`, its `field`, and `reference`, the chains at the last call of `metrics`: (chains, V) or (chains, H)."""
        return dict(self._kept)

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Go on from there."""
        self._kept = dict(state)
