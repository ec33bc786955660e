"""Tables of how signals pass through the layers."""

from collections.abc import Mapping, Sequence

from dbn.errors import InputError
from dbn.finetuning.signal_propagation import LayerSignal
from dbn.text_tables import columns


def table(signals: Sequence[LayerSignal]) -> str:
    """The layers of a network, a line each. Spreads are standard deviations, gradients in nats."""
    rows = [
        (
            "layer",
            "pre-activation",
            "by example",
            "activation",
            "saturated or off",
            "dead",
            "gradient",
            "weight gradient",
            "singular values",
            "largest",
        )
    ]
    for number, signal in enumerate(signals, start=1):
        rows.append(
            (
                str(number) if number < len(signals) else "output",
                f"{signal.z_mean:.2g} ± {signal.z_std:.3g}",
                f"{signal.example_std:.3g}",
                f"{signal.h_mean:.2g} ± {signal.h_std:.3g}",
                f"{100 * signal.saturated:.1f} %",
                f"{100 * signal.dead:.1f} %",
                f"{signal.gradient_std:.3g}",
                f"{signal.weight_gradient_std:.3g}",
                f"{signal.singular_mean:.3g} ± {signal.singular_std:.3g}",
                f"{signal.singular_max:.3g}",
            )
        )
    return columns(rows)


def comparison_table(arms: Mapping[str, Mapping[str, Sequence[LayerSignal]]]) -> str:
    """Networks of a study by arm and moment of training, a line each: what becomes of signals in the hidden layers.

    Factors are geometric means: of the forward spread (all, and about each unit's mean) from the first hidden layer
    to the last, of the backward spread the other way. 1 keeps the signal, less lets it vanish, more lets it explode;
    empty where nothing passes, and left out where every network has one hidden layer. Then the layer with most
    saturated activations, the one with most dead units, and the mean singular value over hidden layers.
    """
    factors = ("forward ×", "by example ×", "backward ×")
    rows: list[tuple[str, ...]] = [("arm", "when", *factors, "saturated or off", "dead", "singular value")]
    for name, moments in arms.items():
        for place, (moment, signals) in enumerate(moments.items()):
            hidden = signals[:-1]
            if not hidden:
                raise InputError(f"{name} has no hidden layer, whose signals could be compared")
            first, last = hidden[0], hidden[-1]
            rows.append(
                (
                    "" if place else name,
                    moment,
                    _factor(first.z_std, last.z_std, len(hidden) - 1),
                    _factor(first.example_std, last.example_std, len(hidden) - 1),
                    _factor(last.gradient_std, first.gradient_std, len(hidden) - 1),
                    f"{100 * max(signal.saturated for signal in hidden):.1f} %",
                    f"{100 * max(signal.dead for signal in hidden):.1f} %",
                    f"{sum(signal.singular_mean for signal in hidden) / len(hidden):.3g}",
                )
            )
    if all(len(signals) == 2 for moments in arms.values() for signals in moments.values()):
        rows = [row[:2] + row[2 + len(factors) :] for row in rows]
    return columns(rows)


def _factor(start: float, end: float, steps: int) -> str:
    return f"{(end / start) ** (1 / steps):.3g}" if steps and start > 0 else ""
