"""The figures of a study: errors with their intervals, and signals by layer; `save` writes one as PNG."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dbn.errors import InputError
from dbn.plotting.axes import NOTHING, Arms, Scale, curves_of, draw, legend, module, style
from dbn.plotting.images import write_png

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Signals = Mapping[str, Sequence[Sequence[Mapping[str, float]]]]
"""By arm, seed and layer, the output layer last: the fields of `LayerSignal`."""

WIDTH, HEIGHT, ROW, PANEL = 7.6, 4.2, 2.2, 3.4
"""Inches, of a figure, one row of several, and a further panel."""

PANELS = {
    "z_std": ("std of pre-activations", 1.0),
    "example_std": ("std over examples", 1.0),
    "gradient_std": ("std of ∂loss/∂z (nats)", 1.0),
    "weight_gradient_std": ("std of ∂loss/∂W (nats)", 1.0),
    "saturated": ("saturated or off (%)", 100.0),
    "dead": ("dead units (%)", 100.0),
    "singular_mean": ("mean singular value", 1.0),
}
"""The fields of `LayerSignal` that can be drawn: label, and factor to its unit."""


def error_against_labels(
    arms: Arms, *, title: str = "", order: Sequence[str] = (), ylabel: str = "test error (%)"
) -> "Figure":
    """Test error by number of labeled training examples; see `error_against_depth`."""
    return _errors({"": arms}, "labeled training examples", ylabel, title, order, ticks=True, log_x=True)


def error_against_depth(
    panels: Mapping[str, Arms], *, title: str = "", order: Sequence[str] = (), ylabel: str = "test error (%)"
) -> "Figure":
    """Test error by number of hidden layers: mean over seeds, in a band of Student's 95 % interval.

    panels: by title, such as an activation; side by side on one scale, logarithmic if errors differ by `LOG_FROM`.
    order: the arms of all figures of a study, so that an arm has the same color in all of them.

    >>> figure = error_against_depth({"tanh": {"dbn": {1: [2.0, 2.2], 2: [1.5, 1.6]}}})
    >>> figure.axes[0].get_xlabel()
    'hidden layers'

    Raises:
        InputError: matplotlib is missing, there is nothing to draw, or a value is not finite.
    """
    return _errors(panels, "hidden layers", ylabel, title, order, ticks=True)


def learning_curves(
    arms: Arms, *, title: str = "", order: Sequence[str] = (), ylabel: str = "validation error (%)"
) -> "Figure":
    """Measurements after each epoch; see `error_against_depth`.

    An arm's line ends where its first seed stopped: the mean of the others is another quantity.
    """
    whole = {}
    for arm, curve in arms.items():
        most = max(map(len, curve.values()), default=0)
        whole[arm] = {epoch: values for epoch, values in curve.items() if len(values) == most}
    return _errors({"": whole}, "epoch", ylabel, title, order)


def signal_by_layer(
    moments: Mapping[str, Signals],
    *,
    title: str = "",
    order: Sequence[str] = (),
    quantities: Sequence[str] = ("z_std", "example_std", "gradient_std", "singular_mean"),
) -> "Figure":
    """Signals by hidden layer, mean over seeds and 95 % band: one row per quantity, one column per moment.

    moments: by title, such as "at the start"; the panels of a single one stand two by two. quantities: of `PANELS`.
    Hollow triangles mark what a logarithmic axis cannot show: zero at the lower edge, inf and NaN at the upper one.

    Raises:
        InputError: matplotlib is missing, there is nothing to draw, or an unknown quantity.
    """
    for name in quantities:
        if name not in PANELS:
            raise InputError(f"there is no figure of {name!r}: choose from {', '.join(PANELS)}")
    cells = {
        (name, moment): curves_of({arm: _by_layer(seeds, name) for arm, seeds in arms.items()})
        for name in quantities
        for moment, arms in moments.items()
    }
    if not cells:
        raise InputError(NOTHING)
    names = list(dict.fromkeys([*order, *(arm for curves in cells.values() for arm in curves)]))
    across = len(moments) if len(moments) > 1 else min(2, len(quantities))
    down = -(-len(cells) // across)
    with style():
        figure = _figure(WIDTH + PANEL * max(0, across - 2), 0.6 + ROW * down)
        figure.suptitle(title)
        grid = list(figure.subplots(down, across, squeeze=False).flat)
        for axes in grid[len(cells) :]:
            axes.remove()
        for place, ((name, moment), curves) in enumerate(cells.items()):
            axes, first = grid[place], place % across == 0
            scale = Scale(False, -5.0, 105.0)
            if PANELS[name][1] == 1.0:
                scale = Scale.of(curve for (of, _), each in cells.items() if of == name for curve in each.values())
            draw(axes, curves, scale, names)
            deepest = int(max(curve.x[-1] for curve in curves.values()))
            axes.set_xticks(range(1, deepest + 1, -(-deepest // 6)))
            axes.set_title(moment if len(moments) > 1 and place < across else "", fontsize="medium")
            axes.set_xlabel("hidden layer" if place >= len(cells) - across else "")
            axes.set_ylabel(PANELS[name][0] if first or len(moments) == 1 else "")
        legend(figure, grid[: len(cells)], names)
    return figure


def save(figure: "Figure", path: Path) -> None:
    """Write the figure as a PNG file, atomically: the same figure gives the same bytes. InputError if that fails."""

    def write(file: Path) -> None:
        with style():
            figure.savefig(file, format="png", metadata={"Software": None})

    write_png(write, path)


def _figure(width: float, height: float) -> "Figure":
    figure: Figure = module("figure").Figure(figsize=(width, height), layout="constrained")
    return figure


def _by_layer(seeds: Sequence[Sequence[Mapping[str, float]]], name: str) -> dict[float, list[float]]:
    """The values of the hidden layers; the output layer starts the same in every arm."""
    factor = PANELS[name][1]
    columns = zip(*(layers[:-1] for layers in seeds), strict=True)
    return {number: [factor * layer[name] for layer in column] for number, column in enumerate(columns, start=1)}


def _errors(
    panels: Mapping[str, Arms],
    xlabel: str,
    ylabel: str,
    title: str,
    order: Sequence[str],
    *,
    ticks: bool = False,
    log_x: bool = False,
) -> "Figure":
    """Panels by their titles, side by side on one scale."""
    found = {name: curves_of(arms) for name, arms in panels.items()}
    every = [(arm, curve) for curves in found.values() for arm, curve in curves.items()]
    for arm, curve in every:
        for x, mean in zip(curve.x, curve.mean, strict=True):
            if not math.isfinite(mean):
                raise InputError(f"{arm} has a value at {x:g} {xlabel} that is not finite: leave that run out")
    scale = Scale.of(curve for _, curve in every)
    last = {arm: curve.mean[-1] for arm, curve in every}
    with style():
        figure = _figure(WIDTH + PANEL * (len(panels) - 1), HEIGHT)
        if len(panels) > 1:
            figure.suptitle(title)
        grid = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
        for axes, (name, curves) in zip(grid, found.items(), strict=True):
            axes.set_title(name if len(panels) > 1 else title)
            axes.set_xlabel(xlabel)
            draw(axes, curves, scale, list(dict.fromkeys([*order, *last])))
            if log_x:
                axes.set_xscale("log")
            if ticks:
                places = sorted({x for curve in curves.values() for x in curve.x})
                axes.set_xticks(places, [f"{x:,.0f}" for x in places])
                axes.set_xticks([], minor=True)
        grid[0].set_ylabel(ylabel)
        # In the order of the lines' ends, from top to bottom.
        legend(figure, grid, sorted(last, key=lambda arm: -last[arm]))
    return figure
