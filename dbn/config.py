"""What can be set: frozen dataclasses, one for each script, made of the parts that they share.

Each field is an option of the same name (`batch_size` is `--batch-size`) and a key of a configuration file.
A value that cannot work is refused on construction with an `InputError`, wherever it came from; where a field
is a tuple, a list or a single value will do.
"""

from dataclasses import dataclass, fields, is_dataclass
from numbers import Integral, Real
from pathlib import Path, PurePath
from typing import Any, Literal, NamedTuple

from dbn.checks import check_device, check_distinct, check_per, check_some, check_training, check_whole, settle
from dbn.errors import InputError

Optimizer = Literal["sgd", "adam", "adamw", "rmsprop", "nadam", "adagrad"]

# Learning rates where none is given: optimisers that scale their own steps; SGD on Gaussian visible units, whose
# gradients grow with the number of correlated columns (0.03 diverges on 3,072 of them).
ADAPTIVE_RATE, GAUSSIAN_RATE = 0.001, 0.01


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Where the examples come from."""

    dataset: str = "mnist-10k"
    """mnist-10k (shipped), mnist, fashion-mnist, kmnist, usps, cifar10, or a .npz, .npy or .csv file."""
    data_dir: Path | None = None
    """Folder of the named data sets; left out, $DBN_DATA or the user's cache folder."""
    label_column: str | None = None
    """Column of a .csv file that holds the labels."""


class LayerTraining(NamedTuple):
    """What one layer is trained with."""

    epochs: int
    learning_rate: float
    gibbs_steps: int


@dataclass(frozen=True, kw_only=True)
class Pretraining:
    """How a stack of RBMs is trained, bottom to top."""

    hidden: tuple[int, ...] = (500, 500, 2000)
    """Hidden units of each layer, from the data upwards."""
    epochs: tuple[int, ...] = (10,)
    """Passes over the training data: one value, or one a layer."""
    batch_size: int = 100
    """Examples in one step."""
    learning_rate: tuple[float, ...] | None = None
    """One value, or one a layer; left out, 0.1 for sgd (0.01 on Gaussian units), otherwise 0.001."""
    warmup_epochs: int = 1
    """Epochs over which a layer's learning rate rises from 0; at once, wide layers overshoot and units die."""
    estimator: Literal["cd"] = "cd"
    """How the gradient is estimated: contrastive divergence."""
    gibbs_steps: tuple[int, ...] = (1,)
    """Gibbs steps before the negative statistics, the k of CD-k: one value, or one a layer."""
    optimizer: Optimizer = "sgd"
    """The torch.optim optimiser."""
    momentum: tuple[float, ...] | None = None
    """sgd and rmsprop: one value, or one before --momentum-switch and one after; sgd's default is 0.5 0.9."""
    momentum_switch: int = 5
    """Epochs of each layer with the first of two momentum values."""
    weight_decay: float = 2e-4
    """L2 penalty on weights; biases have none."""
    visible: Literal["bernoulli", "gaussian"] = "bernoulli"
    """Units of the data: bernoulli for values in [0, 1], gaussian for real values, which are standardised."""
    binarize: Literal["none", "threshold", "sample", "fixed"] = "none"
    """Grey levels as probabilities (none), cut at 0.5, drawn anew each epoch (sample), or drawn once (fixed)."""
    features: Literal["mean", "sample"] = "mean"
    """What a trained layer hands to the next: probabilities or draws."""
    measure_every: int = 1
    """Epochs from one measurement to the next."""
    picture_every: int = 5
    """Epochs from one set of pictures to the next."""
    seed: int = 0
    """Everything random follows from it."""

    def __post_init__(self) -> None:
        check_training(self)
        check_some(self, "hidden", "gibbs_steps")
        check_whole(self, 1, "hidden", "gibbs_steps", "measure_every", "picture_every")
        check_whole(self, 0, "momentum_switch", "warmup_epochs")
        check_per(self, len(self.hidden), "a layer", "epochs", "learning_rate", "gibbs_steps")
        if len(self.momentum or ()) > 2:
            raise InputError("--momentum takes one value, or one before and one after --momentum-switch.")
        if self.visible == "gaussian" and self.binarize != "none":
            raise InputError(f"--binarize {self.binarize} does not go with --visible gaussian (real numbers).")

    def resolved(self) -> dict[str, Any]:
        """The values that stand for those left out."""
        rate = 0.1 if self.optimizer == "sgd" else ADAPTIVE_RATE
        first = min(rate, GAUSSIAN_RATE) if self.visible == "gaussian" else rate
        rates = (rate,) if first == rate else (first, *(rate for _ in self.hidden[1:]))
        momentum = (0.5, 0.9) if self.optimizer == "sgd" else None
        return {"learning_rate": self.learning_rate or rates, "momentum": self.momentum or momentum}

    def for_layer(self, layer: int) -> LayerTraining:
        """What layer 0 … len(hidden) − 1 is trained with."""
        choices = (self.epochs, self.resolved()["learning_rate"], self.gibbs_steps)
        return LayerTraining(*(values[layer if len(values) > 1 else 0] for values in choices))

    def momentum_at(self, epoch: int) -> float:
        """The momentum of a layer's epoch 1, 2, …; 0 for an optimiser that has none."""
        values = self.resolved()["momentum"] or (0.0,)
        return float(values[0] if epoch <= self.momentum_switch else values[-1])


@dataclass(frozen=True, kw_only=True)
class Finetuning:
    """How the arms are trained and compared."""

    init: tuple[str, ...] = ("dbn", "xavier_uniform", "he_normal")
    """The arms: initialisers by name, or NAME:ACTIVATION."""
    labels: int | None = None
    """Labelled training examples, balanced over classes; left out, all."""
    valid_labels: int | None = None
    """Labelled examples for tuning and stopping; left out, as many as --labels and at most 1000."""
    seeds: int = 5
    """Repetitions of every arm, under --seed, --seed + 1, …"""
    seed: int = 0
    """The first seed; it draws labels, order and output layer, alike for all arms."""
    epochs: int = 50
    """Passes over the labelled examples."""
    batch_size: int = 100
    """Examples in one step."""
    learning_rate: tuple[float, ...] | None = None
    """An arm keeps the one with the best validation error; left out, 0.1 for sgd, otherwise 0.001."""
    optimizer: Optimizer = "sgd"
    """The torch.optim optimiser."""
    momentum: float | None = None
    """For sgd and rmsprop; sgd's default is 0.9."""
    schedule: Literal["constant", "cosine"] = "cosine"
    """The learning rate over the epochs."""
    weight_decay: float = 0.0
    """L2 penalty on weights; biases have none."""
    patience: int | None = None
    """Epochs without a better validation error before stopping; left out, all run and the best is kept."""
    freeze_epochs: int | Literal["all"] = 0
    """Epochs for which only the output layer learns."""
    refit: bool = False
    """Train once more on training and validation examples together."""

    def __post_init__(self) -> None:
        check_training(self)
        check_some(self, "init")
        check_distinct(self, "init", "learning_rate")
        check_whole(self, 1, "seeds", "patience")
        check_whole(self, 2, "labels", "valid_labels")
        if self.freeze_epochs != "all":
            check_whole(self, 0, "freeze_epochs")

    def resolved(self) -> dict[str, Any]:
        """The values that stand for those left out."""
        momentum = 0.9 if self.optimizer == "sgd" and self.momentum is None else self.momentum
        return {"learning_rate": self.learning_rates, "momentum": momentum}

    @property
    def learning_rates(self) -> tuple[float, ...]:
        """The learning rates that an arm chooses from."""
        return self.learning_rate or ((0.1,) if self.optimizer == "sgd" else (ADAPTIVE_RATE,))


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
    training: Pretraining = Pretraining()


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
    training: Finetuning = Finetuning()

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
