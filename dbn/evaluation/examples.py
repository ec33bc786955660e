"""The examples that are scored, in the values that the model's visible units take, and their origin.

A likelihood of discrete units needs discrete data: −F of gray pixels is no log-probability. So gray levels are
made 0 or 1 in a way that is named, or refused.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor

from dbn.arrays import columns_of
from dbn.columns import Column
from dbn.config.evaluation import EvaluateConfig
from dbn.data.binarize import Binarize, binarize
from dbn.data.checks import Array
from dbn.data.cut import of_some_weight
from dbn.data.examples import Examples
from dbn.data.objects import as_labels, without_weights
from dbn.data.rows import Rows
from dbn.data.splits import Splits, unsplit
from dbn.data.table import place_among
from dbn.data.weights import checked_weights
from dbn.errors import InputError, listed
from dbn.models.dbn import DBN
from dbn.models.scaling import Scaling
from dbn.models.units.base import Units
from dbn.models.units.sites import is_binary
from dbn.models.values import Where, counted, place_of
from dbn.pretraining.kept_rows import keep
from dbn.pretraining.layer_data import ROWS_AT_ONCE
from dbn.rng import stream
from dbn.runs.folder import RunFolder

WEIGHTS = "sample_weight"
PLACE = f"{WEIGHTS}, row {{}} (counted from 0),".format


@dataclass(frozen=True, eq=False)
class EvaluationData:
    """What is scored: rows as they are stored, and what brings them to the visible units."""

    parts: dict[str, Tensor | Rows]
    """`test`, and `valid` and `train` where there are such: each (N, V)."""
    scaling: Scaling
    """From stored values to those of the visible units."""
    origin: tuple[str, ...]
    """Sentences: where the rows are from, and what was done to them."""
    name: str = ""
    """Of the file or data set."""
    divisor: float | None = None
    """Of the values, where it is named."""
    columns: tuple[str, ...] = ()
    where: Mapping[str, Where] = field(default_factory=dict)
    """What errors call a row and column, by part."""
    table: tuple[Column, ...] | None = ()
    """What the columns of a table are; None where the rows are codes of the model's."""
    weights: Mapping[str, Tensor] = field(default_factory=dict)
    """(N,) float64 on the CPU, of the rows of those parts that have such."""

    @property
    def base(self) -> Tensor | Rows:
        """(N, V): the rows whose means the independent base model takes."""
        return self.parts.get("train", self.parts["test"])

    @property
    def base_weights(self) -> Tensor | None:
        """(N,): of these rows, where they have such."""
        return self.weights.get("train" if "train" in self.parts else "test")

    def log_abs_det_jacobian(self, part: str) -> float:
        """See `Scaling.log_abs_det_jacobian`."""
        return self.scaling.log_abs_det_jacobian(self.parts[part])

    def to(self, device: torch.device) -> "EvaluationData":
        """The same on `device`."""
        moved = {part: x.to(device) for part, x in self.parts.items()}
        return replace(self, parts=moved, scaling=self.scaling.to(device))


def evaluation_data(
    stack: DBN,
    test: Array,
    train: Array | None,
    config: EvaluateConfig,
    *,
    from_run: bool,
    name: str = "the given data set",
    columns: Sequence[str] = (),
    coded: bool = False,
    sample_weight: Any = None,
) -> EvaluationData:
    """Arrays to be scored, treated like those of a file; `from_run`: binarized as `config.run` was trained.

    columns: names of the columns, where the arrays have none themselves. coded: cells of a table are codes already.
    sample_weight: of the test rows, or the name of a column.
    """
    before = RunFolder.open(config.run).read_config() if from_run and config.run.is_dir() else {}
    x, x_test = (test, None) if train is None else (train, test)
    kinds = None if coded else stack.scaling.kinds
    # Training rows need no weights, nor the column of those of the test rows.
    of_test = sample_weight is not None and x_test is not None
    if of_test and isinstance(sample_weight, str) and sample_weight not in columns_of(x):
        x_test, sample_weight = without_weights(x_test, sample_weight, "test")
    of_test = of_test and not isinstance(sample_weight, str)
    weights = None if of_test else sample_weight
    splits = unsplit(name, x, x_test=x_test, divisor=config.divisor, kinds=kinds, sample_weight=weights)
    if of_test and splits.test is not None:
        found = checked_weights(as_labels(sample_weight, WEIGHTS), len(splits.test), WEIGHTS, PLACE)
        splits = replace(splits, test=replace(splits.test, weights=found))
    splits = replace(splits, columns=splits.columns or tuple(columns))
    source = from_splits(splits)
    return prepared(stack, [replace(source, table=None) if coded else source], config, before)


def prepared(
    stack: DBN, sources: list[EvaluationData], config: EvaluateConfig, before: dict[str, Any]
) -> EvaluationData:
    """The parts to score and to base AIS on, in values that the visible units take."""
    visible = stack.layers[0].visible
    if config.binarize and visible.sites() is None:
        raise InputError(f"--binarize {config.binarize} does not go with {visible.kind} visible units: leave it out")
    sources = [_matched(stack, source) for source in sources]
    if visible.sites() is not None:
        how = _binarization(config, before)
        sources = [_discrete(source, visible, *how) for source in sources]
        scaling = Scaling(1.0)
    else:
        scaling = _common(sources)
    scored, trained = sources[0], sources[-1]
    parts = {"test": scored.parts["test"]} | {part: x for part, x in trained.parts.items() if part != "test"}
    weights = dict(trained.weights)
    weights.pop("test", None)
    if "test" in scored.weights:
        weights["test"] = scored.weights["test"]
    origin = *_origin(scored, trained, with_base=not config.exact), *_density_units(parts, scaling)
    return EvaluationData(parts, scaling, origin, weights=weights)


def _origin(scored: EvaluationData, trained: EvaluationData, *, with_base: bool) -> list[str]:
    base = "the test rows themselves, for want of training rows"
    if "train" in trained.parts:
        rows = f"{len(trained.parts['train']):,} training rows"
        base = f"its {rows}" if trained is scored else f"the {rows} of {trained.name}"
    first = f"Test rows: the {len(scored.parts['test']):,} of {scored.name}."
    first += " They count by their weights." if "test" in scored.weights else ""
    first += f" Base model of AIS: the means of {base}." if with_base else ""
    return [first, *dict.fromkeys(scored.origin + trained.origin)]


def _density_units(parts: dict[str, Tensor | Rows], scaling: Scaling) -> list[str]:
    """What densities are of, where that is not what the visible units see."""
    lost = [] if scaling.spread is None else ["Σ log spread (standardized)"]
    if any(scaling.is_divided(x) for x in parts.values()):
        lost.append(f"V·log {scaling.divisor:g} (bytes, divided)")
    return [f"Densities are of the data as they are stored: each has lost {' and '.join(lost)}."] if lost else []


def from_splits(splits: Splits, origin: tuple[str, ...] = ()) -> EvaluationData:
    """Training rows are the test part where there are no test rows."""
    splits = of_some_weight(splits)
    parts = {"test": splits.train} if splits.test is None else {"test": splits.test, "train": splits.train}
    return source_of(splits, parts, origin)


def source_of(splits: Splits, parts: dict[str, Examples], origin: tuple[str, ...] = ()) -> EvaluationData:
    """Rows as they are stored; `_matched` brings them to the model."""
    return EvaluationData(
        {name: part.x for name, part in parts.items()},
        Scaling(splits.divisor),
        origin,
        splits.name,
        splits.divisor if splits.divisor_given else None,
        splits.columns,
        {name: partial(part.where, name=splits.name) for name, part in parts.items()},
        splits.table,
        {name: part.weights for name, part in parts.items() if part.weights is not None},
    )


def _matched(stack: DBN, source: EvaluationData) -> EvaluationData:
    """The source as the model takes it; InputError for rows that do not fit."""
    first = "train" if "train" in source.parts else "test"
    x = source.parts[first]
    divisor, binary = source.divisor, is_binary(stack.layers[0].visible.sites())
    if divisor is None and binary:
        greatest = max(part.aminmax().max.item() for part in source.parts.values())
        # Bytes that are 0 or 1 are states of the units, whatever gray levels the model was trained on.
        divisor = 1.0 if x.dtype == torch.uint8 and greatest <= 1 else None
    known: dict[str, Any] = {"columns": source.columns, "table": source.table, "what": "the model"}
    found = stack.match(x, source.name, divisor=divisor, **known, where=source.where.get(first))
    for part, rows in source.parts.items():  # of which none may be wrong
        stack.match(rows, source.name, divisor=found.scaling.divisor, **known, where=source.where.get(part))
    parts = {name: found.rows(part) for name, part in source.parts.items()}
    notes = tuple(f"{note}." for note in found.notes)
    where = {
        name: place_among(place, slice(None), len(parts[name]), found.order) or place
        for name, place in source.where.items()
    }
    return replace(source, parts=parts, scaling=found.scaling, origin=(*source.origin, *notes), where=where)


def _common(sources: list[EvaluationData]) -> Scaling:
    """One scaling for all sources; InputError where the same values of two stand for others."""
    kinds = {source.scaling.stored: source.scaling for source in sources}
    scaling = kinds.get("bytes", sources[0].scaling)
    for source in sources:
        if any(source.scaling.is_divided(x) != scaling.is_divided(x) for x in source.parts.values()) or (
            source.scaling.divisor not in (1.0, scaling.divisor)
        ):
            raise InputError(
                f"{sources[0].name} and {sources[-1].name} are stored on different scales: save both on the same"
            )
    return scaling


def _binarization(config: EvaluateConfig, before: dict[str, Any]) -> tuple[Binarize | None, int, str]:
    """How gray levels are made 0 or 1, if at all; with which seed, and why so.

    As an option says, or else as the run was trained: a fixed draw of the run's is drawn again, bit for bit.
    """
    if config.binarize is not None:
        return config.binarize, config.seed, ""
    trained = before.get("binarize")
    if trained not in ("threshold", "sample", "fixed"):
        return None, config.seed, ""
    seed = int(before.get("seed", config.seed)) if trained == "fixed" else config.seed
    return cast(Binarize, trained), seed, ", as the run was trained"


def _discrete(source: EvaluationData, units: Units, how: Binarize | None, seed: int, because: str) -> EvaluationData:
    """The source in values that the units take alone; InputError where others stand and nothing says what to do."""
    support = units.support()
    assert support is not None
    values, binary = listed(support.tolist(), 6), is_binary(units.sites())
    for part, x in source.parts.items() if units.codes is None else ():
        ends = x.aminmax()
        least, greatest = (float(source.scaling(end)) for end in ends)
        if least < support.min() or greatest > support.max():
            outside = float(ends.min if least < support.min() else ends.max)
            place = source.where.get(part, counted)(*place_of(x, outside))
            advice = ", or save bytes as uint8 in .npz or .npy, to be divided by 255" * binary
            raise InputError(
                f"{source.name}: {part} values go from {least:g} to {greatest:g}, {outside:g} in {place}, but the "
                f"visible units take {values}: bring them there{advice}"
            )

    def scaled(x: Tensor | Rows) -> Iterator[Tensor]:
        return (source.scaling(rows) for rows in x.split(ROWS_AT_ONCE))

    if all(units.in_support(rows) for x in source.parts.values() for rows in scaled(x)):
        kept = torch.uint8 if binary else torch.float32
        ready = {
            part: keep((rows.to(kept) for rows in scaled(x)), (len(x), units.size), kept, x)
            for part, x in source.parts.items()
        }
        return replace(source, parts=ready)
    if how is None or not binary:
        advice = "say how to make them 0 or 1, --binarize threshold, sample or fixed" if binary else "round them"
        raise InputError(
            f"{source.name} holds values other than {values}, and −F of those is no log-probability: {advice}"
        )
    drawn = {}
    for part, x in source.parts.items():
        generator = stream(seed, "pixels", part)  # those that pre-training draws a fixed part with
        pixels = (binarize(rows, how, generator).to(torch.uint8) for rows in scaled(x))
        drawn[part] = keep(pixels, x.shape, torch.uint8, x)
    done = "cut at 0.5" if how == "threshold" else f"drawn once as 0 or 1 with seed {seed}"
    note = f"{source.name}: gray levels are {done} (--binarize {how}{because})."
    return replace(source, parts=drawn, origin=(*source.origin, note))
