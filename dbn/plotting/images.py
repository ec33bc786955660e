"""Pictures of what an RBM has learnt and of what it makes of its data."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from dbn.data.torchvision_datasets import import_torchvision
from dbn.models.rbm import RBM
from dbn.models.scaling import Scaling
from dbn.storage.files import atomic_write, io_error

Shape = tuple[int, int, int]


def tile(images: Tensor, columns: int) -> Tensor:
    """(N, C, H, W) in [0, 1] -> one picture (C, height, width) with a thin frame around each."""
    grid: Tensor = import_torchvision().utils.make_grid(images.cpu(), nrow=columns, padding=1, pad_value=0.5)
    return grid


def as_images(x: Tensor, shape: Shape, scaling: Scaling) -> Tensor:
    """Scaled visible states (N, V) as pictures (N, C, H, W) in [0, 1]."""
    return scaling.inverse(x).clamp(0, 1).reshape(-1, *shape)


@torch.no_grad()
def originals_and_reconstructions(
    stack: Sequence[RBM], x: Tensor, shape: Shape, scaling: Scaling, generator: torch.Generator
) -> Tensor:
    """Two rows of pictures: scaled data x (N, V), and below each what the stack makes of it, (C, height, width)."""
    h = x
    for rbm in stack:
        h = rbm.sample_hidden(h, generator)
    for rbm in reversed(stack):
        h = rbm.down(h)
    return tile(as_images(torch.cat([x, h]), shape, scaling), columns=len(x))


@torch.no_grad()
def filters(stack: Sequence[RBM], shape: Shape, count: int = 100) -> Tensor:
    """The first `count` rows of the top weight as pictures, each stretched to its own range.

    Above the first layer a row is carried down through the weights below: a linear view of what the unit prefers
    (Lee, Ekanadham & Ng 2008).
    """
    rows = stack[-1].weight[:count]
    for rbm in reversed(stack[:-1]):
        rows = rows @ rbm.weight
    # Zero stays mid-grey, so that light and dark tell the sign.
    scale = rows.abs().amax(1, keepdim=True).clamp_min(torch.finfo(rows.dtype).tiny)
    return tile((0.5 + 0.5 * rows / scale).reshape(-1, *shape), columns=max(1, round(len(rows) ** 0.5)))


def save_png(picture: Tensor, path: Path) -> None:
    """A picture (C, H, W) in [0, 1] as a PNG file; InputError where it cannot be written."""

    def write(beside: Path) -> None:
        import_torchvision().utils.save_image(picture, beside, format="png")

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise io_error(path.parent, "made", error) from error
    atomic_write(path, write)
