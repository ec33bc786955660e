"""Points for TensorBoard's projector."""

import io
import json
import math
from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from dbn.storage.files import atomic_write, make_folder

CONFIG, CODES = "projector_config.pbtxt", "codes"
POINTS, NUMBERS, SPRITE = 1000, 400_000, 4096
"""At most: points, the numbers in all of them, and the side of the thumbnails' picture in pixels."""


def points_of(width: int) -> int:
    """How many points of so many values are shown."""
    return max(1, min(POINTS, NUMBERS // width))


def write_projector(folder: Path, vectors: Tensor, labels: Sequence[str] | None, images: Tensor | None) -> None:
    """Points (N, D) of the TensorBoard run in `folder`, with labels and thumbnails (N, C, H, W) in [0, 1].

    In place of others; the files are in codes/. InputError when the disk refuses them.
    """
    place = make_folder(folder / CODES)
    lines = ["\t".join(f"{value:.6g}" for value in row) for row in vectors.tolist()]
    atomic_write(place / "tensors.tsv", ("\n".join(lines) + "\n").encode())
    about = [f"tensor_name: {json.dumps(CODES)}", f'tensor_path: "{CODES}/tensors.tsv"']
    about.append(f"tensor_shape: {len(vectors)} tensor_shape: {vectors.shape[1]}")
    if labels is not None:
        named = [" ".join(label.split()) or "–" for label in labels]
        atomic_write(place / "metadata.tsv", ("\n".join(named) + "\n").encode())
        about.append(f'metadata_path: "{CODES}/metadata.tsv"')
    across = math.ceil(len(vectors) ** 0.5)
    if images is not None and across * max(images.shape[2:]) <= SPRITE:
        atomic_write(place / "sprite.png", _sprite(images.cpu(), across))
        height, width = images.shape[2:]
        about.append(
            f'sprite {{ image_path: "{CODES}/sprite.png" single_image_dim: {width} single_image_dim: {height} }}'
        )
    atomic_write(folder / CONFIG, f"embeddings {{ {' '.join(about)} }}\n".encode())


def _sprite(images: Tensor, across: int) -> bytes:
    """The thumbnails in a square grid, row by row, as PNG."""
    n, channels, height, width = images.shape
    grid = images.new_zeros(across * across, channels, height, width)
    grid[:n] = images
    pixels = grid.expand(-1, 3, -1, -1).reshape(across, across, 3, height, width).permute(0, 3, 1, 4, 2)
    pixels = (255 * pixels.clamp(0, 1)).round().to(torch.uint8).reshape(across * height, across * width, 3)
    written = io.BytesIO()
    Image.fromarray(pixels.numpy()).save(written, format="PNG")
    return written.getvalue()
