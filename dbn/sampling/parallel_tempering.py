"""Parallel tempering: persistent chains at several temperatures that exchange states."""

from collections.abc import Sequence
from itertools import pairwise
from typing import final

import torch
from torch import Tensor

from dbn.arrays import without_gradients
from dbn.errors import InputError
from dbn.models.annealing import Annealed, Path
from dbn.models.rbm import RBM
from dbn.sampling.chains import Chains, NegativeSamples, at_field_zero


@final
class TemperedChains(Chains):
    """PT: persistent chains at every position 0 = β_0 < … < β_T−1 = 1 of a path, which swap states with neighbors.

    The base of the path has W = 0, hidden biases 0 and the other θ of the RBM at the first call; it stays while the
    RBM learns. All chains start as samples of it. A step is an attempt to swap and a Gibbs step. States x_a and x_b of
    neighbors a, b are swapped with probability

        min(1, exp(F_a(x_a) + F_b(x_b) − F_a(x_b) − F_b(x_a)))

    for even a in one step and odd a in the next. Negative samples are the states at β = 1.

    temperatures: their number T, evenly spaced, or the list of β; `chains` is the number of chains at each. InputError
    for no chain, no step, fewer than two temperatures, and a list that does not increase from 0 to 1.

    The state holds `v` (T·chains, V), ordered by β, `base.…`, the θ of the base, `rounds`, the steps so far, and
    `swaps` (2, T − 1), those accepted and tried by each pair since the last `metrics`.

    Desjardins et al. (2010), "Tempered Markov chain Monte Carlo for training of restricted Boltzmann machines"; Cho,
    Raiko & Ilin (2010), "Parallel tempering is efficient for learning restricted Boltzmann machines".

    >>> from dbn.models import RBM, Bernoulli
    >>> rbm, v, generator = RBM(Bernoulli(4), Bernoulli(3)), torch.ones(2, 4), torch.Generator()
    >>> chains = TemperedChains(steps=1, chains=100, temperatures=10)
    >>> chains.negatives(rbm, v, rbm.hidden_field(v), generator).states.shape
    torch.Size([100, 4])
    """

    method = "parallel tempering"
    capturable = True

    def __init__(self, steps: int = 1, chains: int = 100, temperatures: int | Sequence[float] = 10) -> None:
        super().__init__(steps, chains)
        self.betas = _positions(temperatures)
        self._path: Path | None = None
        self._beta = torch.empty(0)
        """The position of each row, (T·chains, 1)."""

    @without_gradients
    def negatives(self, rbm: RBM, data: Tensor, hidden_field: Tensor, generator: torch.Generator) -> NegativeSamples:
        """The chains at β = 1 after k steps at all temperatures, (chains, V); data and their field are not used."""
        path = self._path_to(rbm, generator)
        v, annealed = self._kept["v"].to(rbm.weight), path.at(self._beta)
        for _ in range(self.steps):
            product = rbm.hidden_field(v)
            # The next hidden state depends on v through its product alone, so only that is swapped.
            product = product[self._swaps(annealed, v, product, generator)]
            v = annealed.sample_visible(annealed.hidden.sample(self._beta * product, generator), generator)
        self._kept["v"] = v
        return NegativeSamples(v[-self.chains :])

    def _swaps(self, annealed: Annealed, v: Tensor, product: Tensor, generator: torch.Generator) -> Tensor:
        """The row whose state each row takes over, (T·N,), without a transfer to the host."""
        t = torch.arange(len(self.betas), device=v.device)
        neighbor = t + 1 - 2 * ((t + self._kept["rounds"].to(t)) % 2)
        neighbor = torch.where((neighbor < 0) | (neighbor == len(t)), t, neighbor)
        rows = torch.arange(len(v), device=v.device).view(len(t), -1)

        there = annealed.path.at(self._beta[rows[neighbor].flatten()])
        gain = annealed.path.log_ratio(v, product, annealed, there).view_as(rows)
        # Both of a pair must decide alike: by the same uniform number.
        uniform = torch.empty_like(gain).uniform_(generator=generator)[torch.minimum(t, neighbor)]
        accepted = uniform.log() < gain + gain[neighbor]

        first = (neighbor > t)[:-1]
        counts = torch.stack([first * accepted[:-1].sum(1), first * self.chains])
        self._kept["swaps"] = self._kept["swaps"].to(t) + counts
        self._kept["rounds"] = self._kept["rounds"] + 1
        return torch.where(accepted, rows[neighbor], rows).flatten()

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
        """`chain_autocorrelation` at β = 1; `swap_rate` and `swap_rate_lowest`, mean and minimum over neighboring pairs
        of the fraction of swaps accepted since the last call. Across a pair of rate 0 no state moves."""
        metrics = super().metrics()
        if self._kept:
            rates = [accepted / tried for accepted, tried in self._kept["swaps"].T.tolist() if tried]
            if rates:
                metrics |= {"swap_rate": sum(rates) / len(rates), "swap_rate_lowest": min(rates)}
            self._kept["swaps"] = torch.zeros_like(self._kept["swaps"])
        return metrics

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Restore a `state`."""
        super().load_state(state)
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
        raise InputError(f"parallel tempering needs temperatures that increase from 0 to 1, not {betas}")
    return betas
