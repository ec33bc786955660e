"""The matrix products that training cannot do without, with nothing between them."""

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor

from dbn.benchmarks.running import CHAINS, CLASSES, PER_STEP, Runner, Setting, repeated


def five_products(setting: Setting, dtype: torch.dtype = torch.float32) -> Runner:
    """Up, down, up and the two outer products of CD-1, with nothing between them: {name: result}."""
    with torch.device(setting.device):
        v = torch.rand(setting.batch_size, setting.visible).to(dtype)
        h = torch.rand(setting.batch_size, setting.hidden).to(dtype)
        weight = torch.randn(setting.hidden, setting.visible).to(dtype)
    step, results = cd1_products(v, h, weight)
    return Runner(
        repeated(step, setting.steps, setting.device, capturable=True),
        setting.steps,
        {"v": v, "h": h, "weight": weight} | results,
    )


def cd1_products(v: Tensor, h: Tensor, weight: Tensor) -> tuple[Callable[[], None], dict[str, Tensor]]:
    """A step of the five products for v (B, V), h (B, H) and a weight (H, V), and where it writes, by name."""
    up, down, gradient = torch.empty_like(h), torch.empty_like(v), torch.zeros_like(weight)

    def step() -> None:
        torch.mm(v, weight.T, out=up)
        torch.mm(h, weight, out=down)
        torch.mm(v, weight.T, out=up)
        torch.mm(h.T, v, out=gradient)
        torch.addmm(gradient, up.T, down, alpha=-1.0, out=gradient)

    return step, {"up": up, "down": down, "gradient": gradient}


def two_products(setting: Setting) -> Runner:
    """Up and down for the chains of annealed importance sampling."""
    with torch.device(setting.device):
        v, h = torch.rand(CHAINS, setting.visible), torch.rand(CHAINS, setting.hidden)
        weight = torch.randn(setting.hidden, setting.visible)
    up, down = torch.empty_like(h), torch.empty_like(v)

    def step() -> None:
        torch.mm(v, weight.T, out=up)
        torch.mm(h, weight, out=down)

    steps = PER_STEP * setting.steps
    return Runner(
        repeated(step, steps, setting.device, capturable=True),
        steps,
        {"v": v, "h": h, "weight": weight, "up": up, "down": down},
    )


def network_products(setting: Setting) -> Runner:
    """Forward, weight gradients, and backward to all but the data: three products a layer less one."""
    sizes = (setting.visible, *setting.network, CLASSES)
    with torch.device(setting.device):
        x = [torch.rand(setting.batch_size, size) for size in sizes]  # values and their gradients alike
        weights = [torch.randn(above, below) for below, above in pairwise(sizes)]
    forward, backward = [torch.empty_like(each) for each in x], [torch.empty_like(each) for each in x]
    gradients = [torch.empty_like(weight) for weight in weights]

    def step() -> None:
        for n, weight in enumerate(weights):
            torch.mm(x[n], weight.T, out=forward[n + 1])
        for n in reversed(range(len(weights))):
            torch.mm(x[n + 1].T, x[n], out=gradients[n])
            if n:
                torch.mm(x[n + 1], weights[n], out=backward[n])

    state = {"x": x, "weights": weights, "forward": forward, "backward": backward, "gradients": gradients}
    return Runner(repeated(step, setting.steps, setting.device, capturable=True), setting.steps, state)
