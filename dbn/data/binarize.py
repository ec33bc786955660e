"""Binarization of gray levels."""

from typing import Literal

import torch
from torch import Tensor

from dbn.errors import InputError

Binarize = Literal["none", "threshold", "sample", "fixed"]


def binarize(x: Tensor, how: Binarize, generator: torch.Generator | None = None) -> Tensor:
    """`x` (B, V) in [0, 1] made 0 or 1: above one half for "threshold", by a Bernoulli draw for "sample" and "fixed".

    Callers draw "sample" in each epoch and "fixed" once. "none" returns `x` itself.

    Raises:
        InputError: another `how`.
    """
    match how:
        case "none":
            return x
        case "threshold":
            return (x > 0.5).to(x.dtype)
        case "sample" | "fixed":
            return torch.bernoulli(x, generator=generator)
    raise InputError(f"--binarize {how} is not one of none, threshold, sample, fixed")
