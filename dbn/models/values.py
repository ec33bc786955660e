"""Stored values as numbers: division, what they are likely divided by, weighted means and deviations."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from dbn.arrays import TOP, AnyRows, in_type

Where = Callable[[int, int], str]
"""What errors call a row and column of data."""

SLICE = 4096
"""Rows that are looked at together."""


def counted(row: int, column: int) -> str:
    """A place of which nothing else is known."""
    return f"row {row}, column {column} (counted from 0)"


def place_of(x: AnyRows, value: float) -> tuple[int, int]:
    """The first row and column of `x` (N, V) that hold the value."""
    for number, rows in enumerate(x.split(SLICE)):
        if len(found := (rows == value).nonzero()):
            return number * SLICE + int(found[0, 0]), int(found[0, 1])
    raise ValueError(f"no row holds {value}")


def as_float(x: Tensor, divisor: float) -> Tensor:
    """The values as float32, divided by `divisor`."""
    if divisor == 1.0 or x.dtype == torch.bool:
        return in_type(x, torch.float32)
    if x.dtype == torch.uint8:
        return x.to(torch.float32).div_(divisor)
    return x.to(torch.float32) / divisor


def kind_of(x: AnyRows) -> str:
    """What the values are stored as: "bytes" (uint8 and bool), or "floats" for all other numbers."""
    return "bytes" if x.dtype in (torch.uint8, torch.bool) else "floats"


def likely_divisor(greatest: float) -> float:
    """255 for values that bytes of 0 … 255 may be, else the greatest value itself."""
    return 255.0 if TOP < greatest <= 255 else greatest


def to_fractions(least: float, greatest: float, *, of_training: bool = True) -> str:
    """Advice: how values from `least` to `greatest`, `of_training` data or others, come into [0, 1]."""
    if not math.isfinite(least) or not math.isfinite(greatest):
        return "replace what is infinite"
    if least < 0:
        return "bring them there (−1 … 1 by (x + 1)/2)"
    if greatest <= 1:
        return "check the divisor"
    advice = f"divide them, with --divisor {likely_divisor(greatest):g}"
    return advice + ", or --divisor max for the greatest training value" * of_training


def weighted(x: Tensor, weights: Tensor | None) -> Tensor:
    """The rows (N, …) times their weights (N,), or as they are without such.

    >>> weighted(torch.ones(2, 2), torch.tensor([1.0, 3.0]))
    tensor([[1., 1.],
            [3., 3.]])
    """
    return x if weights is None else x * weights.to(x).view(-1, *[1] * (x.ndim - 1))


def mean_of(x: Tensor, weights: Tensor | None = None) -> Tensor:
    """Σ_n w_n x_n / Σ_n w_n of rows (N, …), the mean without weights (N,).

    >>> mean_of(torch.tensor([0.0, 4.0]), torch.tensor([1.0, 3.0]))
    tensor(3.)
    """
    return x.mean(0) if weights is None else weighted(x, weights).sum(0) / weights.to(x).sum()


def mean_and_error(x: Tensor, weights: Tensor | None = None) -> tuple[float, float | None]:
    """`mean_of` x (N,) and its standard error over rows, None for one: (n/(n−1) Σ w²(x − mean)²)^½ / Σ w.

    A row is one observation, whatever its weight.

    >>> mean_and_error(torch.tensor([1.0, 3.0]), torch.ones(2))
    (2.0, 1.0)
    """
    mean, n = float(mean_of(x, weights)), len(x)
    if n < 2:
        return mean, None
    if weights is None:
        return mean, float(x.std()) / math.sqrt(n)
    spread = weighted(x - mean, weights).square().sum() * (n / (n - 1))
    return mean, float(spread.sqrt() / weights.sum())


def standardization(x: AnyRows, divisor: float, weights: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Shift and scale (V,) float32: mean and standard deviation of the columns of `x` (N, V) after dividing.

    Sums run in float64, a slice of rows at a time. The scale of a constant column is 0. weights: (N,), of the rows.
    Values that are NaN count nothing.
    """
    if isinstance(x, Tensor) and x.is_floating_point() and x.isnan().any():
        return _observed_standardization(as_float(x, divisor).double(), weights)
    slices, n = x.split(SLICE), -(-len(x) // SLICE)
    own = [None] * n if weights is None else weights.split(SLICE)
    total = len(x) if weights is None else weights.double().sum()
    zero = torch.zeros((), dtype=torch.float32, device=x.device)
    pairs = ((as_float(rows, divisor), w) for rows, w in zip(slices, own, strict=True))
    shift = sum((weighted(rows.double(), w).sum(0) for rows, w in pairs), zero) / total
    pairs = ((as_float(rows, divisor), w) for rows, w in zip(slices, own, strict=True))
    squares = sum((weighted((rows - shift).square(), w).sum(0) for rows, w in pairs), zero)
    scale = (squares / total).sqrt().float()
    ends = [rows.aminmax(dim=0) for rows in slices]
    least, greatest = torch.stack([end.min for end in ends]).amin(0), torch.stack([end.max for end in ends]).amax(0)
    constant = (least == greatest) | (scale < torch.finfo(torch.float32).tiny)
    return shift.float(), scale.masked_fill(constant, 0.0)


def _observed_standardization(x: Tensor, weights: Tensor | None) -> tuple[Tensor, Tensor]:
    there = ~x.isnan()
    w = weighted(there.double(), weights)
    total = w.sum(0).clamp_min(torch.finfo(torch.float64).tiny)
    shift = (w * x.nan_to_num(0.0)).sum(0) / total
    scale = ((w * (x - shift).square().nan_to_num(0.0)).sum(0) / total).sqrt().float()
    least, greatest = x.nan_to_num(math.inf).amin(0), x.nan_to_num(-math.inf).amax(0)
    constant = (least >= greatest) | (scale < torch.finfo(torch.float32).tiny)
    return shift.float(), scale.masked_fill(constant, 0.0)
