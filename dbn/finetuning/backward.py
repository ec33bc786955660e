"""Gradients of a multilayer perceptron without autograd, whose graph costs more than the products of a small network.

They are autograd's, bit for bit: the same operations in the same order. A test holds the two equal.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from dbn.finetuning.dropout import SeededDropout
from dbn.finetuning.stacked import StackedDropout, StackedLinear
from dbn.models import matmul

_aten = torch.ops.aten
_SELU_ALPHA, _SELU_SCALE = 1.6732632423543772848170429916717, 1.0507009873554804934193349852946

SLOPES: dict[type[nn.Module], Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    nn.Sigmoid: lambda slope, x, y: _aten.sigmoid_backward(slope, y),
    nn.Tanh: lambda slope, x, y: _aten.tanh_backward(slope, y),
    nn.ReLU: lambda slope, x, y: _aten.threshold_backward(slope, y, 0),
    nn.SELU: lambda slope, x, y: _aten.elu_backward(slope, _SELU_ALPHA, _SELU_SCALE, 1, False, x),
    nn.GELU: lambda slope, x, y: _aten.gelu_backward(slope, x),
    nn.SiLU: lambda slope, x, y: _aten.silu_backward(slope, x),
    SeededDropout: lambda slope, x, mask: slope * mask,
    StackedDropout: lambda slope, x, mask: slope * mask,
}
"""∂L/∂x of a module y = f(x), from ∂L/∂y, x and y, or the mask: what autograd calls. Without a line, autograd is."""

LINEAR = nn.Linear, StackedLinear


def is_known(network: nn.Sequential) -> bool:
    """Whether `set_gradients` takes the network: Linear, and modules of `SLOPES`."""
    return all(type(module) is nn.Linear or type(module) in SLOPES for module in network)


@torch.no_grad()
def set_gradients(network: nn.Sequential, x: Tensor, loss: Callable[[Tensor], Tensor]) -> Tensor:
    """Replace the gradient of every parameter by that of loss(network(x)), None for what is frozen; return the loss.

    x: (B, V), float32 on a CPU; or (F, B, V) for stacked layers. The network is in training mode, and its Linear layers
    have a bias. A layer that learns has only such layers after it. `loss` goes from outputs, (B, C), to a number, or
    from (F, B, C) to (F,), of which the sum counts, and is followed by autograd.
    """
    seen: list[tuple[nn.Module, Tensor, Tensor]] = []
    for module in network:
        if isinstance(module, nn.Linear):
            y = matmul.product(x, module.weight).add_(module.bias)
            seen.append((module, x, y))
        elif isinstance(module, SeededDropout | StackedDropout):
            mask = module.mask(x)
            seen.append((module, x, mask))
            y = x * mask
        else:
            y = module(x)
            seen.append((module, x, y))
        x = y
    with torch.enable_grad():
        value = loss(x.requires_grad_())
        (slope,) = torch.autograd.grad(value if value.ndim == 0 else value.sum(), x)
    learns = [isinstance(module, LINEAR) and module.weight.requires_grad for module in network]
    first = learns.index(True)
    for parameter in network[:first].parameters():
        parameter.grad = None
    for module, x, y in reversed(seen[first + 1 :]):
        if isinstance(module, LINEAR):
            _set(module, x, slope)
            slope = _below(module, slope)
        else:
            slope = SLOPES[type(module)](slope, x, y)
    module, x, _ = seen[first]
    _set(module, x, slope)
    return value.detach()


def _set(layer: Any, x: Tensor, slope: Tensor) -> None:
    if isinstance(layer, StackedLinear):
        layer.set_gradients(x, slope)
    else:
        layer.weight.grad, layer.bias.grad = matmul.product(slope.T, x.T), slope.sum(0)


def _below(layer: Any, slope: Tensor) -> Tensor:
    return layer.below(slope) if isinstance(layer, StackedLinear) else matmul.product(slope, layer.weight.T)
