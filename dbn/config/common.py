"""What can be set: frozen dataclasses, one for each script, made of the parts that they share.

Each field is an option of the same name (`batch_size` is `--batch-size`) and a key of a configuration file.
A value that cannot work is refused on construction with an `InputError`, wherever it came from; where a field
is a tuple, a list or a single value will do.
"""

from dataclasses import dataclass, fields, is_dataclass
from numbers import Integral, Real
from pathlib import Path, PurePath
from typing import Annotated, Any

from dbn.config.validation import Choice, check_device, normalize_fields
from dbn.errors import InputError

Optimizer = Annotated[str, Choice("dbn.training:OPTIMIZERS")]
UnitKind = Annotated[str, Choice("dbn.models.units:UNITS")]


# Learning rates where none is given: optimisers that scale their own steps; SGD on Gaussian visible units, whose
# gradients grow with the number of correlated columns (0.03 diverges on 3,072 of them).
ADAPTIVE_RATE, GAUSSIAN_RATE = 0.001, 0.01

ALIASES = {"centred": "centered"}
"""Earlier names of options, which command lines, files and Python may still use."""


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Where the examples come from."""

    dataset: str = "mnist-10k"
    """mnist-10k (shipped), mnist, fashion-mnist, kmnist, usps, cifar10, mnist-rot, mnist-back-rand, rectangles, convex,
    or a .npz, .npy or .csv file."""
    data_dir: Path | None = None
    """Folder of the named data sets; left out, $DBN_DATA or the user's cache folder."""
    label_column: str | None = None
    """Column of a .csv file that holds the labels."""

    def __post_init__(self) -> None:
        normalize_fields(self)


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """The run folder and the machine; the base of the scripts that make a run."""

    run: Path
    """The new folder of this run."""
    resume: bool = False
    """Go on with the run in that folder, under the options it was begun with."""
    overwrite: bool = False
    """Replace the run in that folder."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:N or mps."""

    def __post_init__(self) -> None:
        normalize_fields(self)
        check_device(self.device)
        if self.resume and self.overwrite:
            raise InputError("--resume does not go with --overwrite: one keeps the run, the other replaces it.")


def to_dict(config: Any) -> dict[str, Any]:
    """The options as plain data under their fields' names.

    Options that were left out stand there with the values they resolve to. `resume` and `overwrite` do not:
    they belong to one call, not to the run.
    """
    resolved = config.resolved() if hasattr(config, "resolved") else {}
    plain: dict[str, Any] = {}
    for each in fields(config):
        value = resolved.get(each.name, getattr(config, each.name))
        if is_dataclass(value):
            plain |= to_dict(value)
        elif each.name not in ("resume", "overwrite"):
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
