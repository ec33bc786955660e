"""Random numbers for data that are made: the same on every machine and in every version of numpy."""

import math

import numpy as np
from numpy.typing import NDArray

from dbn.rng import stream_seed


class Draws:
    """Random numbers for one purpose, made from PCG-64's raw bits: numpy promises these, but not its distributions."""

    def __init__(self, seed: int, *purpose: str | int) -> None:
        self.source = np.random.PCG64(stream_seed(seed, *purpose))

    def uniform(self, *shape: int) -> NDArray:
        """In [0, 1), multiples of 2⁻⁵³."""
        bits: NDArray = self.source.random_raw(math.prod(shape)) >> np.uint64(11)
        numbers: NDArray = bits.reshape(shape) * 2.0**-53
        return numbers

    def below(self, limits: NDArray) -> NDArray:
        """A whole number 0 … limit−1 for each of `limits`."""
        numbers: NDArray = (self.uniform(*limits.shape) * limits).astype(np.int64)
        return numbers

    def geometric(self, rate: float, n: int) -> NDArray:
        """(n,) whole numbers, P(k) = rate·(1 − rate)ᵏ for k = 0, 1, …"""
        numbers: NDArray = (np.log1p(-self.uniform(n)) / math.log1p(-rate)).astype(np.int64)
        return numbers

    def bytes(self, *shape: int) -> NDArray:
        """Uniform in 0 … 255."""
        n = math.prod(shape)
        bits: NDArray = self.source.random_raw(-(-n // 8)).astype("<u8").view(np.uint8)
        return bits[:n].reshape(shape)

    def order(self, n: int) -> NDArray:
        """0 … n−1 at random."""
        return np.argsort(self.source.random_raw(n), kind="stable")
