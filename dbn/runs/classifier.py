"""Trained networks, of classifiers and of other tasks: their files, and the best one of a run."""

import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dbn.arrays import AnyRows, columns_of
from dbn.data.checks import Array, rows_of
from dbn.data.objects import as_numbers
from dbn.data.rows import Rows
from dbn.errors import InputError, listed, naming_arguments
from dbn.models.autoencoder import Autoencoder
from dbn.models.matching import Match, column_order, match
from dbn.models.matmul import is_transforming
from dbn.models.mlp import meta_mlp
from dbn.models.scaling import Scaling
from dbn.registry import suggestion
from dbn.runs.folder import RESULT, RunFolder
from dbn.runs.model_files import NETWORK_FILE
from dbn.runs.weights import check_ended
from dbn.storage.files import as_path
from dbn.storage.tensors import write_tensors
from dbn.tasks import task_of
from dbn.tasks.autoencode import Autoencode

CLASSIFIER = "classifier.safetensors"
ROWS_AT_ONCE = 2000


class Classifier(nn.Module):
    """A trained network that takes rows as they are stored, bytes or floats: it scales them itself.

    Of classes, or what else the `task` is that it was trained for.
    """

    def __init__(self, network: nn.Sequential, description: Mapping[str, Any]) -> None:
        super().__init__()
        self.network, self.scaling = network, Scaling.from_description(description)
        self.width: int = self.scaling.stored_width(description["sizes"][0])
        self.task = task_of(description)
        self.classes: tuple[str, ...] = self.task.names if "classes" in description else ()
        """Names, in the order of the columns; () for other tasks."""
        self.targets: tuple[str, ...] = () if self.classes else self.task.names
        """Names of what other tasks predict, likewise."""

    def extra_repr(self) -> str:
        """The width of the rows, and the classes or targets."""
        return f"width={self.width}, {'classes' if self.classes else 'targets'}=[{listed(self.task.names)}]"

    def forward(self, x: Tensor) -> Tensor:
        """(N, V) -> logits (N, C), or numbers in the units of the targets.

        InputError for rows of another width, and as for `dbn.models.matching.match`. Of floats this is asked on the CPU
        alone, where it costs no transfer, and not under a compiler or transform.
        """
        if x.ndim != 2 or x.shape[1] != self.width:
            raise InputError(f"x has shape {tuple(x.shape)}, but the classifier takes rows of {self.width} values")
        scaling, is_looked_at = self.scaling, x.device.type == "cpu" and not is_transforming()
        if not x.is_floating_point() or (is_looked_at and not torch.compiler.is_compiling()):
            with naming_arguments():
                scaling = self.match(x, by_row=True).scaling
        return self.task.valued(self.network(scaling(x)))

    def match(self, x: AnyRows, name: str = "x", **known: Any) -> Match:
        """How rows become what the network takes: `dbn.models.matching.match` with the classifier's scaling."""
        return match(self.scaling, x, name, width=self.width, what="the classifier", **known)

    def predict_proba(self, x: Array, name: str = "x", *, divisor: float | None = None) -> Tensor:
        """Class probabilities (N, C) on the CPU of rows (N, V), or images (N, H, W) or (N, C, H, W), in batches.

        Columns with names, of a data frame, are matched by them. Values of another scale than that of training are
        brought to it where it is certain what they are; `divisor` says it. `name` is what errors call the rows.
        Of several labels of 0 and 1 each has a probability by itself. InputError for rows of another width or type, for
        values that are not finite, for a network that predicts numbers, and as for `dbn.models.matching.match`.
        """
        self.task.probabilities(torch.zeros(1, self.task.outputs, device="cpu"))  # before long work
        return self.task.probabilities(self.predict_logits(x, name, divisor=divisor))

    def predict_logits(self, x: Array, name: str = "x", *, divisor: float | None = None) -> Tensor:
        """Outputs of the network, such as logits, (N, C), on the CPU; arguments and errors as for `predict_proba`."""
        with naming_arguments():
            columns: tuple[str, ...] = columns_of(x)
            if self.scaling.table:
                order = column_order(self.scaling, columns, name, "the classifier")
                x, columns = self.scaling.coded(x, order, name), self.scaling.columns
            rows = rows_of(name, "x", as_numbers(x))
            found = self.match(rows, name, divisor=divisor, columns=columns, by_row=True)
        return self.logits(rows, found)

    @torch.no_grad()
    def logits(self, rows: Tensor | Rows, found: Match) -> Tensor:
        """`predict_logits` of rows (N, V) that are matched."""
        device = next(self.parameters()).device
        scaling = found.scaling.to(device)
        parts = (found.rows(part).to(device) for part in rows.split(ROWS_AT_ONCE))
        return torch.cat([self.network(scaling(part)).cpu() for part in parts])

    def predict(self, x: Array, *, divisor: float | None = None) -> Any:
        """The most probable class of every row, by name, a list; numbers, float64, in the units of the targets, (N,) or
        (N, T); or (N, T) int64, 1 for the labels that a row has. InputError as for `predict_proba`."""
        return self.task.answers(self.predict_logits(x, divisor=divisor))


@naming_arguments()
def load_classifier(path: Path | str, init: str | None = None) -> Classifier:
    """A classifier, or network of another task, in eval mode on the CPU: the best one of a run, or one by its file.

    The file may be named by its folder, ARM/seed-N.

    Of a run it is that of the arm `init`; left out, of the arm with the least mean validation error.

    InputError when there is none, or its file is damaged or describes other weights than it holds.

    >>> import tempfile
    >>> from dbn.models.mlp import mlp
    >>> about = {"sizes": [4, 3, 2], "activation": "relu", "classes": ["cat", "dog"], **Scaling(255.0).description()}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_classifier(Path(folder) / "classifier.safetensors", mlp([4, 3, 2], "relu"), about)
    ...     classifier = load_classifier(folder)
    >>> x = torch.zeros(5, 4, dtype=torch.uint8)
    >>> classifier.classes, classifier(x).shape, classifier.predict_proba(x).shape, len(classifier.predict(x))
    (('cat', 'dog'), torch.Size([5, 2]), torch.Size([5, 2]), 5)
    """
    file = path = as_path(path, "path")
    if path.is_dir() and not (path / CLASSIFIER).is_file():
        file = best_classifier(RunFolder.open(path), init)[1]
    elif init is not None:
        raise InputError(f"{path} is of one arm: leave init out, or name the run")
    elif path.is_dir():
        file = path / CLASSIFIER
    return Classifier(*read_classifier(file)).eval()


@naming_arguments()
def load_autoencoder(path: Path | str, init: str | None = None) -> Autoencoder:
    """The autoencoder of a run of `--task autoencode`, as `load_classifier` finds it; it takes and gives scaled values.

    InputError as there, and for a network of another task.
    """
    found = load_classifier(path, init)
    if not isinstance(found.task, Autoencode):
        raise InputError(f"{path} holds no autoencoder, but a network of the task {found.task.name}: load_classifier")
    return Autoencoder(found.network, found.task.output).eval()


def save_classifier(path: Path, network: nn.Sequential, description: Mapping[str, Any]) -> None:
    """The weights of a network that `dbn.models.mlp.mlp` built, with `description` in the file's metadata.

    The description holds what `meta_mlp` takes (ValueError when it gives another network), that of the task, and
    `Scaling.description` of the input; it may hold more.
    """
    if str(meta_mlp(description)) != str(network):
        raise ValueError("the description's sizes and activation do not give this network")
    write_tensors(path, network.state_dict(), description)


def read_classifier(path: Path) -> tuple[nn.Sequential, dict[str, Any]]:
    """The network, on the CPU and in eval mode, and the description it was saved with.

    InputError when the file is missing or damaged, or describes other weights than it holds.
    """
    return NETWORK_FILE.read(path)


def classifier_of(weights: Mapping[str, Tensor], description: Mapping[str, Any]) -> Classifier:
    """The classifier of these weights, in eval mode on the CPU."""
    network = meta_mlp(description)
    network.load_state_dict(weights, assign=True)
    return Classifier(network, description).cpu().eval()


def best_classifier(run: RunFolder, init: str | None = None) -> tuple[str, Path]:
    """The arm `init` of a finished comparison, or that with the least mean validation error; its classifier's file."""
    if not (run.path / RESULT).is_file():
        check_ended(run.path)
        raise InputError(f"{run.path} is no finished run of finetune: name one, or end it with --resume")
    found = run.read_json(RESULT)
    if "arms" not in found:
        raise InputError(f"{run.path} is not a run of finetune, which compares arms: name one")
    errors = {name: math.fsum(arm["valid_error"]) for name, arm in found["arms"].items()}
    best = min(errors, key=lambda name: errors[name]) if init is None else "".join(init.split())
    if best not in errors:
        raise InputError(f"{run.path} has no arm {init!r}{suggestion(best, errors)}")
    if (file := _classifier_file(run, best)) is None:
        raise InputError(f"{run.path} holds no classifier of the arm {best}: have it written again with --resume")
    return best, file


def has_classifier(run: RunFolder, arm: str) -> bool:
    """Whether the best classifier of that arm is there and sound."""
    try:
        file = _classifier_file(run, arm)
        return file is not None and bool(read_classifier(file))
    except InputError:  # it is written again
        return False


def _classifier_file(run: RunFolder, arm: str) -> Path | None:
    """None where there is none."""
    return min((run.path / folder_name(arm)).glob(f"seed-*/{CLASSIFIER}"), default=None)


def folder_name(arm: str) -> str:
    """The folder of an arm: its name, without the colon where the file system forbids it."""
    return arm.replace(":", "-") if os.name == "nt" else arm
