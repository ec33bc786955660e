"""The rule that chooses options left out from the size of the data.

Training learns by updates. Few examples get small batches, and as many epochs as give the updates that 9,000 examples
get in batches of 100; what is counted in epochs, such as the warm-up, is stretched alike. From 9,000 rows on all are
constants. docs/defaults.md has the measurements.
"""

import math
from collections.abc import Sequence
from typing import Any

from dbn.config.common import ADAPTIVE_RATE
from dbn.config.validation import option_name, values_of

LEAST_BATCH, MOST_BATCH, BATCHES = 10, 100, 50
"""A batch is one part of so many of the examples, within these bounds."""
HIDDEN, ROWS_PER_UNIT, LEAST_UNITS = (500, 500, 2000), 4, 10
"""Hidden units of the layers where there are so many rows for each, and the least number."""
PRETRAINING_EPOCHS, FINETUNING_EPOCHS = 10, 50
FULL_BATCH_EPOCHS = 15
"""The least number with the greatest batches, whose rate is twice as high; warm-up and momentum stay those of 10."""
PRETRAINING_UPDATES, FINETUNING_UPDATES = 90, 10
"""The least number of updates that count as one of those epochs."""


def batch_for(examples: int) -> int:
    """Examples per step.

    >>> [batch_for(n) for n in (108, 1294, 9000)]
    [10, 25, 100]
    """
    return min(max(examples // BATCHES, LEAST_BATCH), MOST_BATCH)


def hidden_layers(rows: int) -> tuple[int, ...]:
    """Hidden units of each layer.

    >>> hidden_layers(108), hidden_layers(8000)
    ((27, 27, 27), (500, 500, 2000))
    """
    return tuple(min(units, max(rows // ROWS_PER_UNIT, LEAST_UNITS)) for units in HIDDEN)


def sgd_rates(batch: int) -> tuple[float, ...]:
    """Learning rates of fine-tuning that every arm selects from: the steps of small batches are noisier.

    >>> sgd_rates(10), sgd_rates(100)
    ((0.03, 0.1), (0.1,))
    """
    return (0.1,) if batch >= MOST_BATCH else (0.03, 0.1)


def default_rates(optimizer: str, batch: int, *, persistent: bool) -> tuple[float | str, float | str]:
    """Learning rates of pre-training, for binary and for Gaussian units, whose gradients grow with the number of
    correlated columns: 0.03 diverges on 3,072 of them with momentum 0.9. The steps of small batches are noisier.

    Persistent chains fall behind a model that moves with momentum; with none and a rate that falls to 0, they follow.

    >>> default_rates("sgd", 25, persistent=False), default_rates("sgd", 100, persistent=False)
    ((0.1, 0.01), (0.2, 0.01))
    >>> default_rates("sgd", 100, persistent=True)
    ('0.4:0', '0.1:0')
    """
    if optimizer != "sgd":
        return ADAPTIVE_RATE, ADAPTIVE_RATE
    if persistent:
        return "0.4:0", "0.1:0"
    return 0.2 if batch >= MOST_BATCH else 0.1, 0.01


def label_rate(plain: float, generative_weight: float, *, wide: bool, persistent: bool = False) -> str:
    """The rate of SGD for label models that learn p(y | x), from that of an RBM between the same units.

    Both parts of the loss have one rate. That of p(y | x) is small where rows are classified well, and takes 30 times
    the rate of an RBM of states, 10 times that of real numbers (wide), as long as the generative part, which counts
    generative_weight times, learns no faster than alone. It falls to 0: at a constant rate errors stay twice as high.
    With persistent chains, which have no momentum, that beside real numbers is ten times as high.

    >>> label_rate(0.1, 0.01, wide=False), label_rate(0.01, 0.01, wide=True), label_rate(0.1, 1.0, wide=False)
    ('3:0', '0.1:0', '0.1:0')
    """
    most = (1.0 if persistent else 0.1) if wide else 3.0
    return f"{min(most, plain / generative_weight) if generative_weight else most:g}:0"


def stretch(examples: int, batch: int, updates: int) -> float:
    """The factor of default epochs, at least 1, with which one of them has so many updates.

    >>> stretch(144, 10, 90), stretch(9000, 100, 90)
    (6.0, 1.0)
    """
    return max(updates / math.ceil(examples / batch), 1.0)


def of_pretraining(rows: int, batch: int, epochs: Sequence[int] | None) -> dict[str, Any]:
    """What is counted in epochs, for so many training rows; `epochs` are those given.

    >>> of_pretraining(144, 10, None)
    {'epochs': (60,), 'warmup_epochs': 6, 'momentum': '0.5,0.9@31', 'measure_every': 6, 'picture_every': 30}
    """
    longer = stretch(rows, batch, PRETRAINING_UPDATES)
    least = FULL_BATCH_EPOCHS if batch >= MOST_BATCH else PRETRAINING_EPOCHS
    epochs = epochs or (max(math.ceil(PRETRAINING_EPOCHS * longer), least),)
    # Of fewer epochs than that, the same parts; 1 epoch and 5 are of all that are given for many rows.
    longer = min(longer, max(min(epochs) / PRETRAINING_EPOCHS, 1.0))
    return {
        "epochs": epochs,
        "warmup_epochs": int(longer),
        "momentum": f"0.5,0.9@{int(5 * longer) + 1}",
        "measure_every": int(longer),
        "picture_every": int(5 * longer),
    }


def finetuning_epochs(labels: int, batch: int) -> int:
    """Passes over so many labeled examples.

    >>> [finetuning_epochs(n, batch_for(n)) for n in (50, 1000, 55000)]
    [100, 50, 50]
    """
    return math.ceil(FINETUNING_EPOCHS * stretch(labels, batch, FINETUNING_UPDATES))


def left_out(config: Any) -> list[str]:
    """The options without a value that depend on the data or on others."""
    return [name for name in config.CHOSEN_BY_DATA if getattr(config, name) is None]


def told(given: Any, filled: Any) -> str:
    """What was chosen for `filled` that `given` leaves out, as options: "--batch-size 10 --epochs 60"."""
    chosen = [(name, values_of(filled, name)) for name in left_out(given)]
    options = [(name, values) for name, values in chosen if values and values[0] is not False]
    return " ".join(
        " ".join([option_name(name), *(str(v) for v in values if v is not True)]) for name, values in options
    )
