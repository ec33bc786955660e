"""What training can be told: the hyper-parameters of a stack of RBMs and of the networks that are compared.

As in every configuration, each field is an option of the same name, checked on construction.
"""

import math
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from dbn.checks import (
    check_distinct,
    check_number,
    check_per,
    check_schedule,
    check_some,
    check_training,
    check_whole,
)
from dbn.errors import InputError
from dbn.schedules import Schedule

Optimizer = Literal["sgd", "adam", "adamw", "rmsprop", "nadam", "adagrad"]

# Learning rates where none is given: optimisers that scale their own steps; SGD on Gaussian visible units, whose
# gradients grow with the number of correlated columns (0.03 diverges on 3,072 of them).
ADAPTIVE_RATE, GAUSSIAN_RATE = 0.001, 0.01


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
    estimator: Literal["cd", "pcd", "pt"] = "cd"
    """Where negative samples come from: chains from the data, persistent chains, or parallel tempering."""
    gibbs_steps: tuple[int | str, ...] = (1,)
    """Gibbs steps a gradient, the k of CD-k: one value or schedule (1,3@10,10@40), or one a layer."""
    chains: int | None = None
    """pcd and pt: persistent chains (pt: at each temperature); left out, as many as --batch-size."""
    temperatures: int | None = None
    """pt: temperatures from the independent model to the RBM; left out, 10."""
    centred: bool = False
    """Take the gradient about the running means of the units, which trains the same model better conditioned."""
    optimizer: Optimizer = "sgd"
    """The torch.optim optimiser."""
    momentum: float | str | None = None
    """sgd and rmsprop: one value or schedule; sgd's default is 0.5,0.9@6."""
    weight_decay: float = 2e-4
    """L2 penalty on weights; biases have none."""
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
    visible: Literal["bernoulli", "gaussian"] = "bernoulli"
    """Units of the data: bernoulli for values in [0, 1], gaussian for real values, which are standardised."""
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
        check_some(self, "hidden", "gibbs_steps")
        check_whole(self, 1, "hidden", "measure_every", "picture_every", "chains")
        check_whole(self, 2, "temperatures")
        check_whole(self, 0, "warmup_epochs", "likelihood_every")
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
        check_per(self, len(self.hidden), "a layer", "epochs", "learning_rate", "gibbs_steps")
        self._check_together()

    def _check_together(self) -> None:
        if self.visible == "gaussian" and self.binarize != "none":
            raise InputError(f"--binarize {self.binarize} does not go with --visible gaussian (real numbers).")
        if self.likelihood_every and self.visible == "bernoulli" and self.binarize == "none":
            raise InputError("--likelihood-every needs --binarize: grey levels have no likelihood under binary units.")
        if self.chains is not None and self.estimator == "cd":
            raise InputError(
                "--chains does not go with --estimator cd, whose chains start at the batch: use pcd or pt."
            )
        if self.temperatures is not None and self.estimator != "pt":
            raise InputError(f"--temperatures does not go with --estimator {self.estimator}: use pt.")
        momentum = Schedule.read(self.momentum or 0.0).values
        if self.optimizer == "rmsprop" and momentum[0] == 0 < max(momentum):
            raise InputError(f"--momentum {self.momentum} begins at 0, from where rmsprop cannot rise: begin above.")
        if self.sparsity_cost is not None and self.sparsity_target is None:
            raise InputError("--sparsity-cost needs --sparsity-target.")

    def resolved(self) -> dict[str, Any]:
        """The values that stand for those left out."""
        rate = 0.1 if self.optimizer == "sgd" else ADAPTIVE_RATE
        first = min(rate, GAUSSIAN_RATE) if self.visible == "gaussian" else rate
        rates = (rate,) if first == rate else (first, *(rate for _ in self.hidden[1:]))
        momentum = "0.5,0.9@6" if self.optimizer == "sgd" else None
        tempered, sparse = self.estimator == "pt", self.sparsity_target is not None
        return {
            "learning_rate": self.learning_rate or rates,
            "momentum": momentum if self.momentum is None else self.momentum,
            "chains": self.batch_size if self.chains is None and self.estimator != "cd" else self.chains,
            "temperatures": 10 if self.temperatures is None and tempered else self.temperatures,
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
        check_some(self, "init")
        check_distinct(self, "init", "learning_rate", "signals")
        check_whole(self, 1, "seeds", "patience", "signals")
        check_whole(self, 2, "labels", "valid_labels")
        check_some(self, "layer_rates", "signals")
        for name in ("layer_rates", "max_norm"):
            check_number(self, name, "a number above 0", lambda value: value > 0)
        for name in ("input_dropout", "hidden_dropout"):
            check_number(self, name, "at least 0 and below 1", lambda share: 0 <= share < 1)
        check_number(self, "average", "between 0 and 1", lambda decay: 0 < decay < 1)
        if self.schedule not in ("constant", "cosine"):
            wanted = "constant, cosine or a factor above 0"
            check_schedule(self, "schedule", wanted, lambda factor: factor > 0, may_end_at_0=True)
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

    def rate_factor(self, done: float) -> float:
        """What the schedule multiplies learning rates by when so many epochs are done, with the fraction of one."""
        if self.schedule == "constant":
            return 1.0
        if self.schedule == "cosine":
            return 0.5 * (1 + math.cos(math.pi * done / self.epochs))
        return Schedule.read(self.schedule).at(1 + done, self.epochs)
