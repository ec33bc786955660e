"""Options of a study: those of a comparison, over a grid."""

from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal, Self

from dbn.config.common import DataOptions, RunConfig
from dbn.config.finetuning import Finetuning, PseudoRows
from dbn.config.validation import AtLeast2, Count, check_distinct, check_fields, check_per_item
from dbn.errors import InputError

LIKE_LABELS = ("epochs", "batch_size")
"""Options chosen for each number of labels."""
VARIED = ("valid_labels", "pseudo_labels", "seeds", *LIKE_LABELS)
"""Options that may have a value for each number of labels."""


@dataclass(frozen=True, kw_only=True)
class StudyTraining(Finetuning):
    """Training and comparison of the arms, for each number of labels."""

    labels: tuple[AtLeast2 | Literal["all"], ...] = ("all",)  # type: ignore[assignment]
    """Numbers of labeled training examples, drawn as --split says, or all."""
    labels_per_class: tuple[Count, ...] | None = None  # type: ignore[assignment]
    """Numbers of labeled training examples of every class, in place of --labels (default: none)."""
    valid_labels: tuple[AtLeast2, ...] | None = None  # type: ignore[assignment]
    """As for finetune; like --pseudo-labels, --seeds, --epochs and --batch-size, one value or one for each of --labels
    (default: as many as --labels and at most 1000)."""
    pseudo_labels: tuple[PseudoRows, ...] | None = None  # type: ignore[assignment]
    seeds: tuple[Count, ...] = (5,)  # type: ignore[assignment]
    tuning_seeds: Count | None = None
    """Number of seeds that select the learning rate (default: all)."""
    epochs: tuple[Count, ...] = None  # type: ignore[assignment]
    batch_size: tuple[Count, ...] = None  # type: ignore[assignment]
    signals: tuple[Count, ...] = (1, 10, 100)
    """Epochs after which the propagation of activations and gradients is measured, besides start and end."""

    def __post_init__(self) -> None:
        check_fields(self)
        check_distinct(self, "labels", "labels_per_class")
        if self.labels_per_class and self.labels != ("all",):
            raise InputError("--labels does not go with --labels-per-class: keep one.")
        option = "--labels-per-class" if self.labels_per_class else "--labels"
        check_per_item(self, len(self.amounts), f"for each of {option}", *VARIED)
        _ = [self.at(amount) for amount in self.amounts]  # which checks the rest

    @property
    def amounts(self) -> tuple[int | str, ...]:
        """Names of the numbers of labels: 100, "all", or "10-per-class"."""
        return tuple(f"{n}-per-class" for n in self.labels_per_class or ()) or self.labels

    def for_data(self, labels: int, n_classes: int = 1) -> Self:
        """The same with everything that was left out, as for `Finetuning`; `labels` are those of all training rows."""
        counts = [n_classes * n for n in self.labels_per_class or ()]
        counts = counts or [labels if n == "all" else n for n in self.labels]
        filled = [self.at(amount).for_data(n) for amount, n in zip(self.amounts, counts, strict=True)]
        chosen: Any = {name: tuple(getattr(each, name) for each in filled) for name in LIKE_LABELS}
        chosen["learning_rate"] = max((each.learning_rates for each in filled), key=len)
        return replace(self, **{name: getattr(self, name) or values for name, values in chosen.items()})

    def at(self, amount: int | str) -> Finetuning:
        """The training of the arms for one of `amounts`."""
        place = self.amounts.index(amount)

        def of_place(values: Any) -> Any:
            return values and values[place if len(values) > 1 else 0]

        shared = {each.name: getattr(self, each.name) for each in fields(Finetuning)}
        varied = {name: of_place(shared[name]) for name in VARIED}
        per_class = self.labels_per_class and self.labels_per_class[place]
        labels = amount if isinstance(amount, int) else None
        return Finetuning(**{**shared, **varied, "labels": labels, "labels_per_class": per_class})


@dataclass(frozen=True, kw_only=True)
class StudyConfig(DataOptions, RunConfig):
    """Options of study."""

    run: Path = Path("runs/study")
    hidden: tuple[Count, ...] | None = None
    """Hidden units of each layer, or of every layer (default: those of --pretrained or --recipe)."""
    depths: tuple[Count, ...] | None = None
    """Numbers of hidden layers, the lowest ones of --hidden (default: all of them)."""
    activations: tuple[str, ...] = ()
    """Activations with which every arm is trained (default: each arm's own)."""
    pretrained: tuple[Path, ...] = ()
    """Runs of pretrain for the arm dbn: one, or one per seed, in turn where there are fewer (default: none)."""
    recipe: Path | None = None
    """Recipe or YAML file of options of pretrain: the study pre-trains its own stacks of the depths it needs (default:
    none)."""
    stacks: Count | None = None
    """Number of stacks to pre-train, with --seed, --seed + 1, … (default: 5)."""
    reference: str | None = None
    """The arm of --init that the others are tested against (default: dbn, or else the first)."""
    workers: Count = 1
    """Processes that train at the same time."""
    threads: Count | None = None
    """Threads of each (default: the cores divided by --workers). Another number may change the last digits of sums."""
    training: StudyTraining = field(default_factory=StudyTraining)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_distinct(self, "depths", "activations", "pretrained")
        arms = self.training.init
        if self.reference is not None and self.reference not in arms:
            raise InputError(f"--reference {self.reference} is none of the arms: --init names {', '.join(arms)}")
        if self.training.standardize and (self.pretrained or self.recipe):
            raise InputError("--standardize does not go with --pretrained or --recipe: the stacks bring their scaling")
        if self.pretrained and self.recipe:
            raise InputError("--recipe does not go with --pretrained: the stacks are there, or the study trains them")
        if self.stacks and not self.recipe:
            raise InputError("--stacks needs --recipe, which says how to pre-train them")
        if self.training.uses_stack and not (self.pretrained or self.recipe):
            raise InputError("--init dbn needs --pretrained or --recipe: name stacks, or how to train them")
        if self.recipe and not self.training.uses_stack:
            raise InputError("--recipe is for the arm dbn: name it in --init, or leave the recipe out")
        for name in () if self.pretrained or self.recipe else ("dataset", "hidden"):
            if getattr(self, name) is None:
                raise InputError(f"--{name} is needed where neither --pretrained nor --recipe is given")
