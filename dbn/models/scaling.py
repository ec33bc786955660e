"""Scaling of stored values for a model: bytes to [0, 1], and standardized columns."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from dbn.errors import InputError


def as_float(x: Tensor, divisor: float) -> Tensor:
    """Bytes as float32 divided by `divisor`; anything else as float32, unchanged."""
    if x.dtype == torch.uint8 and divisor != 1.0:
        return x.to(torch.float32).div_(divisor)
    return x.to(torch.float32)


def standardization(x: Tensor, divisor: float) -> tuple[Tensor, Tensor]:
    """Shift and scale (V,) float32: mean and standard deviation of the columns of `x` (N, V) after dividing.

    Sums run in float64, a slice of rows at a time. InputError for constant columns, naming the first of them.
    """
    slices = x.split(4096)
    zero = x.new_zeros((), dtype=torch.float32)
    shift = sum((as_float(rows, divisor).double().sum(0) for rows in slices), zero) / len(x)
    squares = sum(((as_float(rows, divisor) - shift).square().sum(0) for rows in slices), zero)
    scale = (squares / len(x)).sqrt().float()
    least, greatest = x.aminmax(dim=0)
    constant = ((least == greatest) | (scale < torch.finfo(torch.float32).tiny)).nonzero().flatten().tolist()
    if constant:
        columns = "column" if len(constant) == 1 else "columns"
        more = f" and {len(constant) - 5} more" if len(constant) > 5 else ""
        raise InputError(
            f"cannot standardize {columns} {', '.join(map(str, constant[:5]))}{more} (counted from 0), constant in "
            "the training data: remove what is constant, or use --visible bernoulli for values in [0, 1]"
        )
    return shift.float(), scale


class Scaling(nn.Module):
    """x ↦ (as_float(x) − shift)/spread, stored with a model. Without `shift` and `spread` (V,) only bytes are divided.

    >>> Scaling()(torch.tensor([[0, 255]], dtype=torch.uint8))
    tensor([[0., 1.]])
    """

    shift: Tensor | None
    spread: Tensor | None

    def __init__(self, divisor: float = 255.0, shift: Tensor | None = None, spread: Tensor | None = None) -> None:
        super().__init__()
        self.divisor = divisor
        self.register_buffer("shift", shift)
        self.register_buffer("spread", spread)

    def forward(self, x: Tensor) -> Tensor:
        """(…, V) of any type -> float32."""
        scaled = as_float(x, self.divisor)
        if self.shift is None or self.spread is None:
            return scaled
        return (scaled - self.shift) / self.spread

    def extra_repr(self) -> str:
        """The divisor of bytes, and the number of standardized columns."""
        return f"divisor={self.divisor:g}" + ("" if self.shift is None else f", standardized={len(self.shift)}")

    def description(self) -> dict[str, Any]:
        """The numbers, for a file's metadata."""
        return {
            "divisor": self.divisor,
            "shift": None if self.shift is None else self.shift.tolist(),
            "spread": None if self.spread is None else self.spread.tolist(),
        }

    @classmethod
    def from_description(cls, description: Mapping[str, Any]) -> "Scaling":
        """The inverse of `description`; other keys are ignored."""
        shift, spread = (
            None if values is None else torch.tensor(values, dtype=torch.float32, device="cpu")
            for values in (description["shift"], description["spread"])
        )
        return cls(float(description["divisor"]), shift, spread)

    def is_divided(self, x: Tensor) -> bool:
        """Whether `x` are bytes that become fractions."""
        return x.dtype == torch.uint8 and self.divisor != 1.0

    def log_abs_det_jacobian(self, x: Tensor) -> float:
        """log |∂x/∂v|, nats: subtracted from a log-density of scaled v, it gives that of the stored `x` (N, V).

        Σ_i log spread_i, and V·log(divisor) for bytes.
        """
        divided = x.shape[1] * math.log(self.divisor) if self.is_divided(x) else 0.0
        return divided + (0.0 if self.spread is None else float(self.spread.cpu().double().log().sum()))

    def inverse(self, x: Tensor) -> Tensor:
        """Undo the standardization, not the division, for images."""
        if self.shift is None or self.spread is None:
            return x
        return x * self.spread + self.shift
