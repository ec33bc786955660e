"""Layers of several networks of one shape as one: what a network does to (B, V), these do to (F, B, V) for F fits."""

from collections.abc import Sequence
from typing import Any, final

import torch
from torch import Tensor, nn

from dbn.finetuning.dropout import masks


@final
class StackedLinear(nn.Module):
    """y_f = x_f·W_fᵀ + b_f, in the type of x; weight (F, H, V), bias (F, 1, H).

    The parameters of the layers, and their gradients where they learn, are parts of it from now on.
    """

    def __init__(self, layers: Sequence[Any]) -> None:
        super().__init__()
        self.weight = _of_all([layer.weight for layer in layers])
        self.bias = _of_all([layer.bias for layer in layers])

    def forward(self, x: Tensor) -> Tensor:
        """(F, B, V) -> (F, B, H)."""
        return torch.baddbmm(self.bias.to(x.dtype).unsqueeze(1), x, self.weight.to(x.dtype).mT)

    def below(self, slope: Tensor) -> Tensor:
        """∂L/∂x from ∂L/∂y."""
        return torch.bmm(slope, self.weight.to(slope.dtype))

    def set_gradients(self, x: Tensor, slope: Tensor) -> None:
        """Those of the loss, from x and ∂L/∂y."""
        weight, bias = self.weight.grad, self.bias.grad
        assert weight is not None
        assert bias is not None
        if x.dtype == weight.dtype:
            torch.bmm(slope.mT, x, out=weight)  # without another pass over it
        else:
            weight.copy_(torch.bmm(slope.mT, x))
        bias.copy_(slope.sum(1))


def _of_all(parameters: Sequence[nn.Parameter]) -> nn.Parameter:
    learns = parameters[0].requires_grad
    found = nn.Parameter(torch.stack([each.detach() for each in parameters]), learns)
    found.grad = torch.zeros_like(found) if learns else None
    for number, each in enumerate(parameters):
        each.data = found.data[number]
        each.grad = None if found.grad is None else found.grad[number]
    return found


@final
class StackedDropout(nn.Module):
    """The masks that each fit alone would draw: those of the fit's seed, `of_seeds[place[f]]`."""

    def __init__(self, of_seeds: Sequence[Any], place: Tensor) -> None:
        super().__init__()
        self.rate, self.generators = of_seeds[0].rate, [each.generator for each in of_seeds]
        self.place = place

    def mask(self, x: Tensor) -> Tensor:
        """m/keep, of the shape and type of x, (F, B, V)."""
        return masks(self.rate, x[0], self.generators)[self.place]
