"""Every stream of random numbers, made anew from what it is for.

No generator state is ever saved: the generator for the noise of step 17 of epoch 3 follows from the seed and
those numbers alone, so a run that goes on after an interruption draws what it would have drawn.
"""

from hashlib import blake2b

import torch


def stream_seed(seed: int, *purpose: str | int) -> int:
    """A 63-bit seed that depends on every word of `purpose`.

    torch's CPU generator uses the low 32 bits of a seed alone; the hash spreads `purpose` over all of them.
    """
    words = [word if isinstance(word, str) else int(word) for word in (seed, *purpose)]
    digest = blake2b(repr(tuple(words)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def stream(seed: int, *purpose: str | int, device: torch.device | str = "cpu") -> torch.Generator:
    """A generator on `device` for one purpose: `stream(seed, "noise", layer, epoch, step)`."""
    return torch.Generator(device).manual_seed(stream_seed(seed, *purpose))


def permutation(n: int, generator: torch.Generator) -> torch.Tensor:
    """A random order of 0 … n−1, (n,) int64, on the generator's device."""
    return torch.randperm(n, generator=generator, device=generator.device)


def always_the_same(n: int, most: int) -> torch.Tensor:
    """At most so many places of 0 … n−1, at random but alike at every call and under every seed, int64, on the CPU."""
    return permutation(n, stream(0, "measured examples"))[:most]


def bits_below(probability: torch.Tensor, generator: torch.Generator | None = None) -> torch.Tensor:
    """1 with the given probability, else 0, independently for each element; it overwrites `probability`.

    On a CPU 32 random bits are compared with the probability in place of torch's uniform floats, whose generator
    takes three times as long. The bits are drawn in pairs, over all 2⁶⁴ values: `random_()` without bounds leaves the
    top bit 0. Resolution: 2⁻²⁵ or better, that of single precision near ½.
    """
    if probability.device.type != "cpu":
        uniform = torch.empty_like(probability).uniform_(generator=generator)
        return torch.lt(uniform, probability, out=probability)
    n = probability.numel()
    pairs = torch.empty((n + 1) // 2, dtype=torch.int64).random_(-(2**63), None, generator=generator)
    bits = pairs.view(torch.int32)[:n].view(probability.shape)
    return torch.lt(bits, probability.sub_(0.5).mul_(2.0**32), out=probability)
