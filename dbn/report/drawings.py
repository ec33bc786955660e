"""Curves as SVG and images as PNG, in data URLs: the same numbers give the same bytes."""

import base64
import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from dbn.plotting.axes import Arms, module, style
from dbn.plotting.figures import learning_curves
from dbn.report.page import Picture

PANEL = 4.2, 2.7
"""Inches of a small figure: its text is readable at the width of a phone."""
HEADROOM = 1.5
"""An axis of numbers that are not negative ends at most so many times above the greatest: wide bands squeeze curves."""
NO_DATE: dict[str, Any] = {"Date": None, "Creator": None, "Format": None, "Type": None}
MOST_POINTS = 200
"""Of a curve."""


def curves(arms: Arms, caption: str, *, ylabel: str) -> Picture | None:
    """Measurements after each epoch; None where nothing is finite."""
    found = {_plain(arm): _finite(curve) for arm, curve in arms.items()}
    found = {arm: curve for arm, curve in found.items() if curve}
    if not found:
        return None
    figure = learning_curves(found, ylabel=ylabel, order=list(found))
    with style():
        figure.set_layout_engine(None)  # one would draw everything twice
    figure.set_size_inches(*PANEL)
    figure.subplots_adjust(left=0.19, right=0.97, bottom=0.19, top=0.95)
    (axes,), (beside,) = figure.axes, figure.legends
    beside.remove()
    if len(found) > 1:
        axes.legend(fontsize="small")
    axes.xaxis.set_major_locator(module("ticker").MaxNLocator(nbins=6, integer=True))
    if len(places := {x for curve in found.values() for x in curve}) == 1:
        axes.set_xticks([*places])
    greatest, least = (end(value for curve in found.values() for values in curve.values() for value in values)
                       for end in (max, min))  # fmt: skip
    if least >= 0 and greatest > 0:
        low, high = axes.get_ylim()
        axes.set_ylim(max(low, 0.0), min(high, HEADROOM * greatest))
    return svg(figure, caption)


def svg(figure: Any, caption: str) -> Picture:
    """A figure of matplotlib."""
    file = io.BytesIO()
    with style(), module("style").context({"svg.hashsalt": "dbn", "svg.fonttype": "none"}):
        figure.savefig(file, format="svg", metadata=NO_DATE)
    return Picture(_url("svg+xml", file.getvalue()), caption)


def png(image: Tensor, caption: str, least_width: int = 320) -> Picture:
    """An image (C, H, W), in [0, 1] or bytes, whose longer side is shown at `least_width` pixels or more."""
    if image.is_floating_point():
        image = (image.clamp(0, 1) * 255).round().to(torch.uint8)
    pixels = image.cpu().permute(1, 2, 0).contiguous()
    if pixels.shape[2] == 3 and pixels.eq(pixels[:, :, :1]).all():
        pixels = pixels[:, :, :1]
    height, width, channels = pixels.shape
    mode = "RGB" if channels == 3 else "L"
    file = io.BytesIO()
    Image.frombytes(mode, (width, height), bytes(pixels.numpy().tobytes())).save(file, format="PNG", optimize=True)
    return png_file(file.getvalue(), caption, least_width)


def png_file(content: bytes, caption: str, least_width: int = 320, *, is_figure: bool = False) -> Picture:
    """The content of a PNG file."""
    width, height = (int.from_bytes(content[start : start + 4], "big") for start in (16, 20))
    return Picture(_url("png", content), caption, is_figure, max(1, -(-least_width // max(width, height, 1))) * width)


def _url(kind: str, content: bytes) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def _finite(curve: Mapping[float, Sequence[float | None]]) -> dict[float, list[float]]:
    """Without what is not finite; of a long curve some places, the last among them."""
    every = max(1, -(-len(curve) // MOST_POINTS))
    places = sorted(curve)[::-1][::every]
    kept = {x: [value for value in curve[x] if value is not None and math.isfinite(value)] for x in sorted(places)}
    return {x: values for x, values in kept.items() if values}


def _plain(name: str) -> str:
    """A name that matplotlib does not read as mathematics, or leaves out of the legend."""
    return name.lstrip("_").replace("$", r"\$") or "–"
