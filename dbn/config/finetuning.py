"""Options of fine-tuning."""

import math
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from dbn.config.common import ADAPTIVE_RATE, DataOptions, RunConfig, TrainingOptions
from dbn.config.defaults import batch_for, finetuning_epochs, sgd_rates
from dbn.config.schedules import Schedule
from dbn.config.validation import (
    AtLeast2,
    BelowOne,
    Choice,
    Count,
    Natural,
    Positive,
    Rule,
    check_distinct,
    check_per_item,
)
from dbn.errors import InputError
from dbn.registry import table

InitName = Annotated[str, Choice("dbn.initializers:INITIALIZERS", strict=False)]
WHOLE = Rule("a whole number", lambda rows: rows >= 0 and rows == int(rows), is_schedule=True, may_end_at_0=True)
PseudoRows = Annotated[int | str, WHOLE]
Factor = Rule("constant, cosine or a factor above 0", lambda factor: factor > 0, is_schedule=True, may_end_at_0=True)


@dataclass(frozen=True, kw_only=True)
class Finetuning(TrainingOptions):
    """Training and comparison of the arms."""

    CHOSEN_BY_DATA = ("batch_size", "epochs", "learning_rate")

    init: tuple[InitName, ...] = ("dbn", "xavier_uniform", "he_normal")
    """The arms: dbn, NAME, NAME:ACTIVATION or NAME(PARAMETER=VALUE):ACTIVATION, such as normal(std=1.0):relu."""
    task: Annotated[str, Choice("dbn.tasks:TASKS")] = "classify"
    """What is learned: labels that are classes, numbers (regress) or columns of 0 and 1 (multilabel); or codes of the
    rows, by reconstruction (autoencode)."""
    output_init: InitName = "xavier_uniform"
    """The output layer of every arm, such as zeros or mup_normal; the arms zeros and constant set it themselves."""
    labels: AtLeast2 | None = None
    """Labeled training examples, drawn as --split says (default: all)."""
    labels_per_class: Count | None = None
    """Labeled training examples of every class, in place of --labels (default: none)."""
    valid_labels: AtLeast2 | None = None
    """Labeled examples for tuning and early stopping (default: as many as --labels and at most 1000)."""
    pseudo_labels: PseudoRows | None = None
    """Training rows, drawn for each epoch, that the network labels itself and learns from beside the labeled ones:
    a number, which may change in steps (0,5000@20) or along a line over the epochs (0:5000) (default: none)."""
    pseudo_confidence: BelowOne = 0.0
    """Probability of the class from which on such a row is learned from."""
    seeds: Count = 5
    """Repetitions of every arm, with --seed, --seed + 1, …; a seed draws labels, order and output layer."""
    epochs: Count = None  # type: ignore[assignment]
    """Passes over the labeled examples (default: 50, and more for fewer than 500 updates)."""
    learning_rate: tuple[Positive, ...] | None = None
    """Each arm selects the rate with the lowest validation error (default: 0.1 for sgd, for batches below 100 also
    0.03; 0.001 otherwise)."""
    momentum: BelowOne | None = None
    """sgd and rmsprop (default: 0.9 for sgd)."""
    schedule: Literal["constant", "cosine"] | Annotated[str, Factor] = "cosine"
    """Learning rate over the epochs: constant, cosine, or factors of it in steps (1,0.1@20) or along a line (1:0)."""
    layer_rates: tuple[Positive, ...] = (1.0,)
    """Factors of the learning rate: one, or one per layer from the input up, the output layer's last."""
    input_dropout: BelowOne = 0.0
    """Fraction of inputs dropped, drawn for each example and step."""
    hidden_dropout: BelowOne = 0.0
    """Fraction of hidden units dropped likewise."""
    patience: Count | None = None
    """Epochs without a better validation error before stopping (default: all epochs run and the best is kept)."""
    freeze_epochs: Natural | Literal["all"] = 0
    """Epochs in which only the output layer learns."""
    together: Count | Literal["auto"] = 1
    """Runs of networks of one shape that train at the same time: so many at most, or auto for as many as pay. Results
    differ by rounding alone."""
    refit: bool = False
    """Train once more on training and validation examples together."""
    standardize: bool = False
    """Bring columns to mean 0 and variance 1 over the training rows, as real values need; a stack brings its own."""
    signals: tuple[Count, ...] | None = None
    """Epochs after which TensorBoard gets the propagation of activations and gradients, besides start and end
    (default: none)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_distinct(self, "init", "learning_rate", "signals")
        if self.labels is not None and self.labels_per_class is not None:
            raise InputError("--labels does not go with --labels-per-class: keep one.")
        if self.pseudo_confidence and self.pseudo_labels is None:
            raise InputError("--pseudo-confidence needs --pseudo-labels: say how many rows, or leave it out")
        if self.pseudo_labels is not None and self.task != "classify":
            raise InputError(f"--pseudo-labels needs classes: leave it out with --task {self.task}")

    def for_data(self, labels: int) -> Self:
        """The same with everything that was left out, as `dbn.config.defaults` chooses it for so many labels."""
        batch = self.batch_size or batch_for(labels)
        epochs = self.epochs or finetuning_epochs(labels, batch)
        filled = replace(self, batch_size=batch, epochs=epochs, **self.resolved())
        own = table("dbn.tasks:TASKS")[self.task].sgd_rates
        rates = own or sgd_rates(batch) if self.optimizer == "sgd" else filled.learning_rate
        return replace(filled, learning_rate=self.learning_rate or rates)

    def resolved(self) -> dict[str, Any]:
        """Default values of what was left out, but for those that depend on the data."""
        momentum = 0.9 if self.optimizer == "sgd" and self.momentum is None else self.momentum
        return {"learning_rate": self.learning_rates, "momentum": momentum}

    @property
    def uses_stack(self) -> bool:
        """Whether the arm `dbn` is among them."""
        return any(arm.partition(":")[0] == "dbn" for arm in self.init)

    @property
    def learning_rates(self) -> tuple[float, ...]:
        """The learning rates that an arm selects from."""
        return self.learning_rate or ((0.1,) if self.optimizer == "sgd" else (ADAPTIVE_RATE,))

    def pseudo_rows(self, epoch: int, epochs: int) -> int:
        """How many rows the network labels itself for an epoch of so many."""
        return 0 if self.pseudo_labels is None else round(Schedule.read(self.pseudo_labels).at(epoch, epochs))

    def rate_factor(self, done: float) -> float:
        """The factor of learning rates after `done` epochs, which may be fractional; after `for_data`."""
        if self.schedule == "constant":
            return 1.0
        if self.schedule == "cosine":
            return 0.5 * (1 + math.cos(math.pi * done / self.epochs))
        return Schedule.read(self.schedule).at(1 + done, self.epochs)


@dataclass(frozen=True, kw_only=True)
class FinetuneConfig(DataOptions, RunConfig):
    """Options of finetune."""

    run: Path = Path("runs/finetune")
    pretrained: tuple[Path, ...] = ()
    """Runs of pretrain: one, or one per seed (default: none)."""
    hidden: tuple[Count, ...] | None = None
    """Hidden units of each layer (default: those of --pretrained)."""
    training: Finetuning = field(default_factory=Finetuning)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_distinct(self, "pretrained")
        check_per_item(self, self.training.seeds, "a seed", "pretrained")
        if self.pretrained and self.hidden:
            raise InputError("--hidden does not go with --pretrained, which brings its own sizes")
        if self.pretrained and self.training.standardize:
            raise InputError("--standardize does not go with --pretrained, which brings its own scaling")
        if self.pretrained:
            return
        if self.training.uses_stack:
            raise InputError("--init dbn needs --pretrained: name a run of pretrain, or other arms")
        for name in ("dataset", "hidden"):
            if getattr(self, name) is None:
                raise InputError(f"--{name} is needed where --pretrained is not given")
