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
