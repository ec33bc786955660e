"""Options of pre-training."""

import re
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, Self

from dbn.columns import COLUMN_KINDS, read_kinds
from dbn.config.common import (
    DataConfig,
    RunConfig,
    TrainingOptions,
    UnitKind,
    VisibleKind,
    check_taken,
)
from dbn.config.defaults import HIDDEN, batch_for, default_rates, hidden_layers, of_pretraining
from dbn.config.schedules import Schedule
from dbn.config.validation import AtLeast2, Between, Choice, Count, Natural, NonNegative, Positive, Rule, check_per_item
from dbn.errors import InputError
from dbn.registry import split_sum, suggestion

CHAINS = Choice("dbn.sampling:CHAINS")
PENALTIES = Choice("dbn.pretraining:PENALTIES", strict=False)
Rate = Annotated[float | str, Rule("a number above 0", lambda rate: rate > 0, is_schedule=True, may_end_at_0=True)]
Momentum = Annotated[float | str, Rule("at least 0 and below 1", lambda value: 0 <= value < 1, is_schedule=True)]
Steps = Annotated[
    int | str,
    Rule("a whole number of at least 1", lambda steps: steps >= 1 and float(steps).is_integer(), is_schedule=True),
]


WIDE = ("gaussian", "relu", "drelu", "binomial")
"""Unit types whose values are not within 1 of each other: beside them weights are learned more slowly."""


class LayerTraining(NamedTuple):
    """The settings of one layer."""

    epochs: int
    learning_rate: Schedule
    gibbs_steps: Schedule
    momentum: Schedule


@dataclass(frozen=True, kw_only=True)
class Pretraining(TrainingOptions):
    """Training of a stack of RBMs, bottom to top."""

    CHOSEN_BY_DATA: ClassVar[tuple[str, ...]] = (
        "hidden", "batch_size", "epochs", "learning_rate", "momentum", "centered", "warmup_epochs", "measure_every",
        "picture_every"
    )  # fmt: skip

    has_labels: ClassVar[bool] = False
    """Whether the visible units end with labels."""

    hidden: tuple[Count, ...] = None  # type: ignore[assignment]
    """Hidden units of each layer, from the data upwards (default: 500 500 2000, and at most a quarter of the rows)."""
    epochs: tuple[Count, ...] = None  # type: ignore[assignment]
    """Passes over the training data: one value, or one per layer (default: as many as are 900 updates, at
    least 10, and 15 with batches of 100)."""
    learning_rate: tuple[Rate, ...] | None = None
    """Value or schedule (0.1:0 falls to 0), or one per layer (default: 0.001; for sgd 0.1, with batches of
    100 or more 0.2, and 0.01 for Gaussian units; for sgd with persistent chains 0.4:0 and 0.1:0)."""
    warmup_epochs: Natural = None  # type: ignore[assignment]
    """Epochs over which a layer's learning rate rises from 0; without them units of wide layers overshoot and die
    (default: 1, or as many as are 90 updates)."""
    estimator: Annotated[str, CHAINS] = "cd"
    """Source of negative samples: chains from the data (cd), persistent chains (pcd; lagged-pcd saves a product, for
    training without momentum), or parallel tempering (pt)."""
    gibbs_steps: tuple[Steps, ...] = (1,)
    """Gibbs steps per gradient, the k of CD-k: one value or schedule (1,3@10,10@40), or one per layer."""
    chains: Count | None = None
    """Persistent chains, for pt at each temperature (default: as many as --batch-size)."""
    temperatures: AtLeast2 | None = None
    """pt: temperatures from the independent model to the RBM (default: 10)."""
    centered: bool = None  # type: ignore[assignment]
    """Center the gradient on the running means of the units: the same model, better conditioned (default: with
    persistent chains)."""
    momentum: Momentum | None = None
    """sgd and rmsprop: one value or schedule (default: 0.5,0.9@6 for sgd, and a later epoch for fewer than 450
    updates; 0 with persistent chains, which fall behind with momentum)."""
    weight_decay: NonNegative = 2e-4
    penalty: tuple[Annotated[str, PENALTIES], ...] = ()
    """Penalties by name, such as l1(strength=0.001); --l1, --sparsity-target and --max-norm are short for the first
    three (default: none)."""
    l1: NonNegative = 0.0
    """L1 penalty on weights."""
    sparsity_target: Between | None = None
    """Target of the mean activity of hidden units (default: none)."""
    sparsity_cost: Positive | None = None
    """Strength of the penalty on the distance from that target (default: 0.01)."""
    visible: VisibleKind = "bernoulli"
    """Units of the data: bernoulli for values in [0, 1], gaussian for real values, which are standardized, relu for
    values of 0 or more, drelu for real values as they are, spin for -1 and 1, binomial(trials=n), in quotes, for counts
    up to n, categorical(states=3) for the codes 0, 1 and 2 of categories; auto for tables, whose columns have their
    own; or parts, as in "3 bernoulli + 2 gaussian"."""
    column_kinds: tuple[str, ...] = ()
    """auto: columns whose kind is not to be inferred, as age=gaussian sex=categorical (default: none)."""
    hidden_units: tuple[UnitKind, ...] = ("bernoulli",)
    """Units of the hidden layers: one type, or one per layer."""
    missing: Literal["refuse", "gibbs", "absent"] = "refuse"
    """Rows with holes, which are empty cells, NaN or masked: an error (refuse); filled in at each use by Gibbs sampling
    given what is observed (gibbs); or learned by a model of the observed units alone, as for ratings of which most are
    missing (absent)."""
    missing_steps: Count | None = None
    """gibbs: steps by which the holes of a row are filled in (default: 10)."""
    compile: bool = False
    """Compile what a step does between its products: fewer passes over memory, other last bits, and seconds for each
    layer before its second step."""
    binarize: Literal["none", "threshold", "sample", "fixed"] = "none"
    """Gray levels: as probabilities (none), cut at 0.5, drawn in every epoch (sample), or drawn once (fixed)."""
    tied: bool = False
    """Initialize an upper layer as the transpose of the one below: the bound then starts at the value it had."""
    features: Literal["mean", "sample"] = "mean"
    """Input of the next layer: probabilities or samples."""
    measure_every: Count = None  # type: ignore[assignment]
    """Epochs between measurements (default: 1, or as many as are 90 updates)."""
    likelihood_every: Natural = 0
    """Epochs between quick estimates of the log-likelihood by annealed importance sampling; 0 for none."""
    picture_every: Count = None  # type: ignore[assignment]
    """Epochs between sets of images (default: 5, or as many as are 450 updates)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_per_item(
            self,
            len(self.hidden or HIDDEN),
            "a layer",
            "epochs",
            "learning_rate",
            "gibbs_steps",
            "hidden_units",
        )
        self._check_penalties()
        try:
            read_kinds(self.column_kinds)
        except ValueError as error:
            kinds = " or ".join(COLUMN_KINDS)
            raise InputError(f"--column-kinds takes COLUMN=KIND with {kinds}, not {str(error)!r}") from error
        if self.column_kinds and not self.is_table:
            raise InputError("--column-kinds needs --visible auto")
        for kind in self.hidden_units:
            if split_sum(kind):
                raise InputError(f"--hidden-units {kind}: units of several types are for the data alone, name one type")
        if self.binarize != "none" and self.visible != "bernoulli":
            raise InputError(f"--binarize {self.binarize} does not go with --visible {self.visible}: leave it out")
        if self.likelihood_every and self.visible == "bernoulli" and self.binarize == "none":
            raise InputError("--likelihood-every needs --binarize: gray levels have no likelihood under binary units")
        if self.compile and self.estimator == "pt":
            raise InputError("--compile does not go with --estimator pt, which is not compiled: leave it out")
        self._check_missing()
        for name in ("chains", "temperatures"):
            if getattr(self, name) is not None:
                check_taken(name, "estimator", self.chosen_estimator, CHAINS.place)
        if self.estimator == "class-pcd" and not self.has_labels:
            raise InputError("--estimator class-pcd is for label models, whose chains have a class: use pcd")
        momentum = Schedule.read(self.momentum or 0.0).values
        if self.optimizer == "rmsprop" and momentum[0] == 0 < max(momentum):
            raise InputError(f"--momentum {self.momentum} starts at 0, from where rmsprop cannot rise: start above 0")
        if self.sparsity_cost is not None and self.sparsity_target is None:
            raise InputError("--sparsity-cost needs --sparsity-target")

    def _check_missing(self) -> None:
        """What does not go with rows with holes."""
        if self.missing_steps is not None and self.missing != "gibbs":
            raise InputError("--missing-steps needs --missing gibbs")
        if self.missing == "refuse":
            return
        if self.missing == "absent" and self.is_persistent:
            raise InputError(
                f"--missing absent does not go with --estimator {self.estimator}, whose chains have no holes: use cd, "
                "or --missing gibbs"
            )
        if self.binarize != "none":
            raise InputError(f"--binarize {self.binarize} does not go with --missing {self.missing}: leave it out")
        if self.likelihood_every:
            raise InputError(f"--likelihood-every does not go with --missing {self.missing}: leave it out")

    def _check_penalties(self) -> None:
        """The names are known and the brackets closed; the rest is checked where penalties are made."""
        for written in self.penalty:
            match = re.fullmatch(r"([\w-]+)(\([^()]*\))?", "".join(str(written).split()))
            if match is None:
                raise InputError(f"--penalty: invalid penalty {written!r}: expected NAME or NAME(PARAMETER=VALUE, ...)")
            if match[1] not in PENALTIES.table:
                raise InputError(f"--penalty: there is no penalty {match[1]!r}{suggestion(match[1], PENALTIES.table)}")

    @property
    def is_table(self) -> bool:
        """Whether the visible units follow the columns of a table, inferred or as they were found."""
        return self.visible == "auto" or bool(self.column_kinds and split_sum(self.visible))

    @property
    def kinds(self) -> dict[str, str] | None:
        """Kinds of columns by name, for `dbn.columns`; None unless the data are a table."""
        return read_kinds(self.column_kinds) if self.is_table else None

    @property
    def estimator_parameters(self) -> Collection[str]:
        """The parameters that the estimator takes, of `steps`, `chains` and `temperatures`."""
        return CHAINS.table.parameters(self.chosen_estimator)

    @property
    def chosen_estimator(self) -> str:
        """The estimator, also where it is left out."""
        return self.estimator

    @property
    def unit_kinds(self) -> list[str]:
        """The unit types of the data and of every hidden layer."""
        one = len(self.hidden_units) == 1
        return [self.visible, *(self.hidden_units * len(self.hidden or HIDDEN) if one else self.hidden_units)]

    @property
    def is_persistent(self) -> bool:
        """Whether the estimator keeps chains, which must follow the model."""
        return "chains" in self.estimator_parameters

    def for_data(self, rows: int, columns: int) -> Self:
        """The same with everything that was left out, as `dbn.config.defaults` chooses it for training rows (N, V)."""
        batch = self.batch_size or batch_for(rows)
        chosen = of_pretraining(rows, batch, self.epochs)
        if self.optimizer != "sgd":
            del chosen["momentum"]
        elif self.is_persistent:
            chosen["momentum"] = 0.0
        left_out = {name: value for name, value in chosen.items() if getattr(self, name) is None}
        hidden = self.hidden or hidden_layers(rows)
        filled = replace(self, hidden=hidden, batch_size=batch, **left_out)
        return replace(filled, **filled.resolved())

    def resolved(self) -> dict[str, Any]:
        """Default values of what was left out, but for those that depend on the data."""
        of_binary, of_wide = default_rates(self.optimizer, self.batch_size or 0, persistent=self.is_persistent)
        rates = [
            of_wide if any(wide in kind for kind in kinds for wide in WIDE) else of_binary
            for kinds in pairwise(self.unit_kinds)
        ]
        takes, sparse = self.estimator_parameters, self.sparsity_target is not None
        return {
            "learning_rate": self.learning_rate or (tuple(rates) if len(set(rates)) > 1 else (rates[0],)),
            "centered": self.is_persistent if self.centered is None else self.centered,
            "chains": self.batch_size if self.chains is None and self.is_persistent else self.chains,
            "temperatures": 10 if self.temperatures is None and "temperatures" in takes else self.temperatures,
            "missing_steps": 10 if self.missing_steps is None and self.missing == "gibbs" else self.missing_steps,
            "sparsity_cost": 0.01 if self.sparsity_cost is None and sparse else self.sparsity_cost,
        }

    def for_layer(self, layer: int) -> LayerTraining:
        """The settings of layer 0 … len(hidden) − 1; after `for_data`."""

        def of_layer(values: tuple[Any, ...]) -> Any:
            return values[layer if len(values) > 1 else 0]

        resolved = self.resolved()
        return LayerTraining(
            of_layer(self.epochs),
            Schedule.read(of_layer(resolved["learning_rate"])),
            Schedule.read(of_layer(self.gibbs_steps)),
            Schedule.read(self.momentum or 0.0),
        )


@dataclass(frozen=True, kw_only=True)
class PretrainConfig(RunConfig):
    """Options of pretrain."""

    run: Path = Path("runs/pretrain")
    task: Annotated[str, Choice("dbn.tasks:TASKS")] = "classify"
    """What finetune will learn from the labels, which decides on the rows set aside for it."""
    data: DataConfig = field(default_factory=DataConfig)
    training: Pretraining = field(default_factory=Pretraining)
