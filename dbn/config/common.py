"""Options that several commands share, and the plain form of a configuration.

Configurations are frozen dataclasses. Each field is an option of the same name (`batch_size` is `--batch-size`) and a
key of a configuration file. Invalid values raise InputError on construction. Where a field is a tuple, a list or a
single value is accepted.
"""

import re
from dataclasses import dataclass, fields, is_dataclass, replace
from numbers import Integral, Real
from pathlib import Path, PurePath
from typing import Annotated, Any, Literal

from dbn.config.validation import Between, Choice, Count, NonNegative, Positive, Seed, check_distinct, check_fields
from dbn.errors import InputError
from dbn.registry import table

Optimizer = Annotated[str, Choice("dbn.training:OPTIMIZERS")]
KINDS_OF_UNITS = Choice("dbn.models.units:UNITS", parameterized=True, summed=True, apart=("mixed",))
UnitKind = Annotated[str, KINDS_OF_UNITS]
VisibleKind = Annotated[str, replace(KINDS_OF_UNITS, also=("auto",))]


ADAPTIVE_RATE = 0.001
"""Default learning rate of optimizers that scale their own steps."""

ALIASES = {"centred": "centered"}
"""Earlier names of options, which command lines, files and Python may still use."""

NEWER = (
    "up_down",
    "up_down_rate",
    "up_down_steps",
    "hidden_units",
    "column_kinds",
    "penalty",
    "divisor",
    "standardize",
    "unlabeled",
    "labels_per_class",
    "delimiter",
    "decimal",
    "image_size",
    "colors",
    "test_file",
    "valid_file",
    "output_init",
    "task",
    "weight_column",
    "missing",
    "missing_steps",
    "pseudo_labels",
    "pseudo_confidence",
    "together",
    "compile",
)
"""Options that older runs of the same format lack: written only where they differ from their defaults."""

OLDER = {"split": "balanced"}
"""What runs did that have no such key yet."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """The base of all configurations."""

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True, kw_only=True)
class SeedOption(Options):
    """Of everything that draws random numbers."""

    seed: Seed = 0
    """Seed of all random numbers; the first of several."""


@dataclass(frozen=True, kw_only=True)
class DeviceOption(Options):
    """Of everything that computes."""

    device: str = "auto"
    """auto, cpu, cuda, cuda:N or mps."""

    def __post_init__(self) -> None:
        super().__post_init__()
        # Whether the machine has it is asked where it is used.
        if not isinstance(self.device, str) or not re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", self.device):
            raise InputError(f"--device must be auto, cpu, cuda, cuda:N or mps, not {self.device!r}")


@dataclass(frozen=True, kw_only=True)
class FolderOption(Options):
    """Of everything that reads a named data set."""

    data_dir: Path | None = None
    """Folder of the named data sets (default: $DBN_DATA or the user's cache folder)."""


@dataclass(frozen=True, kw_only=True)
class ReadingOptions(Options):
    """Of everything that reads the user's own files: how they are read."""

    label_column: str | tuple[str, ...] | None = None
    """Column that holds the labels, in files with named columns; several for --task regress and multilabel (default:
    there is none)."""
    weight_column: str | None = None
    """Column, or array of a file of arrays, that holds the weights of the rows, by which they count in pre-training,
    label-model and evaluate; it is none of the values (default: all rows count alike)."""
    unlabeled: str | None = None
    """Label of rows without one, such as -1, which serve pre-training alone; so do empty cells and NaN (default:
    none)."""
    delimiter: Literal["comma", "semicolon", "tab", "pipe", "space"] | None = None
    """What separates the cells of a text table (default: found in its first lines)."""
    decimal: Literal["point", "comma"] | None = None
    """Decimal mark of a text table (default: a comma where it can be nothing else)."""
    image_size: tuple[Count, ...] | None = None
    """Height and width that pictures in a folder are resized to, or one number for both (default: as they are)."""
    colors: Literal["gray", "rgb"] | None = None
    """What pictures in a folder are made (default: as they are)."""
    divisor: Positive | Literal["max"] | None = None
    """Number that the values of a file are divided by, or max for the greatest training value (default: 255 for bytes
    above 127, none otherwise; for data that meet a model, the model's)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_distinct(self, "label_column")
        if isinstance(self.label_column, tuple) and len(self.label_column) == 1:
            object.__setattr__(self, "label_column", self.label_column[0])
        if self.image_size is not None and len(self.image_size) > 2:
            raise InputError(f"--image-size takes a height and a width, not {len(self.image_size)} numbers.")

    def reading(self) -> dict[str, Any]:
        """What `dbn.data.load_splits` takes besides the name, or `read_table` besides the path."""
        kinds = [
            kind for kind in (FolderOption, SplitFilesOptions, SplitOption, ReadingOptions) if isinstance(self, kind)
        ]
        return {each.name: getattr(self, each.name) for kind in kinds for each in fields(kind)}


@dataclass(frozen=True, kw_only=True)
class SplitFilesOptions(Options):
    """Of data whose test and validation rows are in files of their own."""

    test_file: Path | None = None
    """File of test rows, with the columns of the data set in any order; labels may lack where they are not needed
    (default: none)."""
    valid_file: Path | None = None
    """File of validation rows likewise, with labels (default: none)."""


@dataclass(frozen=True, kw_only=True)
class SplitOption(Options):
    """Of everything that cuts rows."""

    split: Literal["proportional", "balanced"] | None = None
    """Classes among the rows cut for validation and the labels drawn: as often as in the data (proportional), or
    equally often (balanced) (default: proportional; balanced for named sets of images)."""


@dataclass(frozen=True, kw_only=True)
class DataOptions(FolderOption, SplitFilesOptions, SplitOption, ReadingOptions):
    """The data set."""

    dataset: Annotated[str | None, Choice("dbn.data:DATASETS", strict=False)] = None
    """A name, a file or a folder (default: the data set of the run or recipe that is read)."""


@dataclass(frozen=True, kw_only=True)
class DataConfig(DataOptions):
    """The data set."""

    dataset: Annotated[str, Choice("dbn.data:DATASETS", strict=False)] = "mnist-10k"
    """A name, or a file (.npz, .csv, .parquet and others) or folder; mnist-10k is part of the package."""


@dataclass(frozen=True, kw_only=True)
class RunConfig(DeviceOption):
    """The base of the commands that create a run."""

    run: Path
    """Folder of the new run."""
    resume: bool = False
    """Resume the run in that folder with the options it was started with."""
    overwrite: bool = False
    """Replace the run in that folder."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.resume and self.overwrite:
            raise InputError("--resume does not go with --overwrite: one keeps the run, the other replaces it")


@dataclass(frozen=True, kw_only=True)
class OutputConfig(DeviceOption):
    """The base of the commands that read a run and write one file."""

    run: Path
    """Folder of the run to read."""
    output: Path
    """File to write."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for path in filter(None, (self.run, getattr(self, "data", None))):
            if self.output and self.output.is_file() and path.is_file() and self.output.samefile(path):
                raise InputError(
                    f"--output {self.output} is also the input, which would be replaced: name another file"
                )


def check_divisor(config: Any) -> None:
    """InputError for the greatest value of data that a model does not learn from."""
    if config.divisor == "max":
        raise InputError("--divisor max is for training data: name the number, or leave it out for that of training")


@dataclass(frozen=True, kw_only=True)
class MeasurementConfig(Options):
    """The base of the commands that measure and may keep the figures."""

    output: Path | None = None
    """JSON file for the figures (default: none)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.output and (self.output.is_dir() or not self.output.parent.is_dir()):
            raise InputError(f"--output {self.output} cannot be written: name a file in an existing folder")


@dataclass(frozen=True, kw_only=True)
class TrainingOptions(SeedOption):
    """What pre-training and fine-tuning share.

    Options whose default depends on the data are None where they are left out, until `for_data` has chosen them; their
    types are those that they have then.
    """

    batch_size: Count = None  # type: ignore[assignment]
    """Examples per step (default: a fiftieth of them, at least 10 and at most 100)."""
    optimizer: Optimizer = "sgd"
    """Optimizer of torch.optim."""
    weight_decay: NonNegative = 0.0
    """L2 penalty on weights; biases have none."""
    max_norm: Positive | None = None
    """Largest Euclidean norm of a hidden unit's weights, enforced after each step (default: no limit)."""
    average: Between | None = None
    """Decay of a running average of the weights, such as 0.999, kept in place of the last ones (default: none)."""
    precision: Literal["float32", "tf32", "bf16"] = "float32"
    """Precision of matrix products in training, where the device has it; weights and measurements stay in float32."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if getattr(self, "momentum", None) is not None:
            check_taken("momentum", "optimizer", self.optimizer, "dbn.training:OPTIMIZERS")


def check_taken(name: str, by: str, entry: str, place: str) -> None:
    """The option is a parameter of the registry's entry that the option `by` names."""
    takers = [each for each in table(place) if name in table(place).parameters(each)]
    if entry not in takers:
        raise InputError(f"--{name} does not go with --{by} {entry}: leave it out, or use {' or '.join(takers)}")


def to_dict(config: Any) -> dict[str, Any]:
    """The options as plain data by name, defaults resolved.

    `resume` and `overwrite` are left out: they belong to one call, not to the run.
    """
    resolved = config.resolved() if hasattr(config, "resolved") else {}
    plain: dict[str, Any] = {}
    for each in fields(config):
        value = resolved.get(each.name, getattr(config, each.name))
        if is_dataclass(value):
            plain |= to_dict(value)
        elif each.name not in ("resume", "overwrite") and not (each.name in NEWER and value == each.default):
            plain[each.name] = _plain(value)
    return plain


def _plain(value: Any) -> Any:
    """Numbers of Python for numpy's, text for paths, lists for tuples."""
    if isinstance(value, tuple):
        return [_plain(each) for each in value]
    if isinstance(value, PurePath):
        return str(value)
    if isinstance(value, bool) or not isinstance(value, Real):
        return value
    return int(value) if isinstance(value, Integral) else float(value)
