"""Divergence of an RBM in training."""

import torch
from torch import Tensor

from dbn.errors import InputError
from dbn.models.rbm import LARGEST, RBM
from dbn.models.units.base import Units

HARDLY = 0.2
"""Of the mean: columns that deviate less from it hardly vary."""


class Diverged(InputError):
    """The parameters are non-finite or too large, or Z is infinite."""


@torch.no_grad()
def divergence(rbm: RBM, kept: RBM, x: Tensor) -> str:
    """What is wrong with the parameters or with the reconstructions of x (B, V), or with Z, of `kept` too; or ""."""
    natural = (*rbm.visible.natural().values(), *rbm.hidden.natural().values())
    values = (*rbm.parameters(), *natural, rbm.down(rbm.up(x)))
    if not torch.stack([(value.abs() < LARGEST).all() for value in values]).all():  # NaN is not less either
        return f"its values are infinite or beyond {LARGEST:g}"
    if not (rbm.has_partition() and kept.has_partition()):
        return f"its {rbm.visible.kind} and {rbm.hidden.kind} units are coupled so strongly that Z is infinite"
    return ""


def other_remedy(visible: Units, layer: int, mean: Tensor, variance: Tensor, greatest: float) -> str:
    """What helps, beside a lower rate, units that have diverged on data with these moments: "…, or ", or ""."""
    if visible.quadratic_precision() is None or sum(1 for _ in visible.of_data()) > 1:
        return ""
    least = float((variance.sqrt() / mean.abs()).nan_to_num(torch.inf).min())
    # The bias and the precision of what hardly varies are high, and the gradient of one moves with the other.
    varies = least < HARDLY and (layer > 1 or not visible.standardized)
    by = f"vary by as little as {least:.1g} of their mean"
    if layer > 1 and (varies or visible.nonnegative):
        features = f", whose features {by}" if varies else ""
        return f"train layer {layer - 1} with other --hidden-units than {visible.kind}{features}, or "
    if varies:
        return f"subtract from the columns, which {by}, what all rows have in common, or "
    if visible.nonnegative and greatest > 1:
        return f"divide the data, here up to {greatest:g}, with --divisor max, or "
    return ""
