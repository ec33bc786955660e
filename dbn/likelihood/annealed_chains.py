"""Chains that are moved along an annealing path, and the terms of their log-weights: see `dbn.likelihood.ais`.

Many steps can be one CUDA graph (`dbn.capture`): temperatures are read, and terms written, on the device.
"""

from collections.abc import Callable, Mapping
from typing import Any, final

import torch
from torch import Tensor

from dbn.capture import CapturedSteps
from dbn.models.annealing import Annealed, Path

SUMMED_STEPS = 500
"""Steps whose terms are summed at once in float64."""

Progress = Callable[[int], object]
"""Called with the number of steps done since the last call."""


class Keep:
    """What keeps the state of chains from step to step, to resume an interrupted run; this one keeps nothing."""

    def resumed(self, start: Mapping[str, Any], steps: int) -> Mapping[str, Any]:
        """The kept state after at most so many steps, with the generator as it was then, or else `start`."""
        return start

    def after_step(self, state: Callable[[], Mapping[str, Any]]) -> None:
        """Steps are done, and this function gives the state: numbers and tensors, of the structure of `start`."""


KEPT_NOWHERE = Keep()


@final
class AnnealedChains:
    """Chains on a path. What a step needs and changes is in tensors on the device: it can be captured, many at once."""

    capturable = True

    def __init__(self, path: Path, positions: list[float], v: Tensor, generator: torch.Generator) -> None:
        self.path, self.generator = path, generator
        table = torch.tensor(positions, dtype=torch.float64, device="cpu")
        self.betas, self.rises = table.to(v), table.diff().to(v)
        self.done = 0
        """Steps."""
        self.position = torch.zeros((), dtype=torch.int64, device=v.device)
        """The same, where graphs read it and move it on."""
        self.v = v
        """(N, V)."""
        self.terms = v.new_zeros(SUMMED_STEPS, len(v))
        """Of the steps since the last sum, and 0 for those to come."""
        exact = "cpu" if v.device.type == "mps" else v.device  # where there is no float64
        self.total = torch.zeros(len(v), dtype=torch.float64, device=exact)
        """The sum of the terms of other steps, (N,)."""
        self.steps = CapturedSteps.of(generator, [self], "annealing")
        self._last: Annealed | None = None
        """The model that the last step has left invariant, where it may serve the next."""

    def take(self, n: int) -> None:
        """The next n steps."""
        path, v, terms = self.path, self.v, []
        places, among_rises, among_terms = self._places(n)
        betas, rises = self.betas[places].unbind(), self.rises[among_rises].unbind()
        model = self._last or path.at(betas[0])
        for beta, rise in zip(betas[1:], rises, strict=True):
            before, model = model, path.at(beta)
            # One product serves the weight and the hidden units.
            product = path.product(v)
            terms.append(path.log_ratio(v, product, before, model, rise))
            v = model.sample_visible(model.hidden.sample(path.field(product, beta), self.generator), self.generator)
        self.v = v
        self.terms[among_terms] = torch.stack(terms)
        self._last = model if self.steps.recorder is None else None

    def _places(self, n: int) -> tuple[slice | Tensor, ...]:
        """Of the next n steps: of n + 1 models in `betas`, and of n steps in `rises` and in `terms`."""
        if self.steps.recorder is None:
            start, row = self.done, self.done % SUMMED_STEPS
            return slice(start, start + n + 1), slice(start, start + n), slice(row, row + n)
        places = self.position + torch.arange(n + 1, device=self.position.device)
        self.position += n
        return places, places[:-1], places[:-1] % SUMMED_STEPS

    def add_up(self, n: int) -> None:
        """Move the first n terms into the total."""
        self.total += self.terms[:n].to(self.total.device).double().sum(0)
        self.terms.zero_()


@torch.no_grad()
def moved_along(
    path: Path, positions: list[float], v: Tensor, generator: torch.Generator, progress: Progress | None, keep: Keep
) -> tuple[Tensor, Tensor]:
    """Σ log f_new(v) − log f_old(v) over the steps, (N,) in float64 on the CPU, and the final states."""
    chains, steps = AnnealedChains(path, positions, v, generator), len(positions) - 1
    every, told = max(1, steps // 200), 0

    def state() -> dict[str, Any]:
        return {"step": chains.done, "v": chains.v, "total": chains.total, "terms": chains.terms}

    def tell() -> None:
        nonlocal told
        before, told = told, steps if chains.done == steps else chains.done // every * every
        if progress is not None and told > before:
            progress(told - before)

    kept = keep.resumed(state(), steps)
    chains.done, chains.v, chains.total, chains.terms = (kept[name] for name in ("step", "v", "total", "terms"))
    chains.position.fill_(chains.done)
    tell()
    for done in chains.steps.loop(chains.take, chains.done, steps):
        chains.done = done
        if done % SUMMED_STEPS == 0 or done == steps:
            chains.add_up((done - 1) % SUMMED_STEPS + 1)
        tell()
        keep.after_step(state)
    chains.steps.forget()
    return chains.total.cpu(), chains.v
