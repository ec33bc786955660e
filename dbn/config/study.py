"""The options of scripts/study.py: those of a comparison, over a grid."""

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from dbn.config.common import RunConfig
from dbn.config.finetuning import Finetuning
from dbn.config.validation import check_distinct, check_integer, check_not_empty, check_per_item, normalize_fields
from dbn.errors import InputError


@dataclass(frozen=True, kw_only=True)
class StudyTraining(Finetuning):
    """How the arms are trained and compared, for each number of labels."""

    labels: tuple[int | Literal["all"], ...] = ("all",)  # type: ignore[assignment]
    """Numbers of labelled training examples, balanced over classes, or all."""
    valid_labels: tuple[int, ...] | None = None  # type: ignore[assignment]
    """As for scripts/finetune.py; like --seeds, --epochs and --batch-size, one value or one for each of --labels."""
    seeds: tuple[int, ...] = (5,)  # type: ignore[assignment]
    """Repetitions of every arm, under --seed, --seed + 1, …"""
    tuning_seeds: int | None = None
    """How many of them choose the learning rate; left out, all."""
    epochs: tuple[int, ...] = (50,)  # type: ignore[assignment]
    """Passes over the labelled examples."""
    batch_size: tuple[int, ...] = (100,)  # type: ignore[assignment]
    """Examples in one step."""
    signals: tuple[int, ...] = (1, 10, 100)
    """Epochs after which is measured how far activations and gradients reach; at the start and the end it is always."""

    def __post_init__(self) -> None:
        normalize_fields(self)
        check_not_empty(self, "labels", "valid_labels", "seeds", "epochs", "batch_size")
        check_distinct(self, "labels")
        check_integer(self, 1, "tuning_seeds")
        check_per_item(self, len(self.labels), "for each of --labels", "valid_labels", "seeds", "epochs", "batch_size")
        _ = [self.at(labels) for labels in self.labels]  # which checks the rest

    def at(self, labels: int | Literal["all"]) -> Finetuning:
        """What the arms of one number of labels are trained with."""
        place = self.labels.index(labels)

        def of_place(values: Any) -> Any:
            return values and values[place if len(values) > 1 else 0]

        shared = {each.name: getattr(self, each.name) for each in fields(Finetuning)}
        varied = {name: of_place(shared[name]) for name in ("valid_labels", "seeds", "epochs", "batch_size")}
        return Finetuning(**{**shared, **varied, "labels": None if labels == "all" else labels})


@dataclass(frozen=True, kw_only=True)
class StudyConfig(RunConfig):
    """scripts/study.py."""

    run: Path = Path("runs/study")
    """The new folder of this study."""
    dataset: str | None = None
    """As for scripts/pretrain.py; left out, the data set of --pretrained or --recipe."""
    data_dir: Path | None = None
    """Folder of the named data sets; left out, $DBN_DATA or the user's cache folder."""
    label_column: str | None = None
    """Column of a .csv file that holds the labels."""
    hidden: tuple[int, ...] | None = None
    """Hidden units of each layer, or of every layer; left out, those of --pretrained or --recipe."""
    depths: tuple[int, ...] | None = None
    """Numbers of hidden layers, the lowest ones of --hidden; left out, all of them."""
    activations: tuple[str, ...] = ()
    """Activations that every arm is trained with; left out, each arm's own."""
    pretrained: tuple[Path, ...] = ()
    """Runs of scripts/pretrain.py for the arm dbn: one, or one a seed, in turn where they are fewer."""
    recipe: Path | None = None
    """Options of scripts/pretrain.py in a YAML file: the study pre-trains its own stacks, as deep as it needs them."""
    stacks: int | None = None
    """How many it pre-trains, under --seed, --seed + 1, …; left out, 5."""
    reference: str | None = None
    """The arm of --init that the others are tested against; left out, dbn, or else the first."""
    workers: int = 1
    """Processes that train at once."""
    threads: int | None = None
    """Threads of each; left out, the cores divided by --workers. Another number may change the last digits of sums."""
    training: StudyTraining = field(default_factory=StudyTraining)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_not_empty(self, "hidden", "depths")
        check_integer(self, 1, "hidden", "depths", "stacks", "workers", "threads")
        check_distinct(self, "depths", "activations", "pretrained")
        arms = self.training.init
        if self.reference is not None and self.reference not in arms:
            raise InputError(f"--reference {self.reference} is none of the arms: --init names {', '.join(arms)}.")
        if self.pretrained and self.recipe:
            raise InputError("--recipe does not go with --pretrained: the stacks are there, or the study trains them.")
        if self.stacks and not self.recipe:
            raise InputError("--stacks needs --recipe, which says how to pre-train them.")
        dbn = any(arm.partition(":")[0] == "dbn" for arm in arms)
        if dbn and not (self.pretrained or self.recipe):
            raise InputError("--init dbn needs --pretrained or --recipe: name stacks, or how to train them.")
        if self.recipe and not dbn:
            raise InputError("--recipe is for the arm dbn: name it in --init, or leave the recipe out.")
        for name in () if self.pretrained or self.recipe else ("dataset", "hidden"):
            if getattr(self, name) is None:
                raise InputError(f"--{name} is needed where neither --pretrained nor --recipe is given.")
