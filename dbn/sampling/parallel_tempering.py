"""Parallel tempering: persistent chains at several temperatures that exchange states."""

from collections.abc import Sequence
from itertools import pairwise
from typing import final

import torch
from torch import Tensor

from dbn.errors import InputError
from dbn.models.annealing import Path
from dbn.models.rbm import RBM
from dbn.sampling.chains import NegativeSamples, at_field_zero, autocorrelation, check_chains, check_steps


@final
class TemperedChains:
    """PT: persistent chains at every position 0 = β_0 < … < β_T−1 = 1 of a path, which change places with neighbours.

    The path leads to the RBM from a base with W = 0, hidden biases 0 and the other θ of the RBM at the first call: in
    training, the visible units as the data's marginals set them; the base stays while the RBM learns. A step is an
    attempt to swap and a Gibbs step. A swap of x_a and x_b between neighbours a, b is accepted with probability

        min(1, exp(F_a(x_a) + F_b(x_b) − F_a(x_b) − F_b(x_a)))

    for even a in one step and odd a in the next. Negative samples are the states at β = 1; all chains start as draws of
    the base.

    temperatures: their number T, evenly spaced, or the list of β. `chains` is the number at each. Raises InputError
    for no chain, no step, fewer than two temperatures, and a list that does not rise from 0 to 1.

    Desjardins et al. (2010), "Tempered Markov chain Monte Carlo for training of restricted Boltzmann machines"; Cho,
    Raiko & Ilin (2010), "Parallel tempering is efficient for learning restricted Boltzmann machines".
    """

    def __init__(self, steps: int, chains: int, temperatures: int | Sequence[float]) -> None:
        check_steps("parallel tempering", steps)
        check_chains("parallel tempering", chains)
        self.steps = steps
        self.chains = chains
        self.betas = _positions(temperatures)
        self._kept: dict[str, Tensor] = {}
        self._path: Path | None = None
        self._beta = torch.empty(0)
        """The position of each row, (T·chains, 1)."""

    @torch.no_grad()
    def negatives(self, rbm: RBM, data: Tensor, hidden_field: Tensor, generator: torch.Generator) -> NegativeSamples:
        """The chains at β = 1 after k steps at all temperatures, (chains, V); data and their field are not used."""
        path = self._path_to(rbm, generator)
        v, beta = self._kept["v"].to(rbm.weight), self._beta
        annealed = path.at(beta)
        for _ in range(self.steps):
            product = rbm.hidden_field(v)
            # Once swapped, all that a state says to its next hidden state is in its product.
            product = product[self._swaps(path, beta, v, product, generator)]
            v = annealed.sample_visible(annealed.hidden.sample(beta * product, generator), generator)
        self._kept["v"] = v
        return NegativeSamples(v[-self.chains :])

    def _swaps(self, path: Path, beta: Tensor, v: Tensor, product: Tensor, generator: torch.Generator) -> Tensor:
        """The row whose state each row takes over, (T·N,); without a transfer to the host, as are the counts."""
        t = torch.arange(len(self.betas), device=v.device)
        neighbour = t + 1 - 2 * ((t + self._kept["rounds"].to(t)) % 2)
        neighbour = torch.where((neighbour < 0) | (neighbour == len(t)), t, neighbour)
        rows = torch.arange(len(v), device=v.device).view(len(t), -1)

        there = beta[rows[neighbour].flatten()]
        gain = path.log_ratio(v, product, beta, there).view_as(rows)
        # Both of a pair must decide alike: by the same uniform number.
        uniform = torch.empty_like(gain).uniform_(generator=generator)[torch.minimum(t, neighbour)]
        accepted = uniform.log() < gain + gain[neighbour]

        first = (neighbour > t)[:-1]
        counts = torch.stack([first * accepted[:-1].sum(1), first * self.chains])
        self._kept["swaps"] = self._kept["swaps"].to(t) + counts
        self._kept["rounds"] = self._kept["rounds"] + 1
        return torch.where(accepted, rows[neighbour], rows).flatten()

    def _path_to(self, rbm: RBM, generator: torch.Generator) -> Path:
        place = rbm.weight.device, rbm.weight.dtype
        if self._path is None or self._path.rbm is not rbm or place != (self._beta.device, self._beta.dtype):
            base = rbm.uncoupled()
            if self._kept:
                base.load_state_dict({name: self._kept[f"base.{name}"] for name in _theta(base)}, strict=False)
            else:
                v = at_field_zero(base, len(self.betas) * self.chains, generator)
                self._kept = {f"base.{name}": value for name, value in _theta(base).items()} | {
                    "v": v,
                    "reference": v[-self.chains :],
                    "rounds": torch.zeros((), dtype=torch.int64, device=v.device),
                    "swaps": torch.zeros(2, len(self.betas) - 1, dtype=torch.int64, device=v.device),
                }
            self._path = Path(base, rbm)
            self._beta = rbm.weight.new_tensor(self.betas).repeat_interleave(self.chains)[:, None]
        return self._path

    def metrics(self) -> dict[str, float]:
        """`chain_autocorrelation` at β = 1 as of `PersistentChains`; `swap_rate` and `swap_rate_lowest`.

        A rate is the part of a pair's swaps since the last call that were accepted; the mean and the lowest over
        pairs of neighbours. States cannot travel from β = 0 to 1 over a pair whose rate is 0.
        """
        if not self._kept:
            return {}
        then, now = self._kept["reference"], self._kept["v"][-self.chains :]
        metrics = {"chain_autocorrelation": float(autocorrelation(now, then.to(now)))}
        rates = [accepted / tried for accepted, tried in self._kept["swaps"].T.tolist() if tried]
        if rates:
            metrics |= {"swap_rate": sum(rates) / len(rates), "swap_rate_lowest": min(rates)}
        self._kept |= {"reference": now, "swaps": torch.zeros_like(self._kept["swaps"])}
        return metrics

    def state(self) -> dict[str, Tensor]:
        """`v` (T·chains, V), β after β; `reference` (chains, V); the base; the counts.

        `rounds`: steps so far; `swaps` (2, T − 1): accepted and tried, a column a pair, since the last `metrics`.
        """
        return dict(self._kept)

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Go on from there."""
        self._kept = dict(state)
        self._path = None


def _theta(base: RBM) -> dict[str, Tensor]:
    return {name: value for name, value in base.state_dict().items() if name != "weight"}


def _positions(temperatures: int | Sequence[float]) -> tuple[float, ...]:
    if isinstance(temperatures, int):
        if temperatures < 2:
            raise InputError(f"parallel tempering needs at least two temperatures, not {temperatures}")
        return tuple(i / (temperatures - 1) for i in range(temperatures))
    betas = tuple(temperatures)
    if len(betas) < 2 or (betas[0], betas[-1]) != (0, 1) or any(not a < b for a, b in pairwise(betas)):
        raise InputError(f"parallel tempering needs temperatures that rise from 0 to 1, not {betas}")
    return betas
