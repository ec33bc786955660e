"""Tables of how signals pass through the layers."""

from collections.abc import Mapping, Sequence

from dbn.errors import InputError
from dbn.finetuning.signal_propagation import LayerSignal
from dbn.text_tables import plain_table

COLUMNS = (
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
FACTORS = ("forward ×", "by example ×", "backward ×")


def table(signals: Sequence[LayerSignal]) -> str:
    """The layers of a network, one per line. Spreads are standard deviations, gradients in nats."""
    rows = [
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
        for number, signal in enumerate(signals, start=1)
    ]
    return plain_table(COLUMNS, rows)


def comparison_table(arms: Mapping[str, Mapping[str, Sequence[LayerSignal]]]) -> str:
    """The networks of a study, one line per arm and moment of training: how signals pass through the hidden layers.

    Factors are geometric means per layer: of the forward spread (all, and about each unit's mean) from the first
    hidden layer to the last, of the backward spread the other way. 1 keeps the signal, less lets it vanish, more lets
    it explode; empty where nothing passes, and left out where every network has one hidden layer. Then the share of
    the layer with most saturated activations, of the one with most dead units, and the mean singular value.

    Raises:
        InputError: a network without hidden layers.
    """
    deep = any(len(signals) != 2 for moments in arms.values() for signals in moments.values())
    rows = []
    for name, moments in arms.items():
        for place, (moment, signals) in enumerate(moments.items()):
            hidden = signals[:-1]
            if not hidden:
                raise InputError(f"{name} has no hidden layer, whose signals could be compared")
            first, last, steps = hidden[0], hidden[-1], len(hidden) - 1
            spreads = (
                (first.z_std, last.z_std),
                (first.example_std, last.example_std),
                (last.gradient_std, first.gradient_std),
            )
            factors = [f"{(end / start) ** (1 / steps):.3g}" if steps and start > 0 else "" for start, end in spreads]
            rows.append(
                (
                    "" if place else name,
                    moment,
                    *(factors if deep else ()),
                    f"{100 * max(signal.saturated for signal in hidden):.1f} %",
                    f"{100 * max(signal.dead for signal in hidden):.1f} %",
                    f"{sum(signal.singular_mean for signal in hidden) / len(hidden):.3g}",
                )
            )
    return plain_table(("arm", "when", *(FACTORS if deep else ()), "saturated or off", "dead", "singular value"), rows)
