"""Predicted numbers against true ones as an image, a panel for each network and target."""

from collections.abc import Mapping

from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from dbn.plotting.confusion import FONT_SIZE, FULL, INK, LINE, MARGIN, PAPER, beside

SIDE, MOST_POINTS = 260, 5000
"""Pixels of a panel's square; points that are drawn, the first of more."""
CAPTION = "across: true, up: predicted, on the line: equal; outside the range of the true ones: at the edge"


def predictions_image(found: Mapping[str, tuple[Tensor, Tensor]]) -> Tensor:
    """Predicted and true numbers (N,) each, by title, (3, height, width) uint8.

    >>> import torch
    >>> predictions_image({"dbn": (torch.tensor([1.0, 2.5]), torch.tensor([1.0, 2.0]))}).shape[0]
    3
    """
    return beside([_panel(title[:40], *values) for title, values in found.items()], CAPTION)


def _panel(title: str, predicted: Tensor, true: Tensor) -> Image.Image:
    font = ImageFont.load_default(FONT_SIZE)
    least, greatest = float(true.min()), float(true.max())
    reach = (greatest - least) or 1.0
    left, top = MARGIN, MARGIN + LINE
    image = Image.new("RGB", (SIDE + 2 * MARGIN, SIDE + 2 * MARGIN + 2 * LINE), PAPER)
    pen = ImageDraw.Draw(image)
    pen.text((left, MARGIN), title, INK, font)
    pen.rectangle((left, top, left + SIDE, top + SIDE), PAPER, (160, 160, 160))
    pen.line((left, top + SIDE, left + SIDE, top), (160, 160, 160))
    for x, y in zip(*(_place(values[:MOST_POINTS], least, reach) for values in (true, predicted)), strict=True):
        pen.rectangle((left + x - 1, top + SIDE - y - 1, left + x + 1, top + SIDE - y + 1), FULL)
    pen.text((left, top + SIDE + 2), f"{least:.4g}", INK, font)
    pen.text((left + SIDE, top + SIDE + 2), f"{greatest:.4g}", INK, font, anchor="ra")
    return image


def _place(values: Tensor, least: float, reach: float) -> list[int]:
    """Pixels from the origin; numbers that are not finite are at an edge."""
    shares = ((values.double() - least) / reach).nan_to_num(0.0, 1.0, 0.0).clamp(0, 1)
    return [round(SIDE * share) for share in shares.tolist()]
