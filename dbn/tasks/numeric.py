"""What tasks share whose targets are columns of numbers: matching by name, and the rows that have all targets."""

from collections.abc import Sequence

from torch import Tensor

from dbn.data.examples import is_labeled
from dbn.data.splits import Splits
from dbn.errors import InputError, listed


def known_rows(names: Sequence[str], outputs: Tensor, data: Splits) -> tuple[Tensor, Tensor] | None:
    """Outputs and targets of the rows of `data.train` that have all targets, in the order `names`; None without any.

    Several targets are matched by name where the data name them. InputError for others than the network's.
    """
    y = data.train.y
    if y is None:
        return None
    if y.shape[1] != len(names):
        raise InputError(
            f"{data.name} has {y.shape[1]} target{'s' * (y.shape[1] > 1)}, but the network predicts "
            f"{len(names)}, {listed(names, 5)}: name these with --label-column, or none"
        )
    if len(names) > 1 and data.targets != tuple(names):
        if set(data.targets) == set(names):
            y = y[:, [data.targets.index(name) for name in names]]
        elif "y1" not in (data.targets[0], names[0]):
            raise InputError(
                f"{data.name} has the targets {listed(data.targets, 5)}, but the network predicts {listed(names, 5)}: "
                "name these with --label-column"
            )
    there = is_labeled(y)
    return (outputs[there], y[there]) if there.any() else None
