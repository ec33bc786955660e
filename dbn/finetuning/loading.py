"""The problem of a configuration: its data on the scale of its stacks, on one device."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch

from dbn.columns import Column
from dbn.config.finetuning import FinetuneConfig, Finetuning
from dbn.data.splits import Splits
from dbn.errors import InputError
from dbn.finetuning.problem import Problem
from dbn.models.dbn import DBN
from dbn.models.matching import match
from dbn.models.scaling import Scaling
from dbn.models.values import as_float, place_of, to_fractions
from dbn.runs.training_data import splits_for
from dbn.runs.weights import load
from dbn.tasks import TASKS
from dbn.training import distributed
from dbn.training.device import pick_device

LOGGER = logging.getLogger(__name__)


def on_device(splits: Splits, device: torch.device) -> Splits:
    """The splits of fine-tuning on a device, after a word on weights, which are for pre-training."""
    if splits.train.weights is not None and distributed.is_main():
        LOGGER.info("%s: fine-tuning counts all rows alike, whatever their weights", splits.name)
    parts = {name: getattr(splits, name) for name in ("train", "valid", "test")}
    return replace(splits, **{name: part and part.to(device) for name, part in parts.items()})


def matched(
    splits: Splits, stacks: Sequence[DBN], *, standardize: bool = False, resumed: bool = False
) -> tuple[Splits, Scaling]:
    """The splits with their columns in the stacks' order, and the scaling to the values that the stacks take.

    Without stacks, that of the training rows. InputError for stacks whose scaling differs, and as for
    `dbn.models.matching.match` for data that do not fit; without stacks for values outside [0, 1], unless they are
    standardized or the run is `resumed`: earlier ones took real values as they are.
    """
    x, name, given = splits.train.x, splits.name, splits.divisor if splits.divisor_given else None
    if stacks:
        known: dict[str, Any] = {"columns": splits.columns, "table": splits.table}
        where = partial(splits.train.where, name=name)
        found = [stack.match(x, name, divisor=given, where=where, **known) for stack in stacks]
        scaling, order, notes = found[0]
        for part in splits.parts.values() if not splits.unchecked else ():  # of which none may be wrong
            where = partial(part.where, name=name)
            stacks[0].match(part.x, name, divisor=scaling.divisor, where=where, **known)
        for stack, other in zip(stacks, found, strict=True):
            is_alike = (other.scaling.divisor, other.order) == (scaling.divisor, order)
            if not is_alike or not stack.scaling.standardizes_as(scaling):
                raise InputError("the pre-trained stacks scale their data differently: train all on one data set")
        splits = splits.with_columns(order)
        bounded = scaling.shift is None and stacks[0].takes_fractions
    else:
        scaling = Scaling.fitted(x, splits.divisor, splits.columns, standardized=standardize)
        notes, bounded = (scaling.constants(name),), not standardize and not (resumed and x.dtype == torch.float32)
    for note in filter(None, notes if distributed.is_main() else ()):
        LOGGER.info("%s", note)
    for purpose, part in splits.parts.items() if bounded and not splits.unchecked else ():
        ends = part.x.aminmax()
        least, greatest = (float(as_float(end, scaling.divisor)) for end in ends)
        if least < 0 or greatest > 1:
            outside = ends.min if least < 0 else ends.max
            place = part.where(*place_of(part.x, float(outside)), name)
            raise InputError(
                f"{name}: {purpose} values go from {least:g} to {greatest:g}, {outside:g} in {place}, but fine-tuning "
                f"needs values in [0, 1]: {to_fractions(least, greatest)}"
                + ("" if stacks else ", or use --standardize for real values")
            )
    for key, others in splits.brought.items():
        where = partial(others.where, name=name)
        match(scaling, others.x, f"{name}: {key}", width=x.shape[1], divisor=given, bounded=bounded, where=where)
    return splits, scaling


def kinds_of(stacks: Sequence[DBN]) -> dict[str, Column] | None:
    """What the columns of the table are that the stacks were trained on, None for other data."""
    return stacks[0].scaling.kinds if stacks else None


def load_problem(config: FinetuneConfig) -> Problem:
    """The data set and the stacks that a configuration names, on its device.

    Without a data set, that of the first stack. InputError as for `load_splits`, `load` and `make_problem`.
    """
    device = pick_device(config.device)
    stacks = [load(path) for path in config.pretrained]
    kinds, task = kinds_of(stacks), config.training.task
    splits = splits_for(config.dataset, config.pretrained, task=task, kinds=kinds, **config.reading())
    return make_problem(splits, stacks, config.hidden, config.training, device, resumed=config.resume)


def make_problem(
    splits: Splits,
    stacks: Sequence[DBN],
    hidden: Sequence[int] | None,
    config: Finetuning,
    device: torch.device,
    *,
    resumed: bool = False,
) -> Problem:
    """The problem on a device, with the stacks' hidden layers where there are stacks; these are moved and frozen.

    InputError as for `Problem` and `Problem.check_initializers`.
    """
    splits, scaling = matched(splits, stacks, standardize=config.standardize, resumed=resumed)
    stacks = tuple(stack.requires_grad_(False).to(device) for stack in stacks)
    layers = stacks[0].sizes[1:] if stacks else hidden or ()
    own = TASKS[config.task].prepared(splits, scaling)
    given = splits if own is not splits else None
    problem = Problem(on_device(own, device), scaling.to(device), tuple(layers), stacks, config, given)
    problem.check_initializers()
    return problem
