"""Divergence of an RBM in training."""

import torch
from torch import Tensor

from dbn.errors import InputError
from dbn.models.rbm import LARGEST, RBM


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
