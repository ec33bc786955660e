"""What the figures of a study show: the numbers behind every line, band and axis."""

import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from dbn.errors import InputError
from dbn.finetuning.signal_propagation import LayerSignal
from dbn.plotting import figures as plots
from dbn.plotting.figures import error_against_depth, error_against_labels, learning_curves, save, signal_by_layer
from dbn.statistics import mean_interval

ERRORS: dict[str, dict[float, list[float]]] = {
    "dbn": {1000: [8.0, 8.2, 8.4], 100: [17.0, 18.0, 19.0], 60000: [1.2]},
    "he_normal": {100: [21.0, 20.0, 22.0], 1000: [9.0, 8.5, 9.5], 60000: [1.6]},
    "xavier_uniform": {100: [26.0, 27.0], 1000: [12.0, 11.0]},
}


def depth(arms: Any, **options: Any) -> Figure:
    return error_against_depth({"": arms}, **options)


DRAW: dict[str, Callable[..., Figure]] = {
    "labels": error_against_labels,
    "depth": depth,
    "curves": learning_curves,
}
each_figure = pytest.mark.parametrize("name", DRAW)


def lines(axes: Axes) -> dict[str, tuple[list[float], list[float]]]:
    """x and y of every arm's line."""
    return {
        str(line.get_label()): (list(map(float, line.get_xdata())), list(map(float, line.get_ydata())))
        for line in axes.get_lines()
        if not str(line.get_label()).startswith("_")
    }


def band(axes: Axes, number: int) -> dict[float, tuple[float, float]]:
    """Lower and upper end at every place of the number-th band."""
    corners = axes.collections[number].get_paths()[0].vertices
    return {x: (corners[corners[:, 0] == x, 1].min(), corners[corners[:, 0] == x, 1].max()) for x in set(corners[:, 0])}


def all_finite(figure: Figure) -> bool:
    ys = [y for axes in figure.axes for line in axes.get_lines() for y in line.get_ydata()]
    corners = [each.get_paths()[0].vertices for axes in figure.axes for each in axes.collections]
    return bool(np.isfinite(ys).all()) and all(bool(np.isfinite(each).all()) for each in corners)


def legend(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


@each_figure
def test_lines_are_means_and_bands_their_intervals(name: str) -> None:
    arms = {arm: {x: values for x, values in places.items() if len(values) > 1} for arm, places in ERRORS.items()}
    figure = DRAW[name](arms)
    (axes,) = figure.axes
    assert list(lines(axes)) == list(arms)
    for number, (arm, places) in enumerate(arms.items()):
        x, y = lines(axes)[arm]
        assert x == sorted(places)
        assert y == [mean_interval(places[each]).mean for each in x]
        for place, (lower, upper) in band(axes, number).items():
            mean, half = mean_interval(places[place])
            assert half is not None
            low, high = axes.get_ylim()
            assert (lower, upper) == pytest.approx((max(mean - half, low), mean + half))
            assert low < mean < high
    assert all_finite(figure)
    assert figure.legends[0].get_title().get_text() == "mean, 95 % band"


def test_panels_stand_side_by_side_on_one_scale() -> None:
    other = {"dbn": {1: [90.0, 91.0]}, "he_normal": {1: [3.0, 4.0], 3: [2.0, 2.5]}}
    figure = error_against_depth({"tanh": ERRORS, "relu": other}, title="MNIST", order=["relu", "he_normal"])
    left, right = figure.axes
    assert (left.get_title(), right.get_title(), figure.get_suptitle()) == ("tanh", "relu", "MNIST")
    assert (left.get_ylabel(), right.get_ylabel()) == ("test error (%)", "")
    assert left.get_ylim() == right.get_ylim()
    assert left.get_ylim()[0] < 1.2
    assert right.get_ylim()[1] > 90.5
    assert lines(right)["he_normal"] == ([1, 3], [3.5, 2.25])
    colors = [{line.get_label(): line.get_color() for line in axes.get_lines()} for axes in figure.axes]
    assert colors[0]["dbn"] == colors[1]["dbn"] != colors[0]["he_normal"] == colors[1]["he_normal"]
    assert legend(figure) == ["dbn", "xavier_uniform", "he_normal"]  # dbn by the panel that was drawn last


def test_a_place_with_one_seed_has_no_band() -> None:
    (axes,) = error_against_labels(ERRORS).axes
    assert band(axes, 0)[60000] == (1.2, 1.2)
    alone = error_against_labels({"dbn": {100: [17.0], 300: [12.0]}})
    assert not alone.axes[0].collections
    assert alone.legends[0].get_title().get_text() == ""


@pytest.mark.parametrize(("name", "xlabel"), [("labels", "labeled training examples"), ("depth", "hidden layers")])
def test_axes_say_what_they_show(name: str, xlabel: str) -> None:
    figure = DRAW[name](ERRORS, title="MNIST")
    (axes,) = figure.axes
    assert (axes.get_title(), axes.get_xlabel(), axes.get_ylabel()) == ("MNIST", xlabel, "test error (%)")
    assert axes.get_xscale() == ("log" if name == "labels" else "linear")
    assert list(axes.get_xticks()) == [100, 1000, 60000]
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["100", "1,000", "60,000"]
    assert legend(figure) == ["xavier_uniform", "he_normal", "dbn"]  # as the lines end, from top to bottom
    curve = learning_curves(ERRORS, ylabel="loss (nats)").axes[0]
    assert (curve.get_xlabel(), curve.get_ylabel()) == ("epoch", "loss (nats)")


@pytest.mark.parametrize(
    ("values", "scale"),
    [([1.2, 1.5], "linear"), ([1.2, 90.0], "log"), ([2.0, 8.0], "log"), ([0.0, 0.0], "linear"), ([3.0, 3.0], "linear")],
)
def test_errors_that_differ_much_are_on_a_logarithmic_axis(values: list[float], scale: str) -> None:
    (axes,) = depth({"dbn": {depth: [value] for depth, value in enumerate(values, start=1)}}).axes
    low, high = axes.get_ylim()
    assert axes.get_yscale() == scale
    assert low <= min(values) <= max(values) < high
    assert lines(axes)["dbn"][1] == values


def test_a_logarithmic_axis_reads_in_plain_numbers() -> None:
    figure = depth({"dbn": {1: [1.5], 2: [90.0]}})
    figure.draw_without_rendering()
    (axes,) = figure.axes
    low, high = axes.get_ylim()
    shown = [
        tick.get_text() for tick, y in zip(axes.get_yticklabels(), axes.get_yticks(), strict=True) if low < y < high
    ]
    assert shown == ["2", "5", "10", "20", "50", "100"]


def test_a_wide_band_does_not_squeeze_the_lines() -> None:
    (axes,) = depth({"dbn": {1: [2.0, 2.4], 2: [20.0, 80.0]}, "he": {1: [4.0], 2: [10.0]}}).axes
    low, high = axes.get_ylim()  # the interval of the second place is 50 ± 381
    assert low > 0.5
    assert high < 100
    assert band(axes, 0)[2.0][0] == pytest.approx(low)


def test_learning_curves_end_with_their_first_seed() -> None:
    arms: dict[str, Any] = {"dbn": {1: [9.0, 8.0], 2: [7.0, 6.0], 3: [1.0]}, "he": {1: [9.0], 2: [8.0], 3: [7.0]}}
    found = lines(learning_curves(arms).axes[0])
    assert found == {"dbn": ([1, 2], [8.5, 6.5]), "he": ([1, 2, 3], [9, 8, 7])}


def test_every_arm_looks_different_and_alike_in_all_figures() -> None:
    many = {f"arm{number}": {1: [float(number + 1)], 2: [float(number + 2)]} for number in range(21)}
    axes = depth(many).axes[0]
    looks = {each.get_label(): (each.get_color(), each.get_marker(), each.get_linestyle()) for each in axes.get_lines()}
    assert len({(color, marker) for color, marker, _ in looks.values()}) == 21
    few = depth({"new": many["arm0"], "arm9": many["arm9"]}, order=list(many)).axes[0].get_lines()
    assert (few[1].get_color(), few[1].get_marker(), few[1].get_linestyle()) == looks["arm9"]
    assert few[0].get_label() == "new"


def layers(*values: float) -> list[dict[str, float]]:
    """One seed's layers, in which every signal has the same value, and an output layer that is not to be seen."""
    return [LayerSignal(*[value] * len(LayerSignal._fields))._asdict() for value in (*values, 77.0)]


SIGNALS = {"he_normal": [layers(1.0, 1.5, 2.0), layers(2.0, 2.5, 3.0)], "normal": [layers(1.0, 1e-4, 1e-8)] * 2}


def test_signals_by_layer() -> None:
    figure = signal_by_layer({"at the start": SIGNALS}, title="ReLU")
    assert [axes.get_ylabel() for axes in figure.axes] == [
        "std of pre-activations",
        "std over examples",
        "std of ∂loss/∂z (nats)",
        "mean singular value",
    ]
    assert [axes.get_xlabel() for axes in figure.axes] == ["", "", "hidden layer", "hidden layer"]
    for axes in figure.axes:
        assert axes.get_yscale() == "log"
        assert lines(axes) == {
            "he_normal": ([1, 2, 3], [1.5, 2.0, 2.5]),
            "normal": ([1, 2, 3], pytest.approx([1.0, 1e-4, 1e-8])),
        }
    assert legend(figure) == ["he_normal", "normal"]
    assert figure.get_suptitle() == "ReLU"


def test_a_column_a_moment_and_a_row_a_quantity() -> None:
    moments = {
        "at the start": {"he": [[{**layer, "gradient_std": 1e6 * layer["z_std"]} for layer in layers(1.0, 0.5)]]},
        "after": {"he": [layers(4.0, 0.25)], "normal": [layers(0.1, 0.1)]},
    }
    figure = signal_by_layer(moments, quantities=["saturated", "gradient_std", "z_std"])
    assert len(figure.axes) == 6
    start, after = figure.axes[0], figure.axes[1]
    assert [axes.get_title() for axes in figure.axes] == ["at the start", "after", *[""] * 4]
    assert [axes.get_ylabel() for axes in figure.axes[::2]] == [
        "saturated or off (%)",
        "std of ∂loss/∂z (nats)",
        "std of pre-activations",
    ]
    assert (lines(start)["he"][1], start.get_yscale()) == ([100.0, 50.0], "linear")
    assert lines(after) == {"he": ([1, 2], [400.0, 25.0]), "normal": ([1, 2], [10.0, 10.0])}
    left, right = figure.axes[2], figure.axes[3]
    assert left.get_ylim() == right.get_ylim()  # or the eye would compare what cannot be compared
    assert left.get_ylim()[0] < 0.1
    assert left.get_ylim()[1] > 1e6
    assert 4.0 < figure.axes[4].get_ylim()[1] < 10.0
    assert legend(figure) == ["he", "normal"]


def test_an_odd_number_of_panels_leaves_no_empty_one() -> None:
    assert len(signal_by_layer({"start": SIGNALS}, quantities=["z_std", "dead", "example_std"]).axes) == 3
    assert len(signal_by_layer({"start": SIGNALS}, quantities=["z_std"]).axes) == 1


def test_what_a_logarithmic_axis_cannot_show_is_at_its_edges() -> None:
    arms = {
        "he": [layers(1.0, 2.0, 5.0)],
        "zeros": [layers(1.0, 0.0, 0.0)],
        "normal": [layers(1e3, math.inf, math.nan)] * 2,
    }
    figure = signal_by_layer({"start": arms}, quantities=["z_std"])
    (axes,) = figure.axes
    low, high = axes.get_ylim()
    assert low < 1.0
    assert lines(axes)["zeros"][1] == [1.0, low, low]
    assert lines(axes)["normal"][1] == [1e3, high, high]
    marks = [line for line in axes.get_lines() if str(line.get_label()).startswith("_")]
    assert {line.get_marker(): list(map(float, line.get_xdata())) for line in marks} == {"v": [2, 3], "^": [2, 3]}
    assert all_finite(figure)
    assert legend(figure) == list(arms)
    nothing = signal_by_layer({"start": {"zeros": [layers(0.0, 0.0)]}}, quantities=["z_std"]).axes[0]
    assert (nothing.get_yscale(), lines(nothing)["zeros"][1]) == ("linear", [0.0, 0.0])


def test_the_same_figure_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a.png", "new/b.png"):
        save(error_against_labels(ERRORS, title="MNIST"), tmp_path / name)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "new" / "b.png").read_bytes()
    with Image.open(tmp_path / "a.png") as image:
        assert image.format == "PNG"
        assert image.size == (round(160 * plots.WIDTH), round(160 * plots.HEIGHT))
        assert "Software" not in image.info
        assert len(np.unique(np.asarray(image.convert("RGB")).reshape(-1, 3), axis=0)) > 100
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "new"]


def test_the_user_s_settings_change_nothing_and_stay(tmp_path: Path) -> None:
    import matplotlib as mpl

    save(depth(ERRORS), tmp_path / "a.png")
    with mpl.rc_context({"font.size": 30, "savefig.dpi": 20, "lines.linewidth": 9, "axes.facecolor": "red"}):
        save(depth(ERRORS), tmp_path / "b.png")
        assert mpl.rcParams["font.size"] == 30
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda: error_against_labels({}), "nothing to draw"),
        (lambda: learning_curves({"dbn": {}}), "nothing to draw"),
        (lambda: depth({"dbn": {1: []}}), "nothing to draw"),
        (lambda: signal_by_layer({}), "nothing to draw"),
        (lambda: signal_by_layer({"start": {}}), "nothing to draw"),
        (lambda: signal_by_layer({"start": SIGNALS}, quantities=[]), "nothing to draw"),
        (
            lambda: signal_by_layer({"start": SIGNALS}, quantities=["colour"]),
            "no figure of 'colour': choose from z_std",
        ),
        (lambda: error_against_labels({"he": {10: [math.nan, 1.0]}}), "he has a value at 10 labeled .* not finite"),
    ],
)
def test_what_cannot_be_drawn_is_a_sentence(draw: Callable[[], Figure], message: str) -> None:
    with pytest.raises(InputError, match=message):
        draw()


def test_a_picture_that_cannot_be_written_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for name in ("file/a.png", "."):
        with pytest.raises(InputError, match=r"cannot be (written|made)"):
            save(error_against_labels(ERRORS), tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@each_figure
def test_without_matplotlib_the_sentence_names_the_extra(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in [each for each in sys.modules if each.split(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(
        InputError, match=r"matplotlib, which is missing: install it with `pip install 'torch-dbn\[plots\]'`"
    ):
        DRAW[name](ERRORS)
