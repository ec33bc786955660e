"""The matrix product of float32 on a CPU, by the faster of the two libraries that torch carries.

`torch.mm` takes MKL for it, which does not use the AVX-512 units of AMD's processors; oneDNN does, and is about twice
as fast there (see scripts/benchmark.py). Both compute in float32 throughout, and differ by rounding.
"""

from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor

LEAST = 2**22
"""Multiplications from which on oneDNN pays for its dearer call, some ten microseconds."""


def product(x: Tensor, weight: Tensor) -> Tensor:
    """x·weightᵀ, (B, H), for x (B, V) and weight (H, V), either of which may be a transposed view."""
    eligible = x.device.type == "cpu" and x.dtype == weight.dtype == torch.float32
    if not eligible or len(x) * weight.numel() < LEAST or _differentiated(x, weight):
        return x @ weight.T
    onednn = _onednn_linear()
    return x @ weight.T if onednn is None else onednn(x.contiguous(), weight)


def _differentiated(*tensors: Tensor) -> bool:
    """Whether autograd, which does not know oneDNN's operator, will ask for the gradient."""
    return torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)


@cache
def _onednn_linear() -> Callable[[Tensor, Tensor], Tensor] | None:
    """None where torch has no such operator, or the processor no AVX-512: MKL is as good there.

    It is one of those that torch.compile calls, and no promise: hence a trial of what it computes.
    """
    try:
        operator = torch.ops.mkldnn._linear_pointwise.default
        if torch.backends.cpu.get_cpu_capability() != "AVX512":
            return None

        def linear(x: Tensor, weight: Tensor) -> Tensor:
            result: Tensor = operator(x, weight, None, "none", [], None)
            return result

        x, weight = torch.arange(6.0).view(2, 3), torch.arange(12.0).view(3, 4).T
        return linear if torch.equal(linear(x, weight), x @ weight.T) else None
    except (AttributeError, RuntimeError):
        return None
