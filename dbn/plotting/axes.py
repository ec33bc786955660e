"""Elements of figures: lines with bands, one color per arm, scales and legends. matplotlib is imported on first use."""

import importlib
import math
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, NamedTuple

from dbn.errors import InputError
from dbn.statistics import mean_interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Arms = Mapping[str, Mapping[float, Sequence[float]]]
"""By arm, by place on the x-axis: one value per seed."""

# Okabe & Ito (2008): distinct under every kind of color blindness. Without their yellow, which is faint on white.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#000000", "#56B4E9", "#E69F00")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
DASHES = ("-", "--", ":")
HOLLOW: dict[str, Any] = {"markerfacecolor": "white", "markersize": 8, "clip_on": False}
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
NOTHING = "there is nothing to draw: a figure needs an arm with at least one value"
LOG_FROM = 4.0
"""Values that differ by this factor get a logarithmic axis."""


class Curve(NamedTuple):
    """Mean over seeds and the half-width of its interval (0 for one seed), by place."""

    x: list[float]
    mean: list[float]
    half: list[float]


class Scale(NamedTuple):
    """Kind and ends of an axis."""

    logarithmic: bool
    low: float
    high: float

    @classmethod
    def of(cls, curves: Iterable[Curve]) -> "Scale":
        """The scale that shows all means, and as much of their bands as does not squeeze them."""
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
        """Where a value is drawn: at an edge, if the scale does not have it."""
        if not math.isfinite(value):
            return self.high
        return max(value, self.low) if self.logarithmic else value


def curves_of(arms: Arms) -> dict[str, Curve]:
    """InputError where there is nothing to draw."""
    found = {}
    for arm, places in arms.items():
        xs = sorted(x for x in places if len(places[x]))
        intervals = [mean_interval(places[x]) for x in xs]
        found[arm] = Curve(xs, [each.mean for each in intervals], [each.half_width or 0.0 for each in intervals])
    if not any(curve.x for curve in found.values()):
        raise InputError(NOTHING)
    return {arm: curve for arm, curve in found.items() if curve.x}


def draw(axes: "Axes", curves: Mapping[str, Curve], scale: Scale, names: Sequence[str]) -> None:
    """Lines and bands, colored by the order of `names`; triangles for what the scale cannot show."""
    ticker = module("ticker")
    if scale.logarithmic:
        axes.set_yscale("log")
        if scale.high < 1000 * scale.low:
            axes.yaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
            axes.yaxis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:g}"))
            axes.yaxis.set_minor_locator(ticker.NullLocator())
        axes.yaxis.set_minor_formatter(ticker.NullFormatter())
    axes.set_ylim(scale.low, scale.high)
    for arm, (x, mean, half) in curves.items():
        turn, place = divmod(names.index(arm), len(COLORS))
        color, marker, dash = COLORS[place], MARKERS[(place + 3 * turn) % len(MARKERS)], DASHES[turn % len(DASHES)]
        y = [scale.place(m) for m in mean]
        axes.plot(x, y, color=color, marker=marker if len(x) <= 15 else None, linestyle=dash, label=arm)
        if any(math.isfinite(h) and h > 0 for h in half):
            lower, upper = (
                [scale.place(m + sign * h) for m, h in zip(mean, half, strict=True)] for sign in (-1.0, 1.0)
            )
            axes.fill_between(x, lower, upper, color=color, alpha=0.13, linewidth=0)
        edges = ["^" if not math.isfinite(m) else "v" if m == 0 and scale.logarithmic else "" for m in mean]
        for triangle in "v^":
            if points := [(a, b) for a, b, edge in zip(x, y, edges, strict=True) if edge == triangle]:
                axes.plot(*zip(*points, strict=True), triangle, color=color, **HOLLOW)


def legend(figure: "Figure", all_axes: Sequence["Axes"], names: Sequence[str]) -> None:
    """The drawn arms, in the order of `names`, beside the panels."""
    lines: dict[Any, Any] = {line.get_label(): line for axes in all_axes for line in axes.get_lines()}
    drawn = [name for name in names if name in lines]
    band = "mean, 95 % band" if any(len(axes.collections) for axes in all_axes) else None
    figure.legend([lines[name] for name in drawn], drawn, loc="outside right upper", title=band, alignment="left")


def style() -> AbstractContextManager[None]:
    """The figures' settings in place of the user's."""
    context: AbstractContextManager[None] = module("style").context(["default", STYLE])
    return context


def module(name: str) -> Any:
    """A module of matplotlib; InputError if that is missing."""
    try:
        return importlib.import_module(f"matplotlib.{name}")
    except ImportError as error:
        raise InputError(
            "figures are drawn by matplotlib, which is missing: install it with `pip install 'torch-dbn[plots]'`"
        ) from error
