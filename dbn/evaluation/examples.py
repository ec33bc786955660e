"""The examples that a likelihood is taken of, in the values that the model's visible units take, and their origin.

A likelihood of discrete units needs discrete data: −F of grey pixels is no log-probability. So grey levels are
made 0 or 1 in a way that is named, or refused.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dbn.config.evaluation import EvaluateConfig
from dbn.data.binarize import Binarize, binarize
from dbn.data.datasets import load_splits
from dbn.data.readers import read_table
from dbn.data.splits import as_array
from dbn.data.table import Table, checked_table
from dbn.errors import InputError
from dbn.evaluation.external_rbm import read_arrays
from dbn.models.dbn import DBN
from dbn.models.scaling import Scaling, as_float
from dbn.models.units.base import Units
from dbn.pretraining.layer_data import ROWS_AT_ONCE
from dbn.rng import stream
from dbn.runs.folder import RunFolder
from dbn.runs.training_data import splits_of


@dataclass(frozen=True, eq=False)
class EvaluationData:
    """What is scored: rows as they are stored, and what brings them to the visible units."""

    parts: dict[str, Tensor]
    """`test`, and `valid` and `train` where there are such: each (N, V)."""
    scaling: Scaling
    """From stored values to those of the visible units."""
    origin: tuple[str, ...]
    """Sentences: where the rows are from, and what was done to them."""

    @property
    def base(self) -> Tensor:
        """(N, V): the rows whose means the independent base model takes."""
        return self.parts.get("train", self.parts["test"])

    def log_abs_det_jacobian(self, part: str) -> float:
        """See `Scaling.log_abs_det_jacobian`."""
        return self.scaling.log_abs_det_jacobian(self.parts[part])

    def to(self, device: torch.device) -> "EvaluationData":
        """The same on `device`."""
        moved = {part: x.to(device) for part, x in self.parts.items()}
        return replace(self, parts=moved, scaling=self.scaling.to(device))


class _Source(NamedTuple):
    """The parts of one file or data set; bytes are to be divided by `divisor`."""

    name: str
    parts: dict[str, Tensor]
    divisor: float
    note: str = ""


def load_evaluation_data(stack: DBN, config: EvaluateConfig) -> EvaluationData:
    """What a configuration asks to be scored, on the CPU.

    The test part is that of --data, or else of the data set. The training part, whose means the base takes, is that
    of the data set if --dataset names one, or else of --data, or else of the run's data set.

    InputError for data that cannot be read, do not fit the stack, or are not what its visible units take.
    """
    before = RunFolder.open(config.run).read_config() if config.run.is_dir() else {}
    return _prepared(stack, _sources(config, before, stack.layers[0].visible.size), config, before)


def evaluation_data(
    stack: DBN, test: Tensor | NDArray, train: Tensor | NDArray | None, config: EvaluateConfig, *, from_run: bool
) -> EvaluationData:
    """Arrays to be scored, treated like those of a file; `from_run`: binarized as `config.run` was trained."""
    before = RunFolder.open(config.run).read_config() if from_run and config.run.is_dir() else {}
    name, rows = "the given arrays", as_array(test)
    table = checked_table(name, rows) if train is None else checked_table(name, as_array(train), None, rows)
    return _prepared(stack, [_from_table(name, table)], config, before)


def _prepared(stack: DBN, sources: list[_Source], config: EvaluateConfig, before: dict[str, Any]) -> EvaluationData:
    visible, scaling = stack.layers[0].visible, stack.scaling
    for source in sources:
        width = next(iter(source.parts.values())).shape[1]
        if width != visible.size:
            raise InputError(
                f"{source.name} has {width} values an example, but the model has {visible.size} visible units: name "
                "the data it was trained on, or others like them"
            )
    support = visible.support()
    if support is not None:
        how = _how(config, before)
        sources, scaling = [_discrete(source, visible, how) for source in sources], Scaling(1.0)
    elif config.binarize:
        raise InputError(f"--binarize {config.binarize} does not go with {visible.kind} visible units: leave it out")
    scored, trained = sources[0], sources[-1]
    parts = {"test": scored.parts["test"]} | {part: x for part, x in trained.parts.items() if part != "test"}
    origin = *_origin(scored, trained, with_base=not config.exact), *_units(parts, scaling)
    return EvaluationData(parts, scaling, origin)


def _origin(scored: _Source, trained: _Source, *, with_base: bool) -> list[str]:
    base = "the test rows themselves, for want of training rows"
    if "train" in trained.parts:
        rows = f"{len(trained.parts['train']):,} training rows"
        base = f"its {rows}" if trained is scored else f"the {rows} of {trained.name}"
    said = f"Test rows: the {len(scored.parts['test']):,} of {scored.name}."
    return [
        f"{said} Base model of AIS: the means of {base}." if with_base else said,
        *dict.fromkeys(f"{source.name}: {source.note}." for source in (scored, trained) if source.note),
    ]


def _units(parts: dict[str, Tensor], scaling: Scaling) -> list[str]:
    """What densities are of, where that is not what the visible units see."""
    lost = [] if scaling.spread is None else ["Σ log spread (standardised)"]
    if any(scaling.is_divided(x) for x in parts.values()):
        lost.append(f"V·log {scaling.divisor:g} (bytes, divided)")
    return [f"Densities are of the data as they are stored: each has lost {' and '.join(lost)}."] if lost else []


# Where rows come from


def _sources(config: EvaluateConfig, before: dict[str, Any], width: int) -> list[_Source]:
    """What holds the rows to be scored, and last what holds the training rows: one source, or two."""
    sources, column = [], config.label_column
    if config.data is not None:
        takes_column = config.data.suffix.lower() == ".csv"
        sources.append(_from_file(config.data, column if takes_column else None, width))
        if column and not takes_column and config.dataset is None:
            raise InputError(f"--label-column is for .csv files only, leave it out with {config.data}")
        column = None if takes_column else column
        if "train" in sources[0].parts and config.dataset is None:
            return sources
    place = {"data_dir": config.data_dir, "label_column": column}
    if config.dataset is not None:
        splits = load_splits(config.dataset, **place)  # type: ignore[arg-type]
    elif before.get("dataset") or (before and not sources):
        splits = splits_of(config.run, **place)  # type: ignore[arg-type]
    elif sources:
        return sources
    else:
        raise InputError(f"{config.run} does not say what it was trained on: name examples with --data or --dataset")
    if splits.test is None:
        raise InputError(f"{splits.name} has no test examples: name some with --data")
    parts = {"test": splits.test.x, "valid": splits.valid.x, "train": splits.train.x}
    return [*sources, _Source(splits.name, parts, splits.divisor)]


def _from_file(path: Path, label_column: str | None, width: int) -> _Source:
    """All rows of a file are the test part, unless it holds both `x` and `x_test`, or `train` and `test`."""
    name, note = str(path), ""
    arrays = read_arrays(path, ("train", "test")) if path.suffix.lower() == ".npz" else {}
    if len(arrays) == 2:
        if all(_is_packed(array, width) for array in arrays.values()):
            arrays = {part: np.unpackbits(array, axis=1, count=width) for part, array in arrays.items()}
            note = f"bytes unpacked into {width:,} bits a row"
        table = checked_table(name, arrays["train"], None, arrays["test"])
    else:
        table = read_table(path, label_column)
    return _from_table(name, table, note)


def _is_packed(array: np.ndarray, width: int) -> bool:
    return array.dtype == np.uint8 and array.ndim == 2 and array.shape[1] == -(-width // 8) != width


def _from_table(name: str, table: Table, note: str = "") -> _Source:
    arrays = {"test": table.x} if table.x_test is None else {"test": table.x_test, "train": table.x}
    greatest = max(int(x.max()) for x in arrays.values())
    parts = {part: torch.from_numpy(x) for part, x in arrays.items()}
    return _Source(name, parts, 255.0 if greatest > 1 else 1.0, note)


# What discrete units take


class _How(NamedTuple):
    """How grey levels are made 0 or 1, if at all."""

    binarize: Binarize | None
    seed: int
    because: str


def _how(config: EvaluateConfig, before: dict[str, Any]) -> _How:
    """As an option says, or else as the run was trained: a fixed draw of the run's is drawn again, bit for bit."""
    if config.binarize is not None:
        return _How(config.binarize, config.seed, "")
    trained = before.get("binarize")
    if trained not in ("threshold", "sample", "fixed"):
        return _How(None, config.seed, "")
    seed = int(before.get("seed", config.seed)) if trained == "fixed" else config.seed
    return _How(cast(Binarize, trained), seed, ", as the run was trained")


def _discrete(source: _Source, units: Units, how: _How) -> _Source:
    """The source with values that the units take alone; InputError where others stand and nothing says what to do."""
    support = units.support()
    assert support is not None
    for part, x in source.parts.items():
        least, greatest = (float(as_float(end, source.divisor)) for end in x.aminmax())
        if least < support.min() or greatest > support.max():
            raise InputError(
                f"{source.name}: {part} values go from {least:g} to {greatest:g}, but the visible units take "
                f"{_listed(support)}: bring them there, or save bytes as uint8 in .npz or .npy, to be divided by 255"
            )
    binary = support.tolist() == [0.0, 1.0]
    if all(units.in_support(rows) for x in source.parts.values() for rows in _chunks(x, source.divisor)):
        kept = torch.uint8 if binary else torch.float32
        ready = {
            part: torch.cat([rows.to(kept) for rows in _chunks(x, source.divisor)]) for part, x in source.parts.items()
        }
        return source._replace(parts=ready)
    if how.binarize is None or not binary:
        advice = "say how to make them 0 or 1, --binarize threshold, sample or fixed" if binary else "round them"
        raise InputError(
            f"{source.name} holds values other than {_listed(support)}, and −F of those is no log-probability: {advice}"
        )
    drawn = {}
    for part, x in source.parts.items():
        generator = stream(how.seed, "pixels", part)  # those that pre-training draws a fixed part with
        drawn[part] = torch.cat(
            [binarize(rows, how.binarize, generator).to(torch.uint8) for rows in _chunks(x, source.divisor)]
        )
    done = "cut at 0.5" if how.binarize == "threshold" else f"drawn once as 0 or 1 with seed {how.seed}"
    return source._replace(parts=drawn, note=f"grey levels are {done} (--binarize {how.binarize}{how.because})")


def _chunks(x: Tensor, divisor: float) -> Iterator[Tensor]:
    return (as_float(rows, divisor) for rows in x.split(ROWS_AT_ONCE))


def _listed(support: Tensor) -> str:
    return ", ".join(f"{value:g}" for value in support.tolist())
