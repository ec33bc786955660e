"""The matrix product of float32 on a CPU, by the faster of the two libraries that torch carries.

`torch.mm` takes MKL for it; on an AMD processor with AVX-512 oneDNN was measured to be about twice as fast (see
docs/speed.md). Both compute in float32 throughout, and differ by rounding.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any, final

import torch
from torch import Tensor
from torch.autograd.forward_ad import unpack_dual
from torch.autograd.function import once_differentiable
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

LEAST = 2**22
"""Multiplications from which on oneDNN pays for its dearer call, some ten microseconds."""


_is_transforming: Callable[[], bool] = getattr(torch._C, "_are_functorch_transforms_active", lambda: True)
"""Whether torch.func is at work; where torch does not tell, it may be."""


def product(x: Tensor, weight: Tensor) -> Tensor:
    """x·weightᵀ, (B, H), for x (B, V) and weight (H, V), either of which may be a transposed view."""
    eligible = x.device.type == "cpu" and x.dtype == weight.dtype == torch.float32
    if not eligible or len(x) * weight.numel() < LEAST or _is_followed(x, weight):
        return x @ weight.T
    onednn = _onednn_linear() if torch.backends.mkldnn.enabled else None
    return x @ weight.T if onednn is None else onednn(x.contiguous(), weight)


def _is_followed(*tensors: Tensor) -> bool:
    """Whether the product is differentiated, mapped or compiled by what does not know oneDNN's operator.

    Forward derivatives would be left out without a word.
    """
    return (
        torch.compiler.is_compiling()
        or (torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors))
        or _is_transforming()
        or any(unpack_dual(tensor).tangent is not None for tensor in tensors)
    )


@final
class LinearByProduct(TorchFunctionMode):
    """Within, linear layers with a bias, on inputs (B, V), and their gradients are computed by `product`."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Every function but one as it is."""
        return (_Linear.apply if func is F.linear else func)(*args, **(kwargs or {}))


class _Linear(torch.autograd.Function):
    """x·weightᵀ + bias, for x (B, V), weight (H, V) and bias (H,)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return product(x, weight).add_(bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        of_x, of_weight, of_bias = ctx.needs_input_grad
        return (
            product(slope, weight.T) if of_x else None,
            product(slope.T, x.T) if of_weight else None,
            slope.sum(0) if of_bias else None,
        )


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

        # Whatever the caller has made the default, as the answer is kept.
        x, weight = (torch.arange(n, dtype=torch.float32, device="cpu") for n in (6, 12))
        x, weight = x.view(2, 3), weight.view(3, 4).T
        return linear if torch.equal(linear(x, weight), x @ weight.T) else None
    except (AttributeError, RuntimeError, TypeError):
        return None
