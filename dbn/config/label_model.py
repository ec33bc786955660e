"""Options of label models."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from dbn.config.common import DataOptions, RunConfig
from dbn.config.defaults import default_rates, hidden_layers, label_rate
from dbn.config.pretraining import CHAINS, WIDE, Pretraining, Rate, Steps
from dbn.config.validation import Choice, Natural, NonNegative
from dbn.errors import InputError


def rate_of_up_down(optimizer: str, kinds: Iterable[str]) -> str:
    """The default rate of up-down fine-tuning of units of these types, from the data upwards: that of pre-training with
    small batches, falling to 0.

    >>> rate_of_up_down("sgd", ["bernoulli"]), rate_of_up_down("sgd", ["gaussian", "bernoulli"])
    ('0.1:0', '0.01:0')
    """
    of_binary, of_wide = default_rates(optimizer, 0, persistent=False)
    is_wide = any(wide in kind for kind in kinds for wide in WIDE)
    return f"{of_wide if is_wide else of_binary}:0"


@dataclass(frozen=True, kw_only=True)
class LabelTraining(Pretraining):
    """Training of an RBM of features and labels."""

    CHOSEN_BY_DATA = (*Pretraining.CHOSEN_BY_DATA, "estimator")
    has_labels = True

    gradient: Literal["hybrid", "generative", "discriminative"] = "hybrid"
    """Loss: -log p(y | x) (discriminative), -log p(x, y) (generative), or the first and a small part of the second;
    rows without a label add -log p(x) to the generative part."""
    generative_weight: NonNegative | None = None
    """hybrid: weight of the generative part (default: 0.01)."""
    estimator: Annotated[str, CHAINS] = None  # type: ignore[assignment]
    """Source of negative samples: persistent chains that each keep a class (class-pcd), whose model gives samples by
    class; or chains of all classes: from the data (cd), persistent (pcd; lagged-pcd saves a product), or tempered (pt)
    (default: class-pcd with the hybrid gradient, else cd)."""
    up_down: Natural = 0
    """Epochs of up-down fine-tuning of the whole stack, after those of the top RBM; 0 for none."""
    up_down_rate: Rate | None = None
    """Learning rate of up-down fine-tuning: value or schedule (default: 0.001:0; for sgd 0.1:0, and
    0.01:0 with Gaussian units)."""
    up_down_steps: Steps | None = None
    """Gibbs steps of the top RBM between up-pass and down-pass: value or schedule (default: 3:10)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.hidden is not None and len(self.hidden) > 1:
            raise InputError(
                f"--hidden takes one number of units for a label model, not {len(self.hidden)}: train the layers below "
                "it as a stack, and name that with --pretrained"
            )
        if self.gradient != "hybrid" and self.generative_weight not in (None, self.weights[1]):
            raise InputError(f"--generative-weight does not go with --gradient {self.gradient}: leave it out")
        if self.estimator == "class-pcd" and self.gradient == "generative":
            raise InputError(
                "--estimator class-pcd learns p(x | y), not how often a class is: choose --gradient hybrid, or another "
                "estimator"
            )
        if not self.weights[1] and self.is_persistent:
            raise InputError(f"--estimator {self.estimator} gives nothing to a discriminative gradient: leave it out")
        if not self.up_down and (self.up_down_rate or self.up_down_steps):
            option = "rate" if self.up_down_rate else "steps"
            raise InputError(f"--up-down-{option} needs --up-down and a number of epochs")
        if self.up_down and not self.weights[1]:
            raise InputError(
                "--up-down needs a model of the features too: choose --gradient generative, or hybrid with a "
                "--generative-weight above 0"
            )
        if self.up_down and self.average:
            raise InputError("--average does not go with --up-down: leave it out")
        if self.missing != "refuse":
            raise InputError(f"--missing {self.missing} does not go with a label model: fill the rows in with impute")
        for name in ("tied", "likelihood_every"):
            if getattr(self, name):
                raise InputError(f"--{name.replace('_', '-')} does not go with a label model: leave it out")
        if self.features != "mean":
            raise InputError("--features sample does not go with a label model, whose features are means: leave it out")

    @property
    def weights(self) -> tuple[float, float]:
        """Of the discriminative and of the generative part."""
        if self.gradient == "hybrid":
            return 1.0, 0.01 if self.generative_weight is None else self.generative_weight
        return (0.0, 1.0) if self.gradient == "generative" else (1.0, 0.0)

    @property
    def chosen_estimator(self) -> str:
        """As of `Pretraining`."""
        return self.estimator or ("class-pcd" if self.gradient == "hybrid" and self.weights[1] else "cd")

    def of_up_down(self) -> Self:
        """The options of up-down fine-tuning as those of a layer, whose chains start at the data."""
        done = self.resolved()
        without = self.chosen_estimator == "class-pcd" and self.momentum == 0  # which these chains do not need
        return replace(
            self,
            momentum=None if without else self.momentum,
            epochs=(self.up_down,),
            learning_rate=(done["up_down_rate"],),
            gibbs_steps=(done["up_down_steps"],),
            estimator="cd",
            chains=None,
            temperatures=None,
        )

    def for_data(self, rows: int, columns: int) -> Self:
        """As of `Pretraining`, for one layer."""
        one = replace(self, hidden=self.hidden or hidden_layers(rows)[:1], estimator=self.chosen_estimator)
        return super(LabelTraining, one).for_data(rows, columns)

    def resolved(self) -> dict[str, Any]:
        """As of `Pretraining`, with the weight of the generative part."""
        found = super().resolved() | {"generative_weight": self.weights[1]}
        by_class = self.chosen_estimator == "class-pcd"
        if by_class:
            found["centered"] = False if self.centered is None else self.centered
        is_other = self.optimizer != "sgd" or (self.is_persistent and not by_class)
        if not (self.learning_rate or is_other) and self.weights[0]:
            kinds = "".join(self.unit_kinds)
            wide = any(each in kinds for each in WIDE)
            if "gaussian" in kinds or not wide:  # relu and binomial units have not been measured
                plain = default_rates(self.optimizer, self.batch_size or 0, persistent=False)[wide]
                rate = label_rate(float(plain), self.weights[1], wide=wide, persistent=by_class)
                found["learning_rate"] = (rate,)
        if self.up_down:
            found |= {
                "up_down_rate": self.up_down_rate or rate_of_up_down(self.optimizer, self.unit_kinds),
                "up_down_steps": self.up_down_steps or "3:10",
            }
        return found


@dataclass(frozen=True, kw_only=True)
class LabelModelConfig(RunConfig, DataOptions):
    """Options of label-model."""

    run: Path = Path("runs/label-model")
    dataset: Annotated[str | None, Choice("dbn.data:DATASETS", strict=False)] = None
    """A name, or a file or folder (default: that of --pretrained, or else mnist-10k)."""
    pretrained: Path | None = None
    """Run of pretrain whose stack makes the features (default: none, the labels stand beside the data)."""
    training: LabelTraining = field(default_factory=LabelTraining)
