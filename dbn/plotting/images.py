"""Images of filters, samples and reconstructions."""

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from dbn.data.torchvision_datasets import import_torchvision
from dbn.models import RBM, Scaling
from dbn.storage.files import atomic_write, make_folder

Shape = tuple[int, int, int]
FONT_SIZE, LINE = 13, 27
"""Pixels: of the names of rows, and of the least height of a row."""


def tile(images: Tensor, columns: int) -> Tensor:
    """(N, C, H, W) in [0, 1] -> a grid (C, height, width) with a thin frame around each image."""
    grid: Tensor = import_torchvision().utils.make_grid(images.cpu(), nrow=columns, padding=1, pad_value=0.5)
    return grid


def name_rows(grid: Tensor, names: Sequence[str]) -> Tensor:
    """A grid (C, height, width) in [0, 1] of as many rows as `names`, with these at its left, (3, …).

    Enlarged by a whole number where a row is too low for a line of text.

    >>> name_rows(torch.zeros(1, 20, 30), ["data", "samples"]).shape[:2]
    torch.Size([3, 60])
    """
    font = ImageFont.load_default(FONT_SIZE)
    grid = enlarge(grid.cpu().float(), -(-LINE * len(names) // grid.shape[1]))
    height = grid.shape[1] / len(names)
    margin = Image.new("L", (max(round(font.getlength(name)) for name in names) + 12, grid.shape[1]), 255)
    pen = ImageDraw.Draw(margin)
    for place, name in enumerate(names):
        pen.text((6, round((place + 0.5) * height)), name, 0, font, anchor="lm")
    pixels = torch.frombuffer(bytearray(margin.tobytes()), dtype=torch.uint8).reshape(margin.height, margin.width)
    return torch.cat([pixels.expand(3, -1, -1) / 255, grid.expand(3, -1, -1)], 2)


def enlarge(images: Tensor, scale: int) -> Tensor:
    """(…, H, W) -> (…, scale·H, scale·W), each pixel a square."""
    return images.repeat_interleave(scale, -1).repeat_interleave(scale, -2)


def as_images(x: Tensor, shape: Shape, scaling: Scaling) -> Tensor:
    """Scaled visible states (N, V) as images (N, C, H, W) in [0, 1]."""
    return scaling.inverse(x).clamp(0, 1).reshape(-1, *shape)


@torch.no_grad()
def originals_and_reconstructions(
    stack: Sequence[RBM], x: Tensor, shape: Shape, scaling: Scaling, generator: torch.Generator
) -> Tensor:
    """Two rows of images: scaled data x (N, V), and below each its reconstruction by the stack, (C, height, width)."""
    h = x
    for rbm in stack:
        h = rbm.sample_hidden(h, generator)
    for rbm in reversed(stack):
        h = rbm.down(h)
    return tile(as_images(torch.cat([x, h]), shape, scaling), columns=len(x))


@torch.no_grad()
def filters(stack: Sequence[RBM], shape: Shape, count: int = 100) -> Tensor:
    """The first `count` rows of the top weight as a grid of images, (C, height, width), each scaled to its own range.

    Above the first layer a row is multiplied by the weights below: a linear view of what the unit prefers
    (Lee, Ekanadham & Ng 2008).

    >>> from dbn.models import Bernoulli
    >>> filters([RBM(Bernoulli(4), Bernoulli(9))], shape=(1, 2, 2)).shape  # three columns, frames of one pixel
    torch.Size([3, 10, 10])
    """
    rows = stack[-1].weight[:count]
    for rbm in reversed(stack[:-1]):
        rows = rows @ rbm.weight
    # Zero is mid-gray, so that light and dark show the sign.
    scale = rows.abs().amax(1, keepdim=True).clamp_min(torch.finfo(rows.dtype).tiny)
    return tile((0.5 + 0.5 * rows / scale).reshape(-1, *shape), columns=max(1, round(len(rows) ** 0.5)))


def save_png(image: Tensor, path: Path) -> None:
    """Write an image (C, H, W) in [0, 1] as a PNG file; InputError if that fails."""
    write_png(lambda file: import_torchvision().utils.save_image(image, file, format="png"), path)


def write_png(write: Callable[[Path], object], path: Path) -> None:
    """Write a file atomically, and its folder where that is missing; InputError if that fails."""
    make_folder(path.parent)
    atomic_write(path, write)
