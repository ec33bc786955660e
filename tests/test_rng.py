"""One seed and purpose, one stream; another of either, another stream."""

from itertools import combinations

import pytest
import torch
from enumeration import CHANCE, Z
from scipy import stats

from dbn.errors import InputError
from dbn.rng import _random_bits, bernoulli_, fixed_subset, permutation, stream, stream_seed

KEYS: list[tuple[int, tuple[str | int, ...]]] = [
    (0, ()),
    (1, ()),
    (2**32, ()),
    (1 + 2**32, ()),
    (0, ("order",)),
    (0, ("noise",)),
    (0, ("a", 12)),
    (0, ("a1", 2)),
    (0, ("a", 1, 2)),
    (0, ("a", "12")),
    (0, ("noise", 1, 2, 3)),
    (0, ("noise", 1, 3, 2)),
    (0, ("noise", 1, 2, 3 + 2**32)),
    (-1, ("noise", 1, 2, 3)),
]


def numbers(key: tuple[int, tuple[str | int, ...]]) -> torch.Tensor:
    seed, purpose = key
    return torch.rand(8, generator=stream(seed, *purpose))


def test_streams_of_different_seeds_or_purposes_differ() -> None:
    for one, other in combinations(KEYS, 2):
        assert not torch.equal(numbers(one), numbers(other)), f"{one} and {other} give the same numbers"
    low = {stream_seed(seed, *purpose) % 2**32 for seed, purpose in KEYS}
    assert len(low) == len(KEYS), "torch's CPU generator sees the low 32 bits alone"


@pytest.mark.parametrize("key", KEYS)
def test_a_stream_is_the_same_each_time(key: tuple[int, tuple[str | int, ...]]) -> None:
    assert torch.equal(numbers(key), numbers(key))


def test_a_seed_gives_these_numbers_in_every_process() -> None:
    """Contract: a run can be repeated later, so what a seed means does not change by accident."""
    assert stream_seed(0, "order", 1, 2) == 6492929615091620735
    assert all(0 <= stream_seed(seed, *purpose) < 2**63 for seed, purpose in KEYS)


def test_low_bits_of_neighbouring_seeds_are_spread_evenly() -> None:
    n = 4000
    seeds = torch.tensor([stream_seed(seed, "noise", 1, 1, step) for seed in range(4) for step in range(n // 4)])
    bits = (seeds[:, None] >> torch.arange(32)) & 1
    assert ((bits.double().mean(0) - 0.5).abs() / (0.25 / n) ** 0.5).max() < Z


def test_first_numbers_of_neighbouring_streams_are_uniform_and_unrelated() -> None:
    """Noise is re-seeded each step: its first numbers, over steps, must be as good as one long stream."""
    n, width = 2000, 50
    x = torch.stack([torch.rand(width, generator=stream(0, "noise", 1, 1, step)) for step in range(n)]).double()
    assert ((x.mean(0) - 0.5) / (1 / 12 / n) ** 0.5).abs().max() < Z
    assert (((x - 0.5) ** 2).mean(0) - 1 / 12).abs().max() < Z * (1 / 180 / n) ** 0.5
    centered = (x - 0.5) * 12**0.5
    assert ((centered[1:] * centered[:-1]).mean(0)).abs().max() < Z / (n - 1) ** 0.5


def test_a_permutation_holds_every_number_once_and_each_place_is_fair() -> None:
    n, draws = 10, 4000
    orders = torch.stack([permutation(n, stream(0, "order", draw)) for draw in range(draws)])
    assert torch.equal(orders.sort(1).values, torch.arange(n).expand(draws, n))
    share = torch.nn.functional.one_hot(orders, n).double().mean(0)
    assert (share - 1 / n).abs().max() < Z * (1 / n * (1 - 1 / n) / draws) ** 0.5


LEVELS = [0.0, 1e-4, 0.01, 0.1, 0.25, 0.5, 0.5, 0.75, 0.9, 0.99, 1 - 1e-4, 1.0, 0.3]
"""An odd number of probabilities, so that every level comes at every place among the random bits."""


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_each_element_is_one_as_often_as_it_says(dtype: torch.dtype) -> None:
    n = 20_001
    p = torch.tensor(LEVELS, dtype=dtype)
    drawn = bernoulli_(p.repeat(n, 4), stream(1, "bits"))
    assert drawn.dtype == dtype
    assert set(drawn.unique().tolist()) == {0.0, 1.0}
    levels = p.double()
    expected = levels.repeat(4)
    deviation = (expected * (1 - expected) / n).sqrt()
    seen = drawn.double().mean(0)
    assert ((seen - expected).abs() <= Z * deviation).all()  # at 0 and 1 exactly
    by_place = drawn[:, :13].double().reshape(-1)[: n * 13 // 8 * 8].view(-1, 8)
    chosen = levels.repeat(n)[: n * 13 // 8 * 8].view(-1, 8)
    total = (by_place - chosen).sum(0) / (chosen * (1 - chosen)).sum(0).sqrt()
    assert (total.abs() < Z).all(), "a place among the bits is biased"


def test_neighbouring_elements_are_unrelated() -> None:
    n = 100_000
    drawn = bernoulli_(torch.full((n, 6), 0.3), stream(2, "bits"))
    covariance = torch.cov(drawn.double().T)
    bound = Z * 0.3 * 0.7 / n**0.5
    assert (covariance - torch.diag(covariance.diagonal())).abs().max() < bound


@pytest.mark.parametrize("p", [0.0, 1e-9, 1e-7, 1e-5, 1 / 3, 0.5, 0.5 + 2**-18, 0.9, 1 - 2**-24, 1.0])
def test_over_all_random_bits_the_share_of_ones_is_the_probability(p: float, monkeypatch: pytest.MonkeyPatch) -> None:
    every = torch.arange(-(2**15), 2**15).to(torch.int16)
    ones = 0.0
    for bound in 2**24 - torch.arange(2**9):
        monkeypatch.setattr("dbn.rng._random_bits", lambda *_, bound=bound: (every, bound))
        ones += float(bernoulli_(torch.full((2**16,), p)).double().sum())
    share, single = ones / 2**25, float(torch.tensor(p))
    assert abs(share - single) <= (0 if single in (0, 1) else 2**-25)


def rare_counts(p: float, n: int, calls: int, dtype: torch.dtype) -> torch.Tensor:
    generator = stream(6, "bits")
    drawn = [bernoulli_(torch.full((n,), p, dtype=dtype), generator).double().sum() for _ in range(calls)]
    return torch.stack(drawn)


def test_rare_events_come_in_bursts_as_documented_and_alone_in_float64() -> None:
    p, n, calls = 2.0**-18, 2**17, 500
    expected = 1 + n * (2**-16 - p)
    # In float32 a quarter of the calls have ones, of Poisson's distribution with mean 2; in float64 all, with mean ½.
    for dtype, ratio in ((torch.float32, expected), (torch.float64, 1.0)):
        counts = rare_counts(p, n, calls, dtype)
        assert counts.mean() == pytest.approx(n * p, abs=Z * (n * p * ratio / calls) ** 0.5)
        assert counts.var() / counts.mean() == pytest.approx(ratio, rel=0.25)
    never = torch.full((2**16,), 1.4e-8)
    assert not any(bernoulli_(never.clone(), stream(call, "bits")).any() for call in range(1000))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_nan_is_refused_where_that_costs_nothing(dtype: torch.dtype) -> None:
    with pytest.raises(InputError, match="a probability to draw with is NaN"):
        bernoulli_(torch.tensor([0.5, torch.nan], dtype=dtype))
    assert bernoulli_(torch.tensor([torch.nan, 1.0])).tolist() == [0.0, 1.0]


def test_random_bits_take_every_value_alike() -> None:
    """Chi-square of both bytes at each of the four places in a word, and of the bound over calls."""
    n, calls = 2_000_003, 20_000
    bits, _ = _random_bits(n, stream(3, "bits"))
    places = bits[: n // 4 * 4].view(torch.uint8).view(-1, 8).long()
    counts = torch.stack([torch.bincount(place, minlength=256) for place in places.T])
    generator = stream(4, "bits")
    bounds = torch.stack([_random_bits(8, generator)[1] for _ in range(calls)])
    of_bounds = torch.bincount(2**24 - bounds)
    assert len(of_bounds) == 2**9
    for count in (*counts, of_bounds):
        expected = count.sum() / len(count)
        square = float(((count - expected) ** 2 / expected).sum())
        assert CHANCE < stats.chi2.sf(square, len(count) - 1) < 1 - CHANCE


def test_calls_of_one_generator_are_unrelated() -> None:
    calls, width, p = 20_000, 11, 0.3
    generator = stream(5, "bits")
    drawn = torch.stack([bernoulli_(torch.full((width,), p), generator) for _ in range(calls)]).double()
    standard = (drawn - p) / (p * (1 - p)) ** 0.5
    assert standard.mean(0).abs().max() < Z / calls**0.5
    for lag in (1, 2):  # every place with every place of the next call, and of the one after
        correlation = standard[lag:].T @ standard[:-lag] / (calls - lag)
        assert correlation.abs().max() < Z / (calls - lag) ** 0.5


@pytest.mark.parametrize("shape", [(0,), (1,), (5,), (3, 0), (2, 3, 5)])
def test_bits_fill_any_shape_in_place(shape: tuple[int, ...]) -> None:
    sure = torch.ones(shape)
    assert bernoulli_(sure, stream(0, "bits")) is sure
    assert torch.equal(sure, torch.ones(shape))


def test_bits_without_a_generator_follow_that_of_torch() -> None:
    p = torch.full((7, 3), 0.5)
    with torch.random.fork_rng():
        torch.manual_seed(4)
        one, next_one = bernoulli_(p.clone()), bernoulli_(p.clone())
        torch.manual_seed(4)
        same = bernoulli_(p.clone())
    assert torch.equal(one, same)
    assert not torch.equal(one, next_one)


def test_bits_follow_the_generator() -> None:
    p = torch.full((7, 3), 0.5)
    one, same, other = (bernoulli_(p.clone(), stream(seed, "bits")) for seed in (0, 0, 1))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


@pytest.mark.parametrize(("n", "most"), [(0, 5), (4, 5), (5, 5), (1000, 5), (1000, 400)])
def test_some_places_are_the_same_at_every_call(n: int, most: int) -> None:
    first, again = fixed_subset(n, most), fixed_subset(n, most)
    assert torch.equal(first, again)
    assert len(first) == len(first.unique()) == min(n, most)
    assert torch.equal(fixed_subset(n, n)[:most], first)
    assert n < 1000 or not torch.equal(first.sort().values, torch.arange(most)), "the first are not at random"
