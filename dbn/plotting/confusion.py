"""Confusion matrices as an image, a panel for each classifier."""

from collections.abc import Mapping, Sequence

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

Confusion = Sequence[Sequence[int]]

INK, PAPER, FULL = (0, 0, 0), (255, 255, 255), (0, 114, 178)
FONT_SIZE, MARGIN, LINE = 13, 12, 20
"""Pixels: of text, around panels, of a line of text."""
WITH_COUNTS, WITH_NAMES, MOST_PIXELS = 15, 40, 640
"""Numbers of classes up to which counts and names have room; the side of a matrix of more."""
CAPTION = "row: true class, column: predicted class, shade: share of the row"


def confusion_image(matrices: Mapping[str, Confusion], classes: Sequence[str]) -> Tensor:
    """Counts by true class (row) and predicted class (column), (3, height, width) uint8.

    matrices: by title, each (C, C), C the number of `classes`.

    >>> confusion_image({"dbn": [[9, 1], [2, 8]]}, ["cat", "dog"]).shape[0]
    3
    """
    font = ImageFont.load_default(FONT_SIZE)
    assert isinstance(font, ImageFont.FreeTypeFont)
    names = [_shortened(name, 16) for name in classes] if len(classes) <= WITH_NAMES else []
    panels = [_panel(_shortened(title, 40), counts, names, font) for title, counts in matrices.items()]
    width, height = (max(panel.size[side] for panel in panels) for side in (0, 1))
    across = next(n for n in range(1, len(panels) + 1) if n * n >= len(panels))
    down = -(-len(panels) // across)
    image = Image.new("RGB", (max(width * across, round(font.getlength(CAPTION)) + 2 * MARGIN), height * down + LINE))
    image.paste(PAPER, (0, 0, *image.size))
    for place, panel in enumerate(panels):
        image.paste(panel, (place % across * width, place // across * height))
    ImageDraw.Draw(image).text((MARGIN, height * down), CAPTION, INK, font)
    pixels = torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8)
    return pixels.reshape(image.height, image.width, 3).permute(2, 0, 1)


def _panel(title: str, counts: Confusion, names: Sequence[str], font: ImageFont.FreeTypeFont) -> Image.Image:
    n, wide = len(counts), max((round(font.getlength(name)) for name in names), default=0)
    cell = 44 if n <= WITH_COUNTS else 18 if names else max(1, MOST_PIXELS // n)
    left, top = MARGIN + wide + 6, MARGIN + LINE + wide + 6
    right = max(left + cell * n, MARGIN + round(font.getlength(title)))
    image = Image.new("RGB", (right + MARGIN, top + cell * n + MARGIN), PAPER)
    pen = ImageDraw.Draw(image)
    pen.text((MARGIN, MARGIN), title, INK, font)
    for place, name in enumerate(names):
        pen.text((left - 6, top + round(cell * (place + 0.5))), name, INK, font, anchor="rm")
        upright = Image.new("RGB", (wide + 1, LINE), PAPER)
        ImageDraw.Draw(upright).text((0, LINE // 2), name, INK, font, anchor="lm")
        turned = upright.transpose(Image.Transpose.ROTATE_90)
        image.paste(turned, (left + round(cell * (place + 0.5)) - LINE // 2, top - 6 - wide))
    for row, line in enumerate(counts):
        total = max(1, sum(line))
        for column, count in enumerate(line):
            if not count and cell <= 3:
                continue  # paper, without a border
            share, x, y = count / total, left + cell * column, top + cell * row
            shade = tuple(round(white + share * (full - white)) for white, full in zip(PAPER, FULL, strict=True))
            pen.rectangle((x, y, x + cell - 1, y + cell - 1), shade, (220, 220, 220) if cell > 3 else shade)
            if n <= WITH_COUNTS and count:
                ink = PAPER if share > 0.6 else INK
                pen.text((x + cell // 2, y + cell // 2), f"{count}", ink, font.font_variant(size=11), anchor="mm")
    return image


def _shortened(name: str, most: int) -> str:
    return name if len(name) <= most else f"{name[: most - 1]}…"
