"""Options of fine-tuning."""

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from dbn.config.common import ADAPTIVE_RATE, Optimizer, RunConfig
from dbn.config.schedules import Schedule
from dbn.config.validation import (
    check_distinct,
    check_integer,
    check_not_empty,
    check_number,
    check_per_item,
    check_schedule,
    check_training,
)
from dbn.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Finetuning:
    """How the arms are trained and compared."""

    init: tuple[str, ...] = ("dbn", "xavier_uniform", "he_normal")
    """The arms: NAME, NAME:ACTIVATION or NAME(PARAMETER=VALUE):ACTIVATION, such as normal(std=1.0):relu."""
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
    schedule: Literal["constant", "cosine"] | str = "cosine"
    """The learning rate over the epochs: constant, cosine, or factors of it in steps (1,0.1@20) or a line (1:0)."""
    layer_rates: tuple[float, ...] = (1.0,)
    """Factors of the learning rate: one, or one a layer from the input up, the output layer's last."""
    weight_decay: float = 0.0
    """L2 penalty on weights; biases have none."""
    max_norm: float | None = None
    """Largest Euclidean norm of a hidden unit's weights, kept to after each step."""
    input_dropout: float = 0.0
    """Share of the inputs that are left out, drawn anew for each example and step."""
    hidden_dropout: float = 0.0
    """Share of the hidden units that are left out likewise."""
    average: float | None = None
    """Decay of a running average of the weights, which is kept in place of the last ones, such as 0.99."""
    patience: int | None = None
    """Epochs without a better validation error before stopping; left out, all run and the best is kept."""
    freeze_epochs: int | Literal["all"] = 0
    """Epochs for which only the output layer learns."""
    precision: Literal["float32", "tf32", "bf16"] = "float32"
    """Of matrix products in training, where the device has such; weights and measurements stay in float32."""
    refit: bool = False
    """Train once more on training and validation examples together."""
    signals: tuple[int, ...] | None = None
    """Epochs after which TensorBoard is shown how far activations and gradients reach, start and end beside them."""

    def __post_init__(self) -> None:
        check_training(self)
        check_number(self, "learning_rate", "a number above 0", lambda rate: rate > 0)
        check_number(self, "momentum", "at least 0 and below 1", lambda momentum: 0 <= momentum < 1)
        check_not_empty(self, "init")
        check_distinct(self, "init", "learning_rate", "signals")
        check_integer(self, 1, "seeds", "patience", "signals")
        check_integer(self, 2, "labels", "valid_labels")
        check_not_empty(self, "layer_rates", "signals")
        for name in ("layer_rates", "max_norm"):
            check_number(self, name, "a number above 0", lambda value: value > 0)
        for name in ("input_dropout", "hidden_dropout"):
            check_number(self, name, "at least 0 and below 1", lambda share: 0 <= share < 1)
        check_number(self, "average", "between 0 and 1", lambda decay: 0 < decay < 1)
        if self.schedule not in ("constant", "cosine"):
            wanted = "constant, cosine or a factor above 0"
            check_schedule(self, "schedule", wanted, lambda factor: factor > 0, may_end_at_0=True)
        if self.freeze_epochs != "all":
            check_integer(self, 0, "freeze_epochs")

    def resolved(self) -> dict[str, Any]:
        """The values that stand for those left out."""
        momentum = 0.9 if self.optimizer == "sgd" and self.momentum is None else self.momentum
        return {"learning_rate": self.learning_rates, "momentum": momentum}

    @property
    def learning_rates(self) -> tuple[float, ...]:
        """The learning rates that an arm chooses from."""
        return self.learning_rate or ((0.1,) if self.optimizer == "sgd" else (ADAPTIVE_RATE,))

    def rate_factor(self, done: float) -> float:
        """What the schedule multiplies learning rates by when so many epochs are done, with the fraction of one."""
        if self.schedule == "constant":
            return 1.0
        if self.schedule == "cosine":
            return 0.5 * (1 + math.cos(math.pi * done / self.epochs))
        return Schedule.read(self.schedule).at(1 + done, self.epochs)


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
        check_not_empty(self, "hidden")
        check_integer(self, 1, "hidden")
        check_distinct(self, "pretrained")
        check_per_item(self, self.training.seeds, "a seed", "pretrained")
        if self.pretrained and self.hidden:
            raise InputError("--hidden does not go with --pretrained, which brings its own sizes.")
        if self.pretrained:
            return
        if any(arm.partition(":")[0] == "dbn" for arm in self.training.init):
            raise InputError("--init dbn needs --pretrained: name a run of pretrain.py, or other arms.")
        for name in ("dataset", "hidden"):
            if getattr(self, name) is None:
                raise InputError(f"--{name} is needed where --pretrained is not given.")
