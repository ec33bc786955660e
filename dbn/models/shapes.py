"""The shape of images from its name in options."""

from math import prod
from pathlib import Path

from dbn.errors import InputError


def shape_of(text: str, width: int, run: Path) -> tuple[int, int, int]:
    """(channels, height, width) of "28x28" or "3x32x32"; InputError for other rows than those of the `width` of a run.

    >>> shape_of("28x28", 784, Path("run"))
    (1, 28, 28)
    """
    shape = [int(side) for side in text.split("x")]
    if prod(shape) != width:
        raise InputError(
            f"--image-shape {text} has {prod(shape)} values, but {run} was trained on rows of {width}: give sides of "
            "that product"
        )
    return (1, *shape)[-3], shape[-2], shape[-1]
