"""Samples of a stack during training, beside the data that their chains start from: images, or a table of text."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from dbn.models.dbn import DBN
from dbn.models.rbm import RBM
from dbn.models.scaling import Scaling
from dbn.plotting.images import Shape, as_images, name_rows, tile
from dbn.runs.card import escaped
from dbn.text_tables import markdown_table

STEPS = (1, 10, 50)
"""Gibbs steps in the top RBM after which samples are shown."""
ROWS, COLUMNS = 4, 12
"""Of tables: chains and columns that are shown."""


@torch.no_grad()
def samples_from(
    layers: Sequence[RBM], x: Tensor, scaling: Scaling, generator: torch.Generator
) -> dict[str, Tensor] | None:
    """By name: the scaled rows x (N, V) and samples of chains that start from them, (N, V) each.

    Means of the visible units given a state of the top, of categories draws, as codes. None where the top RBM has no
    finite Z, or a value is not finite.
    """
    stack, top = DBN(layers, scaling), layers[-1]
    if not top.has_partition():
        return None
    found = {"data": x if scaling.codes is None else scaling.inverse(x)}
    v = x
    for rbm in layers[:-1]:
        v = rbm.sample_hidden(v, generator)
    for step in range(1, STEPS[-1] + 1):
        h = top.sample_hidden(v, generator)
        if step in STEPS:
            found[f"{step} step{'s' * (step > 1)}"] = stack.samples_given(h, generator)
        v = top.sample_visible(h, generator)
    return found if all(rows.isfinite().all() for rows in found.values()) else None


def samples_image(found: Mapping[str, Tensor], shape: Shape, scaling: Scaling) -> Tensor:
    """A row of images each, (3, height, width), with its name."""
    rows = list(found.values())
    return name_rows(tile(as_images(torch.cat(rows), shape, scaling), columns=len(rows[0])), list(found))


def samples_table(found: Mapping[str, Tensor], scaling: Scaling) -> str:
    """A table of Markdown in the units of the data: of each chain the row that it starts from, and samples below."""
    parts = {name: _cells(rows[:ROWS], scaling) for name, rows in found.items()}
    names = list(next(iter(parts.values())))
    lines = [
        (name if name != "data" else f"**data {number + 1}**", *(cells[column][number] for column in names[:COLUMNS]))
        for number in range(min(ROWS, len(next(iter(found.values())))))
        for name, cells in parts.items()
    ]
    left_out = f"\n\n{len(names) - COLUMNS} more columns are not shown." if len(names) > COLUMNS else ""
    return f"{markdown_table(('', *map(escaped, names[:COLUMNS])), lines)}{left_out}"


def _cells(rows: Tensor, scaling: Scaling) -> dict[str, list[str]]:
    """The cells of rows by column, as text."""
    stored = (rows if scaling.codes is not None else scaling.inverse(rows) * scaling.divisor).cpu()
    if scaling.table:
        cells = scaling.cells(stored)
    else:
        names = scaling.columns or tuple(map(str, range(stored.shape[1])))
        cells = dict(zip(names, stored.T.tolist(), strict=True))
    return {
        str(name): [f"{value:.4g}" if isinstance(value, float) else escaped(str(value)) for value in values]
        for name, values in cells.items()
    }
