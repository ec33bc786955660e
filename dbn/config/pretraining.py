"""Options of pre-training."""

from collections.abc import Collection
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from dbn.config.common import ADAPTIVE_RATE, GAUSSIAN_RATE, DataConfig, Optimizer, RunConfig, UnitKind
from dbn.config.schedules import Schedule
from dbn.config.validation import (
    Choice,
    check_integer,
    check_not_empty,
    check_number,
    check_per_item,
    check_schedule,
    check_training,
)
from dbn.errors import InputError

CHAINS = Choice("dbn.sampling:CHAINS")


class LayerTraining(NamedTuple):
    """What one layer is trained with."""

    epochs: int
    learning_rate: Schedule
    gibbs_steps: Schedule
    momentum: Schedule


@dataclass(frozen=True, kw_only=True)
class Pretraining:
    """How a stack of RBMs is trained, bottom to top."""

    hidden: tuple[int, ...] = (500, 500, 2000)
    """Hidden units of each layer, from the data upwards."""
    epochs: tuple[int, ...] = (10,)
    """Passes over the training data: one value, or one a layer."""
    batch_size: int = 100
    """Examples in one step."""
    learning_rate: tuple[float | str, ...] | None = None
    """A value or schedule (0.1:0 falls to 0), or one a layer; left out, 0.1 for sgd (Gaussian: 0.01), else 0.001."""
    warmup_epochs: int = 1
    """Epochs over which a layer's learning rate rises from 0; at once, wide layers overshoot and units die."""
    estimator: Annotated[str, CHAINS] = "cd"
    """Where negative samples come from: chains from the data, persistent chains, or parallel tempering."""
    gibbs_steps: tuple[int | str, ...] = (1,)
    """Gibbs steps a gradient, the k of CD-k: one value or schedule (1,3@10,10@40), or one a layer."""
    chains: int | None = None
    """pcd and pt: persistent chains (pt: at each temperature); left out, as many as --batch-size."""
    temperatures: int | None = None
    """pt: temperatures from the independent model to the RBM; left out, 10."""
    centered: bool = False
    """Take the gradient about the running means of the units, which trains the same model better conditioned."""
    optimizer: Optimizer = "sgd"
    """The torch.optim optimiser."""
    momentum: float | str | None = None
    """sgd and rmsprop: one value or schedule; sgd's default is 0.5,0.9@6."""
    weight_decay: float = 2e-4
    """L2 penalty on weights; biases have none."""
    penalty: tuple[str, ...] = ()
    """Penalties by name, such as l1(strength=0.001); --l1, --sparsity-target and --max-norm are short for the first
    three."""
    l1: float = 0.0
    """L1 penalty on weights."""
    sparsity_target: float | None = None
    """Mean activity that hidden units are drawn to."""
    sparsity_cost: float | None = None
    """How strongly; left out, 0.01."""
    max_norm: float | None = None
    """Largest Euclidean norm of a hidden unit's weights."""
    average: float | None = None
    """Decay of a running average of the weights, which is kept in place of the last ones, such as 0.999."""
    precision: Literal["float32", "tf32", "bf16"] = "float32"
    """Of matrix products in training, where the device has such; weights and measurements stay in float32."""
    visible: UnitKind = "bernoulli"
    """Units of the data: bernoulli for values in [0, 1], gaussian for real values, which are standardized."""
    hidden_units: tuple[UnitKind, ...] = ("bernoulli",)
    """Units of the hidden layers: one kind, or one a layer."""
    binarize: Literal["none", "threshold", "sample", "fixed"] = "none"
    """Grey levels as probabilities (none), cut at 0.5, drawn anew each epoch (sample), or drawn once (fixed)."""
    tied: bool = False
    """Start an upper layer as the one below turned round: the stack's bound then starts at the value that it had."""
    features: Literal["mean", "sample"] = "mean"
    """What a trained layer hands to the next: probabilities or draws."""
    measure_every: int = 1
    """Epochs from one measurement to the next."""
    likelihood_every: int = 0
    """Epochs from one quick estimate of the log-likelihood (annealed importance sampling) to the next; 0 for none."""
    picture_every: int = 5
    """Epochs from one set of pictures to the next."""
    seed: int = 0
    """Everything random follows from it."""

    def __post_init__(self) -> None:
        check_training(self)
        check_not_empty(self, "hidden", "gibbs_steps", "hidden_units")
        check_integer(self, 1, "hidden", "measure_every", "picture_every", "chains")
        check_integer(self, 2, "temperatures")
        check_integer(self, 0, "warmup_epochs", "likelihood_every")
        check_schedule(self, "learning_rate", "a number above 0", lambda rate: rate > 0, may_end_at_0=True)
        check_schedule(self, "momentum", "at least 0 and below 1", lambda momentum: 0 <= momentum < 1)
        check_schedule(
            self, "gibbs_steps", "a whole number of at least 1", lambda steps: steps >= 1 and steps.is_integer()
        )
        check_number(self, "l1", "a number of at least 0", lambda cost: cost >= 0)
        check_number(self, "sparsity_target", "between 0 and 1", lambda target: 0 < target < 1)
        for name in ("sparsity_cost", "max_norm"):
            check_number(self, name, "a number above 0", lambda value: value > 0)
        check_number(self, "average", "between 0 and 1", lambda decay: 0 < decay < 1)
        check_per_item(self, len(self.hidden), "a layer", "epochs", "learning_rate", "gibbs_steps", "hidden_units")
        self._check_together()

    def _check_together(self) -> None:
        if self.binarize != "none" and self.visible != "bernoulli":
            raise InputError(f"--binarize {self.binarize} does not go with --visible {self.visible}: leave it out.")
        if self.likelihood_every and self.visible == "bernoulli" and self.binarize == "none":
            raise InputError("--likelihood-every needs --binarize: grey levels have no likelihood under binary units.")
        for name in ("chains", "temperatures"):
            if getattr(self, name) is not None and name not in self.estimator_parameters:
                takers = [each for each in CHAINS.table if name in CHAINS.table.parameters(each)]
                raise InputError(f"--{name} does not go with --estimator {self.estimator}: use {' or '.join(takers)}.")
        momentum = Schedule.read(self.momentum or 0.0).values
        if self.optimizer == "rmsprop" and momentum[0] == 0 < max(momentum):
            raise InputError(f"--momentum {self.momentum} begins at 0, from where rmsprop cannot rise: begin above.")
        if self.sparsity_cost is not None and self.sparsity_target is None:
            raise InputError("--sparsity-cost needs --sparsity-target.")

    @property
    def estimator_parameters(self) -> Collection[str]:
        """What the estimator takes: of `steps`, `chains` and `temperatures`."""
        return CHAINS.table.parameters(self.estimator)

    @property
    def unit_kinds(self) -> list[str]:
        """Of the data and of every hidden layer."""
        one = len(self.hidden_units) == 1
        return [self.visible, *(self.hidden_units * len(self.hidden) if one else self.hidden_units)]

    def resolved(self) -> dict[str, Any]:
        """The values that stand for those left out."""
        rate = 0.1 if self.optimizer == "sgd" else ADAPTIVE_RATE
        rates = [min(rate, GAUSSIAN_RATE) if "gaussian" in kinds else rate for kinds in pairwise(self.unit_kinds)]
        momentum = "0.5,0.9@6" if self.optimizer == "sgd" else None
        takes, sparse = self.estimator_parameters, self.sparsity_target is not None
        return {
            "learning_rate": self.learning_rate or (tuple(rates) if len(set(rates)) > 1 else (rates[0],)),
            "momentum": momentum if self.momentum is None else self.momentum,
            "chains": self.batch_size if self.chains is None and "chains" in takes else self.chains,
            "temperatures": 10 if self.temperatures is None and "temperatures" in takes else self.temperatures,
            "sparsity_cost": 0.01 if self.sparsity_cost is None and sparse else self.sparsity_cost,
        }

    def for_layer(self, layer: int) -> LayerTraining:
        """What layer 0 … len(hidden) − 1 is trained with."""

        def of_layer(values: tuple[Any, ...]) -> Any:
            return values[layer if len(values) > 1 else 0]

        resolved = self.resolved()
        return LayerTraining(
            of_layer(self.epochs),
            Schedule.read(of_layer(resolved["learning_rate"])),
            Schedule.read(of_layer(self.gibbs_steps)),
            Schedule.read(resolved["momentum"] or 0.0),
        )


@dataclass(frozen=True, kw_only=True)
class PretrainConfig(RunConfig):
    """scripts/pretrain.py."""

    run: Path = Path("runs/pretrain")
    """The new folder of this run."""
    data: DataConfig = field(default_factory=DataConfig)
    training: Pretraining = field(default_factory=Pretraining)
