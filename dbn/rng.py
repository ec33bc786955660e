"""Streams of random numbers, each seeded by its purpose.

No generator state is saved: the generator for the noise of step 17 of epoch 3 follows from the seed and those numbers
alone, so a resumed run draws what it would have drawn.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import blake2b

import torch

from dbn.compiled import drawn_before, is_tracing
from dbn.errors import InputError


def stream_seed(seed: int, *purpose: str | int) -> int:
    """A 63-bit seed that depends on every word of `purpose`.

    torch's CPU generator uses the low 32 bits of a seed alone; the hash spreads `purpose` over all of them.
    """
    words = [word if isinstance(word, str) else int(word) for word in (seed, *purpose)]
    digest = blake2b(repr(tuple(words)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def stream(seed: int, *purpose: str | int, device: torch.device | str = "cpu") -> torch.Generator:
    """A generator on `device` for one purpose.

    >>> float(torch.rand((), generator=stream(0, "noise", 1))) == float(torch.rand((), generator=stream(0, "noise", 1)))
    True
    """
    return torch.Generator(device).manual_seed(stream_seed(seed, *purpose))


def permutation(n: int, generator: torch.Generator) -> torch.Tensor:
    """A random order of 0 … n−1, (n,) int64, on the generator's device."""
    return torch.randperm(n, generator=generator, device=generator.device)


def fixed_subset(n: int, most: int) -> torch.Tensor:
    """At most `most` of the indices 0 … n−1, random but the same at every call and under every seed, int64."""
    return permutation(n, stream(0, "measured examples"))[:most]


def bernoulli_(probability: torch.Tensor, generator: torch.Generator | None = None) -> torch.Tensor:
    """`bernoulli`, written over the probability."""
    return bernoulli(probability, generator, probability)


def bernoulli(
    probability: torch.Tensor, generator: torch.Generator | None = None, out: torch.Tensor | None = None
) -> torch.Tensor:
    """1 with the given probability, else 0, independently for each element, in `out` if it is given.

    torch's uniform floats take 32 bits each of a generator that is sequential on a CPU. There each element has 16 bits
    b, and all elements of a call one fraction f: b + f is uniform from −2¹⁵ to 2¹⁵, so that

        b + f ≥ 2¹⁵ − 2¹⁶·p    has probability p to within 2⁻²⁵, the resolution of single precision near ½.

    f decides for an element once in 2¹⁶ times, so two elements of a call have the covariance r(1 − r)·2⁻³², where r is
    the fraction of 2¹⁶·p. Rare events therefore come in bursts: with p < 2⁻¹⁶, their number in a call of n elements has
    1 + n·(2⁻¹⁶ − p) times the variance of independent draws. With p < 2⁻²⁶, 1.5·10⁻⁸, they never come.

    Other types than float32 are drawn from uniform doubles there, to 2⁻⁵³ and independently, and NaN is an InputError.
    In float32 NaN gives 0: to look for it would cost a pass over every state of training.
    """
    if probability.device.type == "cpu" and probability.dtype != torch.float32:
        try:
            drawn = torch.bernoulli(probability.double(), generator=generator)
        except RuntimeError as error:
            if not probability.isnan().any():
                raise
            raise InputError("a probability to draw with is NaN: check the weights and the states given") from error
        return drawn.to(probability.dtype) if out is None else out.copy_(drawn)
    if probability.device.type != "cpu":
        single = torch.promote_types(probability.dtype, torch.float32)  # 16 bits are too coarse
        uniform = torch.empty_like(probability, dtype=single).uniform_(generator=generator)
        return torch.lt(uniform, probability, out=torch.empty_like(probability) if out is None else out)
    shape, n = probability.shape, probability.numel()
    if is_tracing():
        forms = probability.new_empty(n, dtype=torch.int16), probability.new_empty((), dtype=torch.int64)
        bits, bound = drawn_before(lambda: _random_bits(n, generator), *forms)
    else:
        bits, bound = _random_bits(n, generator)
    # No transfer to a Python number, as on other devices.
    threshold = torch.mul(probability, -(2.0**16), out=out).add_(bound, alpha=2.0**-9)
    return torch.ge(bits.view(shape), threshold, out=threshold)


def _random_bits(n: int, generator: torch.Generator | None) -> tuple[torch.Tensor, torch.Tensor]:
    """b, (n,) int16 on the CPU, uniform over all its values, and 2⁹·(2¹⁵ − f) for an f of 0, 2⁻⁹, … 1 − 2⁻⁹."""
    # Four at a time, with bounds, as `random_()` without them leaves the top bit 0.
    fours = torch.empty((n + 3) // 4, dtype=torch.int64, device="cpu").random_(-(2**63), None, generator=generator)
    bound = torch.randint(2**24 - 2**9 + 1, 2**24 + 1, (), generator=generator, dtype=torch.int64, device="cpu")
    bits = fours.view(torch.int16)
    return bits if n % 4 == 0 else bits[:n], bound


@contextmanager
def global_numbers(generator: torch.Generator) -> Iterator[None]:
    """The CPU's global random numbers follow from the generator here, and their state is restored afterwards."""
    with torch.random.fork_rng(devices=[]):
        # Not torch.manual_seed, which seeds every device, as only the CPU's state is restored.
        torch.default_generator.manual_seed(int(torch.randint(2**32, (), generator=generator, device=generator.device)))
        yield
