"""The figures of a study: errors with their intervals, and signals by layer.

matplotlib is an extra, imported when a figure is asked for. A drawing function returns a figure, `save` writes it.
"""

import importlib
import math
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from dbn.errors import InputError
from dbn.evaluation import mean_interval
from dbn.storage import refused, write_whole

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Arms = Mapping[str, Mapping[float, Sequence[float]]]
"""By arm, by place on the x-axis: a value a seed."""
Signals = Mapping[str, Sequence[Sequence[Mapping[str, float]]]]
"""By arm, by seed, by layer with the output layer last: the fields of `signals.LayerSignal`."""

# Okabe & Ito (2008): told apart under every kind of colour blindness. Without their yellow, which is faint on white.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#000000", "#56B4E9", "#E69F00")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
DASHES = ("-", "--", ":")
STYLE = {
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "figure.dpi": 160,
    "font.size": 10.5,
    "grid.alpha": 0.3,
    "legend.frameon": False,
    "lines.linewidth": 1.7,
    "lines.markersize": 5,
}
WIDTH, HEIGHT, ROW = 7.6, 4.2, 2.2
"""Inches: a figure is 1216 pixels wide, which a README shows at two thirds; a panel's row is lower."""
NOTHING = "there is nothing to draw: a figure needs an arm with at least one value"
LOG_FROM = 4.0
"""Values that differ by this factor get a logarithmic axis."""

PANELS = {
    "z_std": ("std of pre-activations", 1.0),
    "example_std": ("std over examples", 1.0),
    "gradient_std": ("std of ∂loss/∂z (nats)", 1.0),
    "weight_gradient_std": ("std of ∂loss/∂W (nats)", 1.0),
    "saturated": ("saturated or off (%)", 100.0),
    "dead": ("dead units (%)", 100.0),
    "singular_mean": ("mean singular value", 1.0),
}
"""The fields of `signals.LayerSignal` that can be drawn: what they are called, and the factor to that unit."""


def error_against_labels(arms: Arms, *, title: str = "", order: Sequence[str] = ()) -> "Figure":
    """Test error (%) by number of labelled training examples; see `error_against_depth`."""
    return _errors(arms, "labelled training examples", "test error (%)", title, order, ticks=True, log_x=True)


def error_against_depth(arms: Arms, *, title: str = "", order: Sequence[str] = ()) -> "Figure":
    """Test error (%) by number of hidden layers: mean over seeds, in a band of Student's 95 % interval.

    One seed has no band. Errors that differ by `LOG_FROM` are on a logarithmic axis. `order` names the arms of all
    figures of a study, so that an arm has one colour in all; left out, they are coloured as they come.

    Raises:
        InputError: matplotlib is missing, there is nothing to draw, or a value is not finite.
    """
    return _errors(arms, "hidden layers", "test error (%)", title, order, ticks=True)


def learning_curves(
    arms: Arms, *, title: str = "", order: Sequence[str] = (), ylabel: str = "validation error (%)"
) -> "Figure":
    """What was measured after each epoch; see `error_against_depth`.

    An arm's line ends where its first seed stopped: the mean of those that go on is another quantity.
    """
    whole = {}
    for arm, curve in arms.items():
        most = max(map(len, curve.values()), default=0)
        whole[arm] = {epoch: values for epoch, values in curve.items() if len(values) == most}
    return _errors(whole, "epoch", ylabel, title, order)


def signal_by_layer(
    moments: Mapping[str, Signals],
    *,
    title: str = "",
    order: Sequence[str] = (),
    quantities: Sequence[str] = ("z_std", "example_std", "gradient_std", "singular_mean"),
) -> "Figure":
    """Signals by hidden layer, mean over seeds and 95 % band: a row a quantity (of `PANELS`), a column a moment.

    Moments are such as "at the start" and "after 10 epochs"; the panels of a single one stand two by two. What a
    logarithmic axis cannot show is a hollow triangle: zero at the lower edge, inf and NaN at the upper one.

    Raises:
        InputError: matplotlib is missing, there is nothing to draw, or a quantity that no panel shows.
    """
    for name in quantities:
        if name not in PANELS:
            raise InputError(f"there is no figure of {name!r}: choose from {', '.join(PANELS)}")
    cells = {
        (name, moment): _curves({arm: _by_layer(seeds, name) for arm, seeds in arms.items()})
        for name in quantities
        for moment, arms in moments.items()
    }
    if not cells:
        raise InputError(NOTHING)
    names = list(dict.fromkeys([*order, *(arm for curves in cells.values() for arm in curves)]))
    across = len(moments) if len(moments) > 1 else min(2, len(quantities))
    down = -(-len(cells) // across)
    with _style():
        figure: Figure = _module("figure").Figure(figsize=(WIDTH, 0.6 + ROW * down), layout="constrained")
        figure.suptitle(title)
        grid = list(figure.subplots(down, across, squeeze=False).flat)
        for axes in grid[len(cells) :]:
            axes.remove()
        for place, ((name, moment), curves) in enumerate(cells.items()):
            axes, first = grid[place], place % across == 0
            scale = _Scale(False, -5.0, 105.0)
            if PANELS[name][1] == 1.0:
                scale = _Scale.of(curve for (of, _), each in cells.items() if of == name for curve in each.values())
            _draw(axes, curves, scale, names)
            deepest = int(max(curve.x[-1] for curve in curves.values()))
            axes.set_xticks(range(1, deepest + 1, -(-deepest // 6)))
            axes.set_title(moment if len(moments) > 1 and place < across else "", fontsize="medium")
            axes.set_xlabel("hidden layer" if place >= len(cells) - across else "")
            axes.set_ylabel(PANELS[name][0] if first or len(moments) == 1 else "")
        _legend(figure, grid[: len(cells)], names)
    return figure


def save(figure: "Figure", path: Path) -> None:
    """The figure as a PNG file, whole or not at all: the same figure gives the same bytes.

    Raises:
        InputError: the file cannot be written.
    """

    def write(beside: Path) -> None:
        with _style():
            figure.savefig(beside, format="png", metadata={"Software": None})

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise refused(path.parent, "made", error) from error
    write_whole(path, write)


class _Curve(NamedTuple):
    """Mean over seeds and half the width of its interval (0 where there is none), by place."""

    x: list[float]
    mean: list[float]
    half: list[float]


class _Scale(NamedTuple):
    logarithmic: bool
    low: float
    high: float

    @classmethod
    def of(cls, curves: Iterable[_Curve]) -> "_Scale":
        """What shows all means, and of their bands as much as does not squeeze them."""
        curves = list(curves)
        means = [m for curve in curves for m in curve.mean if math.isfinite(m)] or [0.0]
        positive = [m for m in means if m > 0]
        ends = [
            end
            for curve in curves
            for m, half in zip(curve.mean, curve.half, strict=True)
            for end in (m - half, m + half)
            if math.isfinite(end)
        ]
        if min(means) < 0 or not positive or max(positive) < LOG_FROM * min(positive):
            low, high = min(means + ends), max(means + ends)
            margin = 0.06 * (high - low) or 0.06 * abs(high) or 1.0
            return cls(False, 0.0 if low >= 0 > low - margin else low - margin, high + margin)
        low = min(end for end in positive + ends if end >= min(positive) / 3)
        high = max(end for end in positive + ends if end <= max(positive) * 3)
        margin = (high / low) ** (0.2 if min(means) == 0 else 0.05)
        return cls(True, low / margin, high * margin)

    def place(self, value: float) -> float:
        """Where a value is drawn: at an edge, if it lies beyond or nowhere."""
        if not math.isfinite(value):
            return self.high
        return max(value, self.low) if self.logarithmic else value


def _by_layer(seeds: Sequence[Sequence[Mapping[str, float]]], name: str) -> dict[float, list[float]]:
    """The hidden layers' values; the output layer starts alike in every arm."""
    factor = PANELS[name][1]
    columns = zip(*(layers[:-1] for layers in seeds), strict=True)
    return {number: [factor * layer[name] for layer in column] for number, column in enumerate(columns, start=1)}


def _curves(arms: Arms) -> dict[str, _Curve]:
    found = {}
    for arm, places in arms.items():
        xs = sorted(x for x in places if len(places[x]))
        intervals = [mean_interval(places[x]) for x in xs]
        found[arm] = _Curve(xs, [each.mean for each in intervals], [each.half_width or 0.0 for each in intervals])
    if not any(curve.x for curve in found.values()):
        raise InputError(NOTHING)
    return {arm: curve for arm, curve in found.items() if curve.x}


def _errors(
    arms: Arms, xlabel: str, ylabel: str, title: str, order: Sequence[str], *, ticks: bool = False, log_x: bool = False
) -> "Figure":
    curves = _curves(arms)
    for arm, curve in curves.items():
        for x, mean in zip(curve.x, curve.mean, strict=True):
            if not math.isfinite(mean):
                raise InputError(f"{arm} has a value at {x:g} {xlabel} that is not finite: leave that fit out")
    with _style():
        figure: Figure = _module("figure").Figure(figsize=(WIDTH, HEIGHT), layout="constrained")
        axes = figure.add_subplot(title=title, xlabel=xlabel, ylabel=ylabel)
        _draw(axes, curves, _Scale.of(curves.values()), list(dict.fromkeys([*order, *curves])))
        if log_x:
            axes.set_xscale("log")
        if ticks:
            places = sorted({x for curve in curves.values() for x in curve.x})
            axes.set_xticks(places, [f"{x:,.0f}" for x in places])
            axes.set_xticks([], minor=True)
        # From the line that ends at the top to the one that ends lowest, as the eye meets them.
        _legend(figure, [axes], sorted(curves, key=lambda arm: -curves[arm].mean[-1]))
    return figure


def _draw(axes: "Axes", curves: Mapping[str, _Curve], scale: _Scale, names: Sequence[str]) -> None:
    ticker = _module("ticker")
    if scale.logarithmic:
        axes.set_yscale("log")
        if scale.high < 1000 * scale.low:
            axes.yaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
            axes.yaxis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:g}"))
            axes.yaxis.set_minor_locator(ticker.NullLocator())
        axes.yaxis.set_minor_formatter(ticker.NullFormatter())
    axes.set_ylim(scale.low, scale.high)
    for arm, (x, mean, half) in curves.items():
        number = names.index(arm)
        turn, place = divmod(number, len(COLOURS))
        colour, marker, dash = COLOURS[place], MARKERS[(place + 3 * turn) % len(MARKERS)], DASHES[turn % len(DASHES)]
        y = [scale.place(m) for m in mean]
        shown = marker if len(x) <= 15 else None
        axes.plot(x, y, color=colour, marker=shown, linestyle=dash, label=arm)
        if any(math.isfinite(h) and h > 0 for h in half):
            lower, upper = (
                [scale.place(m + sign * h) for m, h in zip(mean, half, strict=True)] for sign in (-1.0, 1.0)
            )
            axes.fill_between(x, lower, upper, color=colour, alpha=0.13, linewidth=0)
        for triangle, at_edge in (
            ("v", [m == 0 and scale.logarithmic for m in mean]),
            ("^", [not math.isfinite(m) for m in mean]),
        ):
            points = [(a, b) for a, b, there in zip(x, y, at_edge, strict=True) if there]
            if points:
                axes.plot(
                    *zip(*points, strict=True),
                    triangle,
                    color=colour,
                    markerfacecolor="white",
                    markersize=8,
                    clip_on=False,
                )


def _legend(figure: "Figure", all_axes: Sequence["Axes"], names: Sequence[str]) -> None:
    lines: dict[Any, Any] = {line.get_label(): line for axes in all_axes for line in axes.get_lines()}
    drawn = [name for name in names if name in lines]
    band = "mean, 95 % band" if any(len(axes.collections) for axes in all_axes) else None
    figure.legend([lines[name] for name in drawn], drawn, loc="outside right upper", title=band, alignment="left")


def _style() -> AbstractContextManager[None]:
    """The figure's own settings, whatever the user's are."""
    context: AbstractContextManager[None] = _module("style").context(["default", STYLE])
    return context


def _module(name: str) -> Any:
    try:
        return importlib.import_module(f"matplotlib.{name}")
    except ImportError as error:
        raise InputError(
            "figures are drawn by matplotlib, which is missing: install it with `pip install 'torch-dbn[plots]'`"
        ) from error
