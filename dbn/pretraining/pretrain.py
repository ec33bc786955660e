"""Greedy layer-by-layer training of a stack: each RBM learns the features of the trained ones below.

Hinton, Osindero & Teh (2006); Bengio et al. (2006), "Greedy layer-wise training of deep networks".
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import fields, replace
from functools import partial
from itertools import pairwise
from numbers import Integral
from pathlib import Path
from typing import Any, Unpack

import torch
from torch import Tensor

from dbn.arrays import observed_ends
from dbn.columns import units_of_table
from dbn.config.common import ALIASES, to_dict
from dbn.config.pretraining import Pretraining
from dbn.config.validation import several
from dbn.data.binarize import binarize
from dbn.data.checks import Array
from dbn.data.cut import splits_from_arrays
from dbn.data.rows import Rows, in_memory
from dbn.data.splits import Divisor, Splits
from dbn.errors import InputError, listed, naming_arguments, offering_missing
from dbn.models.dbn import DBN
from dbn.models.idle import idle_layers, idle_sentence
from dbn.models.matching import match
from dbn.models.missing import Missing
from dbn.models.rbm import RBM
from dbn.models.scaling import Scaling
from dbn.models.units.base import Units
from dbn.models.units.mixed import Mixed
from dbn.models.units.naming import units_for
from dbn.models.values import as_float, place_of
from dbn.pretraining.kept_rows import keep
from dbn.pretraining.layer_data import ROWS_AT_ONCE, Unlabeled
from dbn.pretraining.options import PretrainArguments, PretrainingOptions
from dbn.pretraining.penalties import penalties
from dbn.pretraining.stack import begin_pretraining, new_rbms, pretrain_stack
from dbn.registry import check_options
from dbn.rng import fixed_subset, stream
from dbn.runs.resume import started_with
from dbn.storage.files import as_path
from dbn.text_tables import plain_table
from dbn.training import distributed
from dbn.training.checkpoint_control import Callback, check_callback
from dbn.training.device import matmul_dtype, pick_device

LOGGER = logging.getLogger(__name__)
OPTIONS = [each.name for each in fields(Pretraining)]
LEAST_WEIGHT = 1e-20
"""Of a row, where the mean is 1."""


def pretrain(
    x: Array,
    hidden: int | Sequence[int] | None = None,
    *,
    run: Path | str | None = None,
    resume: bool = False,
    overwrite: bool = False,
    device: str = "auto",
    progress: bool | None = False,
    callback: Callback | None = None,
    divisor: Divisor = None,
    sample_weight: Array | str | None = None,
    **options: Unpack[PretrainingOptions],
) -> DBN:
    """Train a stack of RBMs on unlabeled rows, layer by layer.

    x: (N, V), or images (N, H, W) or (N, C, H, W); bytes or floats in [0, 1], or any real values with
    visible="gaussian". One tenth, at most 5,000 rows, is for validation. A mapped `.npy` file or a
    `torch.utils.data.Dataset` of rows is read a batch at a time where it is large, with the same result.
    hidden: units of each layer, from the data upwards; 500, 500 and 2000 by default, and at most a quarter of the rows.
    run: a new folder for metrics, images, checkpoints and weights; without it nothing is written. resume: resume the
    run in that folder, with the same rows and options. overwrite: replace it.
    progress: show a bar for each layer, in a notebook too; None shows it where standard error is a terminal.
    callback: called with each line of metrics.jsonl as a dict, after an epoch; an exception ends the run, which
    `resume` continues after that epoch.
    divisor: number that the values are divided by, or "max" for the greatest; by default 255 for bytes above 127.
    missing="gibbs" or "absent" takes rows with holes, which are NaN, None or masked; see docs/missing-values.md.
    sample_weight: (N,), or the name of a column of a frame x: how much each row counts. A row of weight 2 counts as two
    equal rows do; one of weight 0 is left out.
    options: the fields of `dbn.config.Pretraining`; `dbn.config.defaults` chooses those left out by the size of x.

    The `history` of the result is the list of those dicts. InputError for data or options that cannot be used, for a
    folder that is not empty, and when a layer diverges. KeyboardInterrupt after Ctrl-C; with a run folder, after the
    step in progress and a checkpoint.

    >>> import torch
    >>> stack = pretrain(torch.rand(100, 20), hidden=[10, 5], epochs=2, batch_size=10)
    >>> stack.sizes, stack.history[-1]["layer"], stack.history[-1]["epoch"]
    ([20, 10, 5], 2, 2)
    """
    given = checked_arguments(pretrain, options, OPTIONS, run, resume=resume, overwrite=overwrite, callback=callback)
    with naming_arguments():
        layers: Any = hidden if hidden is None else several(hidden)
        config = Pretraining(hidden=layers, **given)
        with offering_missing():
            splits = splits_from_arrays(
                x, divisor=divisor, kinds=config.kinds, sample_weight=sample_weight, missing=config.missing != "refuse"
            )
        config = for_table(config, splits)
        config = started_with(as_path(run), config) if resume and run is not None else config
        config = config.for_data(*splits.train.x.shape)
        about = to_dict(config) | ({} if divisor is None else {"divisor": splits.divisor})
        distributed.check_alike([about, splits.fingerprint])
        data = unlabeled(splits, config, pick_device(device))
        with (
            nullcontext()
            if run is None or not distributed.is_main()
            else begin_pretraining(as_path(run), config, about, splits.fingerprint, resume=resume, overwrite=overwrite)
        ) as folder:
            stack = pretrain_stack(data, config, folder, progress=progress, callback=callback)
        if distributed.is_main() and (idle := idle_in(stack, data)):
            LOGGER.warning(idle_sentence(idle))
        return stack


def checked_arguments(
    function: Callable[..., Any],
    options: Mapping[str, Any],
    known: Sequence[str],
    run: Path | str | None,
    *,
    resume: bool,
    overwrite: bool,
    callback: Callback | None,
) -> dict[str, Any]:
    """`options` as the configuration has them; InputError for unknown ones, and what does not go together."""
    if resume and overwrite:
        raise InputError("resume=True does not go with overwrite=True: one keeps the run, the other replaces it")
    if run is None and (resume or overwrite):
        raise InputError(f"{'resume' if resume else 'overwrite'}=True needs a run folder: name it with run")
    given = {ALIASES.get(name, name): value for name, value in options.items()}
    check_options(function, given, known)
    check_callback(callback)
    if isinstance(kinds := given.get("column_kinds"), Mapping):
        given["column_kinds"] = tuple(f"{name}={kind}" for name, kind in kinds.items())
    return given


def train_rbm(x: Array, hidden: int = 500, **options: Unpack[PretrainArguments]) -> RBM:
    """Train one RBM on unlabeled rows: `pretrain` with one layer, and with the same arguments.

    The RBM takes scaled values, without the scaling that a `DBN` keeps: bytes divided by 255, columns standardized with
    visible="gaussian".

    >>> import torch
    >>> rbm = train_rbm(torch.rand(100, 20), hidden=10, estimator="pcd", epochs=2, batch_size=10)
    >>> rbm.up(torch.rand(5, 20)).shape
    torch.Size([5, 10])
    """
    check_options(train_rbm, (ALIASES.get(name, name) for name in options), PretrainArguments.__annotations__)
    count: Any = hidden
    if not isinstance(count, Integral):
        raise InputError(f"hidden must be one number of units, not {hidden!r}: use dbn.pretrain for several layers")
    return pretrain(x, hidden, **options).layers[0]


def unlabeled(splits: Splits, config: Pretraining, device: torch.device) -> Unlabeled:
    """The rows of training and validation on the device, and the scaling of the visible units.

    InputError for values that the visible units cannot take, for layers that cannot be tied, for penalties that cannot
    be made, for a precision that the device does not have, and for fewer examples per batch or chains than processes.
    """
    config = config.for_data(*splits.train.x.shape)
    penalties(config)
    matmul_dtype(config.precision, device)
    distributed.check_shares("batch-size", config.batch_size)
    distributed.check_shares("chains", config.chains)
    missing = None if config.missing == "refuse" else Missing(config.missing, config.missing_steps)
    visible = units_for(config.visible, splits.train.x.shape[1])
    mixed = visible if isinstance(visible, Mixed) else None
    check_range(splits, visible, missing=missing is not None)
    scaling = Scaling.fitted(
        splits.train.x,
        _divisor(splits, visible),
        splits.columns,
        standardized=mixed.standardized_units if mixed else visible.standardized,
        limits=visible.limits,
        codes=visible.codes,
        table=splits.table or (mixed.table if mixed else ()),
        weights=splits.train.weights,
        weight_column=splits.weight_column,
        missing=missing.way if missing else "",
    )
    if missing:
        check_holes(splits, scaling, visible, missing.way)
    if (note := scaling.constants(splits.name)) and distributed.is_main():
        LOGGER.info("%s", note)
    if own := splits.brought.get("x_valid"):
        match(
            scaling,
            own.x,
            f"{splits.name}: x_valid",
            width=own.x.shape[1],
            divisor=splits.divisor if splits.divisor_given else None,
            bounded=False,
            where=partial(own.where, name=splits.name),
        )
    with torch.device("meta"):  # before a lower layer is trained in vain
        rbms = new_rbms(scaling.width(splits.train.x.shape[1]), config)
    for lower, upper in pairwise(rbms) if config.tied else ():
        upper.init_from_transpose(lower)
    parts: dict[str, Tensor | Rows] = {"train": splits.train.x, "valid": splits.valid.x}
    if config.binarize == "fixed":
        # Once, so that every layer and measurement sees the same pixels.
        kept = torch.uint8 if scaling.divisor in range(1, 256) else torch.float32
        on = scaling.divisor if scaling.is_divided(torch.empty(0, dtype=kept, device="cpu")) else 1.0
        for part, x in parts.items():
            drawn = stream(config.seed, "pixels", part)
            pixels = (binarize(scaling(rows), "fixed", drawn) * on for rows in x.split(ROWS_AT_ONCE))
            as_stored = (rows.to(kept) for rows in pixels)
            parts[part] = keep(as_stored, x.shape, kept, x, value=int(on))
    train, valid = parts["train"].to(device), in_memory(parts["valid"]).to(device)
    shape, (weights, of_valid) = None if visible.codes else splits.image_shape, weights_on(splits, device)
    known: dict[str, Any] = {"weights": weights, "valid_weights": of_valid, "missing": missing}
    return Unlabeled(train, valid, scaling.to(device), shape, labels=splits.class_names(splits.valid), **known)


def check_holes(splits: Splits, scaling: Scaling, units: Units, way: str) -> None:
    """InputError for rows that cannot be learned from with holes, and for a column without a value among them."""
    if distributed.size() > 1:
        raise InputError(f"--missing {way} is for one process: leave torchrun out")
    if isinstance(splits.train.x, Rows):
        raise InputError(f"{splits.name} is read from the disk, but --missing {way} is for rows in memory: give fewer")
    if (empty := splits.train.x.isnan().all(0)).any():
        column = int(empty.nonzero()[0])
        called = repr(splits.columns[column]) if splits.columns else f"{column} (counted from 0)"
        raise InputError(f"{splits.name}: column {called} holds no value in the training rows: leave it out")
    rest = units.statistics(torch.zeros(1, units.size)).values()
    if way == "absent" and any(bool(each.any()) for each in rest):
        raise InputError(f"--missing absent does not go with --visible {units.spec}: use gibbs")


def weights_on(splits: Splits, device: torch.device) -> tuple[Tensor | None, Tensor | None]:
    """The weights of the training and of the validation rows on the device, float32 with mean 1, where there are."""
    parts = (splits.train.weights, splits.valid.weights)
    # Above 0 in single precision too, so that no batch is without weight.
    mean_1 = (w if w is None else (w / w.mean()).float().clamp(min=LEAST_WEIGHT) for w in parts)
    train, valid = (w if w is None else w.to(device) for w in mean_1)
    return train, valid


def idle_in(stack: DBN, data: Unlabeled) -> list[int]:
    """The layers of a stack that have hardly left their start, by some of its training rows."""
    rows = fixed_subset(len(data.train), 1000).to(data.train.device)
    x = data.scaling(data.train[rows])
    return idle_layers(stack, x.nan_to_num(0.0) if data.missing else x)


def check_range(splits: Splits, units: Units, *, missing: bool = False) -> None:
    """InputError unless the units can take all values, after division, or all are codes of categories."""
    if units.codes is not None and splits.divisor_given and splits.divisor != 1:
        raise InputError(f"--divisor does not go with {units.kind} units, whose codes are not divided: leave it out")
    codes = Scaling(1.0, columns=splits.columns, codes=units.codes)
    for purpose, part in splits.parts.items():
        where = partial(part.where, name=splits.name)
        codes.check_codes(part.x, splits.name, where, missing=missing)
        for own, columns in units.of_data():
            if own.codes is not None:
                continue
            x, divisor = part.x if own is units else part.x[:][:, columns], _divisor(splits, own)
            first = 0 if own is units else columns.start
            ends = observed_ends(x)
            least, greatest = (as_float(value, divisor).item() for value in ends)
            if wrong := own.range_error(least, greatest):
                is_low = not own.range_error(greatest, greatest)
                row, column = place_of(x, (ends.min if is_low else ends.max).item())
                raise InputError(
                    f"{splits.name}: {purpose} values go from {least:g} to {greatest:g}, "
                    f"{least if is_low else greatest:g} in {where(row, first + column)}, but {wrong}"
                )
            for start, rows in enumerate(x.split(ROWS_AT_ONCE)) if own.counts else ():
                values = as_float(rows, divisor)
                if (wrong_values := values.nan_to_num(0.0) != values.nan_to_num(0.0).round()).any():
                    row, column = wrong_values.nonzero()[0].tolist()
                    place = where(start * ROWS_AT_ONCE + row, first + column)
                    raise InputError(
                        f"{splits.name} has {values[row, column].item():g} in {place}, but {own.kind} units need whole "
                        "numbers: round them, or leave --divisor out"
                    )


def _divisor(splits: Splits, units: Units) -> float:
    """That of the data, but 1 for codes, and for counts unless one is given."""
    return 1.0 if units.codes is not None or (units.counts and not splits.divisor_given) else splits.divisor


def for_table(config: Pretraining, splits: Splits) -> Pretraining:
    """The options with the units and kinds of columns that were found in a table; InputError for units unlike it."""
    if not splits.table:
        return config
    visible = units_of_table(splits.table)
    if config.visible not in ("auto", visible):
        raise InputError(
            f"--visible {config.visible} does not fit {splits.name}, whose columns are {visible}: say auto"
        )
    names = splits.columns or range(len(splits.table))
    kinds = tuple(f"{name}={column.kind}" for name, column in zip(names, splits.table, strict=True))
    return replace(config, visible=visible, column_kinds=kinds)


def describe_table(splits: Splits) -> str:
    """What the columns of a table are taken for, a line for each."""
    names = map(str, splits.columns or range(len(splits.table)))
    rows = ((name, each.kind, listed(each.categories, 6)) for name, each in zip(names, splits.table, strict=True))
    return plain_table(("column", "kind", "values"), rows, "lll")


def summary(records: Sequence[Mapping[str, float]]) -> str:
    """One line per layer: its last measurements and its seconds; – for what is not finite or missing."""
    lines = ["layer  epochs  reconstruction error  KL (nats)  validation KL  free-energy gap  seconds"]
    for layer in sorted({record["layer"] for record in records}):
        of_layer = [record for record in records if record["layer"] == layer]
        last = of_layer[-1]
        seconds = sum(record["seconds"] for record in of_layer if isinstance(record.get("seconds"), float))
        widths = {"reconstruction_error": 20, "kl": 9, "valid_kl": 13, "free_energy_gap": 15}
        values = [(last.get(name), width) for name, width in widths.items()]
        cells = [f"{value:z{width}.2f}" if isinstance(value, float) else f"{'–':>{width}}" for value, width in values]
        lines.append("  ".join([f"{layer:5}", f"{last['epoch']:6}", *cells, f"{seconds:7.1f}"]))
    return "\n".join(lines)
