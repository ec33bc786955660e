"""The base of all tasks."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

from numpy.typing import NDArray
from torch import Tensor

from dbn.data.examples import Examples
from dbn.data.labels import coded
from dbn.data.splits import Splits
from dbn.errors import InputError
from dbn.models.scaling import Scaling
from dbn.storage.schema import TEXT, Schema
from dbn.tasks import TASKS


class Task(ABC):
    """What a network is trained to do, for targets of these names. A task from elsewhere is one more line in `TASKS`.

    `y` is what `read` gives: by example, in the units of the data.
    """

    name: ClassVar[str]
    """In `TASKS`."""
    sgd_rates: ClassVar[tuple[float, ...] | None] = None
    """Learning rates of sgd that every arm selects from; None for those of the batch size."""
    picture: ClassVar[str] = ""
    """File of the run folder that shows the test, and what it holds: "confusion.png, confusion matrices"."""
    mirrored: ClassVar[bool] = False
    """Whether networks lead from the last hidden layer back through layers of the same sizes to the visible units."""
    unit: ClassVar[str] = ""
    """What follows a difference of two errors, such as " points"."""
    done: ClassVar[str] = "predicted"
    """In print, of examples."""
    digits: ClassVar[str] = ".9g"
    """Format of numbers in predict's file."""
    fields: ClassVar[Schema] = {"targets": [TEXT]}
    """Of `description`, in the file of a network."""
    columns: ClassVar[tuple[tuple[str, str, int], ...]] = ()
    """Of the printed table beside the error: key of `figures`, heading, digits."""

    @staticmethod
    def read(labels: Mapping[str, NDArray], n_rows: Mapping[str, int]) -> tuple[tuple[str, ...], dict[str, NDArray]]:
        """Names and values of labels as they come, `dbn.data.splits.Reader`; classes here."""
        return coded(labels, n_rows)

    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(names)

    @classmethod
    def prepared(cls, splits: Splits, scaling: Scaling) -> Splits:
        """The splits with the targets that follow from the rows; `scaling` gives the network's inputs."""
        return splits

    @classmethod
    def of(cls, splits: Splits, scaling: Scaling) -> Self:
        """The task for these data; InputError for targets that it does not take."""
        splits.check_labels()
        if splits.classes and cls.read is not Task.read:
            raise InputError(f"{splits.name} has classes, which --task {cls.name} does not learn: leave it out")
        return cls(splits.classes or splits.targets)

    @classmethod
    def from_description(cls, description: Mapping[str, Any]) -> Self:
        """What `description` gave."""
        return cls(description["targets"])

    @abstractmethod
    def description(self) -> dict[str, Any]:
        """Plain data for the file of a network; of others than classifiers with the name of the task."""

    @property
    def outputs(self) -> int:
        """Units of the output layer."""
        return len(self.names)

    def about(self, test: Examples) -> dict[str, Any]:
        """Of the data of a comparison, for its result.json."""
        return {"task": self.name, "targets": list(self.names)}

    def groups(self, y: Tensor) -> tuple[Tensor, int]:
        """(N,) groups from which labels are drawn in their proportions, and how many there are."""
        return y.new_zeros(len(y)).long(), 1

    def fitted(self, y: Tensor) -> Self:
        """The task with what is measured on the labeled training examples of a seed."""
        return self

    def targets(self, y: Tensor) -> Tensor:
        """What the loss takes."""
        return y

    @abstractmethod
    def loss(self, outputs: Tensor, targets: Tensor, reduction: str = "mean") -> Tensor:
        """What training minimizes: mean or sum over examples."""

    def losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """`loss` of every example, (N,), whatever `fitted` has measured; without it no fits are trained together."""
        raise NotImplementedError

    @abstractmethod
    def error(self, outputs: Tensor, y: Tensor) -> float:
        """Of validation examples: what selects epoch and learning rate, lower is better."""

    @abstractmethod
    def scores(self, outputs: Tensor, y: Tensor) -> Any:
        """Of test examples: `error`, lower is better, and `figures()`, by name that and what is reported beside it."""

    def valued(self, outputs: Tensor) -> Tensor:
        """The outputs as `dbn.load_classifier(…)(x)` gives them, with their gradient."""
        return outputs

    @abstractmethod
    def answers(self, outputs: Tensor) -> Any:
        """What the network says of every row, by name or in the units of the data."""

    @abstractmethod
    def probabilities(self, outputs: Tensor) -> Tensor:
        """(N, C); InputError where there are none."""

    @abstractmethod
    def written(self, outputs: Tensor, columns: str) -> dict[str, list[Any]]:
        """The columns of predict's file, as `columns` ("probabilities", "class" or "all") says."""

    @abstractmethod
    def scored(self, outputs: Tensor, data: Splits) -> str:
        """A sentence with the scores on the rows of `data.train` that have targets; empty where none has."""

    @classmethod
    def summary(cls, tested: Sequence[Any]) -> dict[str, Any]:
        """Of the scores of an arm under all seeds, for the end of its entry in result.json."""
        return {}

    @classmethod
    def stuck(cls, tested: Sequence[Any]) -> dict[str, int]:
        """The number of seeds under which the arm has not learned, as `one_class`, where that can be told."""
        return {}

    def drawn(self, tested: Mapping[str, Sequence[Any]]) -> Tensor | None:
        """A picture of the test, (3, height, width) uint8, a panel for each arm; None where there is none."""
        return None

    @classmethod
    def heading(cls, found: Mapping[str, Any]) -> str:
        """What the error of a result.json is called, "test error %"; that of validation is called alike."""
        raise NotImplementedError

    @staticmethod
    def shown(error: float) -> str:
        """An error, or a difference of two, in print."""
        return f"{error:.4g}"


def task_of(description: Mapping[str, Any]) -> Task:
    """The task of a saved network, or of a result.json: those without a name are of classifiers."""
    return TASKS[description.get("task", "classify")].from_description(description)


def check_columns(name: str, columns: str) -> None:
    """InputError for --columns of classes where there are none."""
    if columns != "probabilities":
        raise InputError(f"--columns {columns} is for classifiers, and this network was trained with --task {name}")
