"""Where the examples that are scored are read from: a file, a data set, or what a run was trained on."""

from pathlib import Path
from typing import Any

import numpy as np

from dbn.config.evaluation import EvaluateConfig
from dbn.data.readers import kind_of, options_of, read_table
from dbn.data.splits import unsplit
from dbn.errors import InputError
from dbn.evaluation.examples import EvaluationData, from_splits, prepared, source_of
from dbn.evaluation.external_rbm import read_arrays
from dbn.models.dbn import DBN
from dbn.runs.folder import RunFolder
from dbn.runs.training_data import splits_for


def load_evaluation_data(stack: DBN, config: EvaluateConfig) -> EvaluationData:
    """What a configuration asks to be scored, on the CPU.

    The test part is that of --data, or else of the data set. The training part, whose means the base takes, is that
    of the data set if --dataset names one, or else of --data, or else of the run's data set.

    InputError for data that cannot be read, do not fit the stack, or are not what its visible units take.
    """
    before = RunFolder.open(config.run).read_config() if config.run.is_dir() else {}
    return prepared(stack, _sources(config, before, stack), config, before)


def _sources(config: EvaluateConfig, before: dict[str, Any], stack: DBN) -> list[EvaluationData]:
    """What holds the rows to be scored, and last what holds the training rows: one source, or two."""
    sources: list[EvaluationData] = []
    divisor, columns = config.divisor, {"label_column": config.label_column, "weight_column": config.weight_column}
    if config.data is not None:
        taken = options_of(kind_of(config.data))
        own = {name: value for name, value in config.reading().items() if name in taken or name == "divisor"}
        sources.append(_from_file(config.data, own | {"kinds": stack.scaling.kinds}, stack.width))
        for each, column in columns.items():
            if column and each not in taken and config.dataset is None:
                option = each.replace("_", "-")
                raise InputError(f"--{option} is for files with named columns, leave it out with {config.data}")
        columns, divisor = {each: None if each in taken else column for each, column in columns.items()}, None
        if "train" in sources[0].parts and config.dataset is None:
            return sources
    if config.dataset is not None or before.get("dataset") or (before and not sources):
        own = config.reading() | columns | {"divisor": divisor, "kinds": stack.scaling.kinds}
        splits = splits_for(config.dataset, [config.run], **own)
    elif sources:
        return sources
    else:
        raise InputError(f"{config.run} does not say what it was trained on: name examples with --data or --dataset")
    parts = {"valid": splits.valid, "train": splits.train}
    origin: tuple[str, ...] = ()
    if splits.test is None:
        parts["test"] = parts.pop("valid")
        origin = (f"{splits.name} has no test rows: validation rows stand in for them.",) * (not sources)
    else:
        parts["test"] = splits.test
    return [*sources, source_of(splits, parts, origin)]


def _from_file(path: Path, reading: dict[str, Any], width: int) -> EvaluationData:
    """All rows of a file are the test part, unless it holds both `x` and `x_test`, or `train` and `test`."""
    origin: tuple[str, ...] = ()
    arrays = read_arrays(path, ("train", "test")) if path.suffix.lower() == ".npz" else {}
    if len(arrays) == 2:
        if reading.get("weight_column"):
            raise InputError(f"--weight-column does not go with {path}, whose arrays are train and test: leave it out")
        if all(x.dtype == np.uint8 and x.ndim == 2 and x.shape[1] == -(-width // 8) != width for x in arrays.values()):
            arrays = {part: np.unpackbits(x, axis=1, count=width) for part, x in arrays.items()}
            origin = (f"{path}: bytes unpacked into {width:,} bits a row.",)
        splits = unsplit(str(path), arrays["train"], x_test=arrays["test"], divisor=reading.get("divisor"))
    else:
        splits = read_table(path, **reading)
    return from_splits(splits, origin)
