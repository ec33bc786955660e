"""What can be set: frozen dataclasses, one for each script, made of the parts that they share.

Each field is an option of the same name (`batch_size` is `--batch-size`) and a key of a configuration file.
A value that cannot work is refused on construction with an `InputError`, wherever it came from; where a field
is a tuple, a list or a single value will do.
"""

from dataclasses import dataclass, field, fields, is_dataclass
from numbers import Integral, Real
from pathlib import Path, PurePath
from typing import Any, Literal

from dbn.checks import check_device, check_distinct, check_output, check_per, check_some, check_whole, settle
from dbn.errors import InputError
from dbn.hyperparameters import Finetuning, Pretraining


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
        settle(self)


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
        settle(self)
        check_device(self.device)
        if self.resume and self.overwrite:
            raise InputError("--resume does not go with --overwrite: one keeps the run, the other replaces it.")


@dataclass(frozen=True, kw_only=True)
class PretrainConfig(RunConfig):
    """scripts/pretrain.py."""

    run: Path = Path("runs/pretrain")
    """The new folder of this run."""
    data: DataConfig = DataConfig()
    training: Pretraining = field(default_factory=Pretraining)


@dataclass(frozen=True, kw_only=True)
class FinetuneConfig(RunConfig):
    """scripts/finetune.py."""

    run: Path = Path("runs/finetune")
    """The new folder of this run."""
    pretrained: tuple[Path, ...] = ()
    """Runs of scripts/pretrain.py: one, or one a seed."""
    dataset: str | None = None
    """As for scripts/pretrain.py; left out, the data set of --pretrained."""
    data_dir: Path | None = None
    """Folder of the named data sets; left out, $DBN_DATA or the user's cache folder."""
    label_column: str | None = None
    """Column of a .csv file that holds the labels."""
    hidden: tuple[int, ...] | None = None
    """Hidden units of each layer where there is no --pretrained."""
    training: Finetuning = field(default_factory=Finetuning)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_some(self, "hidden")
        check_whole(self, 1, "hidden")
        check_distinct(self, "pretrained")
        check_per(self, self.training.seeds, "a seed", "pretrained")
        if self.pretrained and self.hidden:
            raise InputError("--hidden does not go with --pretrained, which brings its own sizes.")
        if self.pretrained:
            return
        if any(arm.partition(":")[0] == "dbn" for arm in self.training.init):
            raise InputError("--init dbn needs --pretrained: name a run of pretrain.py, or other arms.")
        for name in ("dataset", "hidden"):
            if getattr(self, name) is None:
                raise InputError(f"--{name} is needed where --pretrained is not given.")


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """scripts/evaluate.py."""

    run: Path
    """A run of scripts/pretrain.py, or an RBM in a .npz or .safetensors file: weight, visible_bias, hidden_bias."""
    data: Path | None = None
    """Examples to score, a .npz (x, or x and x_test, or train and test), .npy or .csv file; or the data set's own."""
    dataset: str | None = None
    """As for scripts/pretrain.py; left out, the data set of --run."""
    data_dir: Path | None = None
    """Folder of the named data sets; left out, $DBN_DATA or the user's cache folder."""
    label_column: str | None = None
    """Column of a .csv file that holds labels, which are not looked at."""
    binarize: Literal["threshold", "sample", "fixed"] | None = None
    """Grey levels cut at 0.5 (threshold), or drawn once (sample, fixed); left out, as --run was trained."""
    exact: bool = False
    """Sum over every state of the smaller side, in place of AIS."""
    ais: int | Literal["published", "quick"] | None = None
    """Temperatures of AIS: published (14,501), quick (1,001), or a number, spaced as quick's; left out, published."""
    chains: int | None = None
    """Chains of every AIS run; left out, 100."""
    reverse: bool = True
    """Anneal back as well, from data and from the states AIS ended in: three times the work; and between layers."""
    seed: int = 0
    """Everything random follows from it."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:N or mps."""
    output: Path | None = None
    """The JSON file to write; left out, result.json in the run's folder."""

    def __post_init__(self) -> None:
        settle(self)
        check_whole(self, 1, "chains")
        check_whole(self, 0, "seed")
        if not isinstance(self.ais, str):
            check_whole(self, 2, "ais")
        check_device(self.device)
        check_output(self.output, self.run, self.data)
        for name, given in (("ais", self.ais), ("chains", self.chains), ("no-reverse", not self.reverse)):
            if self.exact and given:
                raise InputError(f"--{name} does not go with --exact, which takes the place of AIS.")

    def resolved(self) -> dict[str, Any]:
        """The values that stand for those left out; none with --exact."""
        ais, chains = (None, None) if self.exact else (self.ais or "published", self.chains or 100)
        return {"ais": ais, "chains": chains}


@dataclass(frozen=True, kw_only=True)
class SampleConfig:
    """scripts/sample.py."""

    run: Path
    """A run of scripts/pretrain.py."""
    output: Path
    """The PNG file to write."""
    start: Literal["data", "noise"] = "data"
    """What the Gibbs chains start from."""
    count: int = 64
    """Images in the grid."""
    steps: int = 1000
    """Gibbs steps in the top RBM."""
    seed: int = 0
    """Everything random follows from it."""
    data_dir: Path | None = None
    """Folder of the named data sets; left out, $DBN_DATA or the user's cache folder."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:N or mps."""

    def __post_init__(self) -> None:
        settle(self)
        if self.output.suffix.lower() != ".png":
            raise InputError(f"--output {self.output} must end in .png, as that is what is written.")
        check_whole(self, 1, "count", "steps")
        check_whole(self, 0, "seed")
        check_device(self.device)


@dataclass(frozen=True, kw_only=True)
class PredictConfig:
    """scripts/predict.py."""

    run: Path
    """A run of scripts/finetune.py."""
    data: Path
    """The examples: a .npz, .npy or .csv file."""
    label_column: str | None = None
    """Column of a .csv file that holds labels, which are not looked at."""
    output: Path
    """The CSV file to write: a row of class probabilities an example."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:N or mps."""

    def __post_init__(self) -> None:
        settle(self)
        check_device(self.device)
        check_output(self.output, self.data)


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
