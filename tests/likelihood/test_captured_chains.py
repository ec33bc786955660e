"""Replayed chains, annealed and of Gibbs steps, are the chains, and a graph would hold no number of the host."""

from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from recording import CpuRecorder, Recording
from torch import Tensor
from torch.utils._pytree import tree_leaves

from dbn import capture
from dbn.likelihood import annealed_chains
from dbn.likelihood.ais import anneal, anneal_back, path_from_data, temperature_schedule
from dbn.likelihood.annealed_chains import AnnealedChains, Keep
from dbn.likelihood.estimates import Annealing
from dbn.likelihood.layer_ratio import layer_ratio
from dbn.models import RBM, UNITS, Bernoulli
from dbn.models.annealing import Path
from dbn.models.dbn import DBN
from dbn.sampling import PersistentChains, TemperedChains, sample

KINDS: dict[str, tuple[dict[str, Any], Callable[[Tensor], Tensor]]] = {
    "bernoulli": ({}, lambda x: x),
    "gaussian": ({}, lambda x: x.cumsum(1) - 3),
    "spin": ({}, lambda x: 2 * x - 1),
    "binomial": ({"trials": 3}, lambda x: x),
    "categorical": ({"states": 2}, lambda x: torch.stack([x[:, ::2], 1 - x[:, ::2]], 2).flatten(1)),
    "relu": ({}, lambda x: x + 0.5),
}
AT_ONCE = 4
needs_cuda = [pytest.mark.cuda, pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA here")]


def rng(seed: int = 0, device: str = "cpu") -> torch.Generator:
    return torch.Generator(device).manual_seed(seed)


def made(visible: str = "bernoulli", hidden: str = "bernoulli", device: str = "cpu") -> tuple[Path, Tensor]:
    """A path to an RBM of twelve and six units, and states to start from."""
    rbm = RBM(*(UNITS[kind](n, **KINDS[kind][0]) for kind, n in ((visible, 12), (hidden, 6))))
    torch.nn.init.normal_(rbm.weight, 0.0, 0.05, generator=rng(1))
    x = KINDS[visible][1](torch.rand(30, 12, generator=rng(2)).round()).to(device)
    return path_from_data(rbm.requires_grad_(False).to(device), x), x[:7]


class Recorders(list[CpuRecorder]):
    """All that were made."""

    def __call__(self, generator: torch.Generator) -> CpuRecorder:
        self.append(CpuRecorder(generator))
        return self[-1]


@pytest.fixture
def recorders(monkeypatch: pytest.MonkeyPatch) -> Recorders:
    monkeypatch.setattr(capture, "AT_ONCE", AT_ONCE)
    return Recorders()


def swap_in(recorders: Recorders, patch: pytest.MonkeyPatch) -> None:
    """The CPU is treated as CUDA is."""
    patch.setattr("dbn.capture.graph_recorder", recorders)


def forth_and_back(path: Path, x: Tensor, betas: Tensor, told: list[int]) -> list[Annealing]:
    generator = rng(3, x.device.type)
    there = anneal(path, betas, 9, generator, told.append)
    return [there, anneal_back(path, betas, x, generator, told.append)]


def assert_equal(one: Any, other: Any) -> None:
    torch.testing.assert_close(one, other, rtol=0, atol=0)


# Annealing

PAIRS = [*zip(KINDS, ["bernoulli", *reversed(KINDS)], strict=False)]


@pytest.mark.parametrize(("visible", "hidden"), PAIRS)
def test_replayed_annealing_is_annealing(
    visible: str, hidden: str, recorders: Recorders, monkeypatch: pytest.MonkeyPatch
) -> None:
    betas = temperature_schedule(4 * AT_ONCE + 4)
    told: list[int] = []
    plain = forth_and_back(*made(visible, hidden), betas, told)
    swap_in(recorders, monkeypatch)
    assert_equal(forth_and_back(*made(visible, hidden), betas, captured := []), plain)
    # Two blocks as they are, two replayed, and the three last steps alone.
    assert [(each.rehearsed, each.captured, each.replayed) for each in recorders] == [(3, 1, 2)] * 2
    assert sum(captured) == sum(told)


def test_terms_are_summed_as_often_as_they_fill_their_rows(
    recorders: Recorders, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A graph has moved its own position on, across the rows that terms are kept in."""
    monkeypatch.setattr(annealed_chains, "SUMMED_STEPS", 2 * AT_ONCE)
    plain = forth_and_back(*made(), temperature_schedule(51), told := [])
    swap_in(recorders, monkeypatch)
    assert_equal(forth_and_back(*made(), temperature_schedule(51), captured := []), plain)
    assert [each.replayed for each in recorders] == [10] * 2
    assert (told, captured) == ([1] * 100, [4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 2] * 2)


def test_a_coupled_base(recorders: Recorders, monkeypatch: pytest.MonkeyPatch) -> None:
    lower, upper = RBM(Bernoulli(8), Bernoulli(6)), RBM(Bernoulli(6), Bernoulli(8))
    for number, rbm in enumerate((lower, upper)):
        torch.nn.init.normal_(rbm.requires_grad_(False).weight, 0.0, 0.3, generator=rng(number))
    start, betas = torch.rand(9, 6, generator=rng(2)).round(), torch.linspace(0, 1, 21)
    plain = layer_ratio(lower, upper, betas, (start, start), rng(3))
    swap_in(recorders, monkeypatch)
    assert layer_ratio(lower, upper, betas, (start, start), rng(3)) == plain
    assert [each.replayed for each in recorders] == [3, 3]


def numbers_of(recording: Recording) -> list[Any]:
    """Operations, and the numbers of the host that they are given."""
    return [
        (str(func), [each for each in tree_leaves((args, kwargs)) if isinstance(each, bool | int | float)])
        for func, args, kwargs, _ in recording.calls
    ]


@pytest.mark.parametrize("visible", KINDS)
def test_no_number_of_the_host_differs_between_temperatures(
    visible: str, recorders: Recorders, monkeypatch: pytest.MonkeyPatch
) -> None:
    swap_in(recorders, monkeypatch)
    path, x = made(visible)
    chains = AnnealedChains(path, temperature_schedule(40).tolist(), x, rng())
    found = []
    for _ in range(3):
        with Recording() as seen:
            chains.take(AT_ONCE)
        assert seen.asked == []
        found.append(numbers_of(seen))
    assert len(found[0]) > 10 * AT_ONCE
    assert found[0] == found[1] == found[2]


class Interrupted(Exception):
    """What ends a run."""


class Stopping(Keep):
    """Keeps one state, and stops after a step of its own."""

    def __init__(self, generator: torch.Generator, at: int, kept: Mapping[str, Any] | None = None) -> None:
        self.generator, self.at, self.kept = generator, at, kept

    def resumed(self, start: Mapping[str, Any], steps: int) -> Mapping[str, Any]:
        if self.kept is None:
            return start
        self.generator.set_state(self.kept["generator"])
        return self.kept

    def after_step(self, state: Callable[[], Mapping[str, Any]]) -> None:
        if state()["step"] >= self.at:
            copied = {name: each.clone() if isinstance(each, Tensor) else each for name, each in state().items()}
            self.kept = copied | {"generator": self.generator.get_state()}
            raise Interrupted


@pytest.mark.parametrize("captured_first", [False, True])
@pytest.mark.parametrize("at", [7, 3 * AT_ONCE, 4 * AT_ONCE + 3])
def test_what_is_kept_between_replays_resumes_with_and_without_graphs(
    at: int, captured_first: bool, recorders: Recorders, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(annealed_chains, "SUMMED_STEPS", 2 * AT_ONCE)
    betas = temperature_schedule(27)
    whole = anneal(made()[0], betas, 9, rng())
    generator = rng()
    keep = Stopping(generator, at)
    for captured in (captured_first, not captured_first):
        with monkeypatch.context() as patch:
            if captured:
                swap_in(recorders, patch)
            if keep.kept is None:
                with pytest.raises(Interrupted):
                    anneal(made()[0], betas, 9, generator, None, keep)
                assert keep.kept["step"] == (-(-at // AT_ONCE) * AT_ONCE if captured else at)
            else:
                keep.at = 1000
                assert_equal(anneal(made()[0], betas, 9, generator, None, keep), whole)
    assert recorders[-1].rehearsed > 0


def test_a_capture_that_fails_leaves_the_chains_as_they_were(
    recorders: Recorders, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    plain = forth_and_back(*made(), temperature_schedule(30), [])
    capture = CpuRecorder.capture

    def fails(self: CpuRecorder, work: Callable[[], object]) -> Callable[[], object]:
        capture(self, work)
        raise RuntimeError("out of memory")

    monkeypatch.setattr(CpuRecorder, "capture", fails)
    swap_in(recorders, monkeypatch)
    assert_equal(forth_and_back(*made(), temperature_schedule(30), []), plain)
    assert [each.replayed for each in recorders] == [0, 0]
    assert {each.getMessage() for each in caplog.records} == {
        "annealing is not captured as a CUDA graph, and takes longer: out of memory"
    }


# Gibbs sampling


def stack() -> DBN:
    below, top = RBM(Bernoulli(12), Bernoulli(8)), RBM(Bernoulli(8), Bernoulli(5))
    for number, rbm in enumerate((below, top)):
        torch.nn.init.normal_(rbm.requires_grad_(False).weight, 0.0, 0.5, generator=rng(number))
    return DBN([below, top])


SAMPLED: dict[str, Callable[[], Any]] = {
    "from data": lambda: stack().sample(5, steps=21, start=torch.ones(5, 12), seed=1),
    "from biases": lambda: stack().sample(5, steps=21, seed=1),
    "tempered": lambda: vars(sample(stack(), 30, chains=TemperedChains(3, 4, 5))),
    "persistent": lambda: vars(sample(stack(), 30, chains=PersistentChains(3, 4))),
}


@pytest.mark.parametrize("name", SAMPLED)
def test_replayed_samples_are_the_samples(name: str, recorders: Recorders, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = SAMPLED[name]()
    swap_in(recorders, monkeypatch)
    assert_equal(SAMPLED[name](), plain)
    assert recorders[-1].captured == 1
    assert recorders[-1].replayed >= 2


# On a GPU


@pytest.mark.parametrize("visible", [pytest.param(kind, marks=needs_cuda) for kind in KINDS])
def test_cuda_graphs_replay_annealing(visible: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for switch in ("0", "1"):
        monkeypatch.setenv("DBN_CUDA_GRAPHS", switch)
        found.append(forth_and_back(*made(visible, device="cuda"), temperature_schedule(1300), []))
    assert_equal(found[1], found[0])
