"""float32 matrix products on a CPU by oneDNN, where it is faster than the MKL of `torch.mm`.

On an AMD processor with AVX-512 it is about twice as fast (docs/speed.md). Both compute in float32 and differ by
rounding.
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

from dbn.compiled import is_tracing

LEAST = 2**22
"""The fewest multiplications that pay for oneDNN's more expensive call, some ten microseconds."""


is_transforming: Callable[[], bool] = getattr(torch._C, "_are_functorch_transforms_active", lambda: True)
"""Whether a torch.func transform is active; assumed where torch does not say."""
is_exporting: Callable[[], bool] = getattr(torch.compiler, "is_exporting", torch.compiler.is_compiling)
"""Whether torch.export or torch.onnx.export traces, which know shapes and types but no values."""


def product(x: Tensor, weight: Tensor, out: Tensor | None = None) -> Tensor:
    """x·weightᵀ, (B, H), for x (B, V) and weight (H, V), either of which may be a transposed view.

    out: (B, H), where the result is written if it is given."""
    # A compiler is asked for first: it would take the number of rows for fixed.
    large = not torch.compiler.is_compiling() and x.size(0) * weight.numel() >= LEAST
    eligible = large and x.device.type == "cpu" and x.dtype == weight.dtype == torch.float32
    onednn = _onednn_linear() if eligible and torch.backends.mkldnn.enabled and not _is_followed(x, weight) else None
    if onednn is None:
        return x @ weight.T if out is None else torch.mm(x, weight.T, out=out)
    found = (_TRACED if is_tracing() else onednn)(x.contiguous(), weight)
    return found if out is None else out.copy_(found)


def find_fastest() -> None:
    """Find out which products pay for oneDNN: before a trace (`dbn.compiled`), where nothing has values."""
    _onednn_linear()


def _is_followed(*tensors: Tensor) -> bool:
    """Whether autograd, torch.func or forward derivatives follow the product: they do not know oneDNN's."""
    return (
        (torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors))
        or is_transforming()
        or any(unpack_dual(tensor).tangent is not None for tensor in tensors)
    )


@final
class LinearByProduct(TorchFunctionMode):
    """A context in which linear layers with a bias, on inputs (B, V), and their gradients use `product`."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Replace `F.linear` alone."""
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
    """None without the operator, or without AVX-512, where MKL is as fast. It is not public: its result is tested."""
    try:
        operator = torch.ops.mkldnn._linear_pointwise.default
        if torch.backends.cpu.get_cpu_capability() != "AVX512":
            return None

        def linear(x: Tensor, weight: Tensor) -> Tensor:
            result: Tensor = operator(x, weight, None, "none", [], None)
            return result

        # On the CPU in float32 whatever the caller's defaults, as the answer is cached.
        x, weight = (torch.arange(n, dtype=torch.float32, device="cpu") for n in (6, 12))
        x, weight = x.view(2, 3), weight.view(3, 4).T
        return linear if torch.equal(linear(x, weight), x @ weight.T) else None
    except (AttributeError, RuntimeError, TypeError):
        return None


def _known_linear(x: Tensor, weight: Tensor) -> Tensor:
    onednn = _onednn_linear()
    return x @ weight.T if onednn is None else onednn(x, weight)


_LIBRARY = torch.library.Library("dbn", "FRAGMENT")
_LIBRARY.define("onednn_linear(Tensor x, Tensor weight) -> Tensor")
_LIBRARY.impl("onednn_linear", _known_linear, "CPU")
torch.library.register_fake("dbn::onednn_linear", lambda x, weight: x.new_empty(len(x), len(weight)), lib=_LIBRARY)
_TRACED = torch.ops.dbn.onednn_linear.default
"""The product of oneDNN as an operation that a compiler does not look into: inductor fails on torch's own."""
