"""Trained classifiers: their files, and the best one of a run."""

import math
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dbn.data.checks import Array, as_array, rows_of
from dbn.errors import InputError, parsing
from dbn.models.mlp import meta_mlp
from dbn.models.scaling import Scaling
from dbn.runs.folder import RESULT, RunFolder
from dbn.runs.weights import check_finite, check_number
from dbn.storage.files import corrupt_file
from dbn.storage.tensors import read_tensors, write_tensors

CLASSIFIER = "classifier.safetensors"
ROWS_AT_ONCE = 2000


class Classifier(nn.Module):
    """A trained network that takes rows as they are stored, bytes or floats: it scales them itself."""

    def __init__(self, network: nn.Sequential, description: Mapping[str, Any]) -> None:
        super().__init__()
        self.network, self.scaling = network, Scaling.from_description(description)
        self.width: int = description["sizes"][0]
        self.classes: tuple[str, ...] = tuple(description["classes"])
        """Names, in the order of the columns."""

    def forward(self, x: Tensor) -> Tensor:
        """(N, V) -> logits (N, C). InputError for rows of another width."""
        if x.ndim != 2 or x.shape[1] != self.width:
            raise InputError(f"x has shape {tuple(x.shape)}, but the classifier takes rows of {self.width} values")
        logits: Tensor = self.network(self.scaling(x))
        return logits

    @torch.no_grad()
    def predict_proba(self, x: Array, name: str = "x") -> Tensor:
        """Class probabilities (N, C) on the CPU of rows (N, V), or images (N, H, W) or (N, C, H, W), in batches.

        `name` is what errors call the rows. InputError for rows of another width or type, for values that are not
        finite, and for floats outside [0, 1] unless they are standardized.
        """
        rows = rows_of(name, "x", as_array(x))
        if rows.shape[1] != self.width:
            raise InputError(f"{name} has {rows.shape[1]} values an example, but the classifier takes {self.width}")
        if self.scaling.shift is None and rows.dtype.is_floating_point:
            least, greatest = rows.aminmax()
            if least < 0 or greatest > 1:
                raise InputError(
                    f"{name} has values from {least:g} to {greatest:g}, but the classifier was trained on values in "
                    "[0, 1]: bring them there, or save bytes as uint8 in .npz or .npy"
                )
        device = next(self.parameters()).device
        return torch.cat([self(part.to(device)).softmax(1).cpu() for part in rows.split(ROWS_AT_ONCE)])

    def predict(self, x: Array) -> list[str]:
        """The most probable class of every row, by name. InputError as for `predict_proba`."""
        return [self.classes[place] for place in self.predict_proba(x).argmax(1).tolist()]


def load_classifier(path: Path | str) -> Classifier:
    """A classifier in eval mode on the CPU: the best one of a fine-tuning run, or one by its ARM/seed-N folder or file.

    Of a run it is that of the arm with the least mean validation error.

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
    file = path = Path(path)
    if path.is_dir():
        file = path / CLASSIFIER if (path / CLASSIFIER).is_file() else best_classifier(RunFolder.open(path))[1]
    return Classifier(*read_classifier(file)).eval()


def save_classifier(path: Path, network: nn.Sequential, description: Mapping[str, Any]) -> None:
    """The weights of a network that `dbn.models.mlp.mlp` built, with `description` in the file's metadata.

    The description holds what `meta_mlp` takes (ValueError when it gives another network), the `classes`, and
    `Scaling.description` of the input; it may hold more.
    """
    if str(meta_mlp(description)) != str(network):
        raise ValueError("the description's sizes and activation do not give this network")
    write_tensors(path, network.state_dict(), description)


def read_classifier(path: Path) -> tuple[nn.Sequential, dict[str, Any]]:
    """The network, on the CPU and in eval mode, and the description it was saved with.

    InputError when the file is missing or damaged, or describes other weights than it holds.
    """
    tensors, description = read_tensors(path)
    with parsing(corrupt_file(path, "its weights are not those of the network that it describes")):
        sizes = description["sizes"]
        check_number(sizes, tensors)
        network = meta_mlp(description)
        network.load_state_dict(tensors, assign=True)
        classes = description["classes"]
        is_fit = isinstance(classes, list) and len(classes) == sizes[-1] and all(type(name) is str for name in classes)
        "".join(classes).encode()
        scaling = Scaling.from_description(description)
        scaled = scaling(torch.zeros(1, sizes[0]))
        is_scaling = 0 < scaling.divisor < math.inf and (scaling.shift is None) == (scaling.spread is None)
        is_fit = is_fit and is_scaling and scaled.shape == (1, sizes[0]) and bool(scaled.isfinite().all())
    if not is_fit:
        raise corrupt_file(path, "its description is not that of a classifier")
    check_finite(path, tensors)
    return network.eval(), description


def best_classifier(run: RunFolder) -> tuple[str, Path]:
    """The arm with the least mean validation error of a finished comparison, and its classifier's file."""
    if not (run.path / RESULT).is_file():
        raise InputError(f"{run.path} is no finished run of finetune.py: name one, or end it with --resume")
    found = run.read_json(RESULT)
    if "arms" not in found:
        raise InputError(f"{run.path} is not a run of finetune.py, which compares arms: name one")
    try:
        errors = {name: math.fsum(arm["valid_error"]) for name, arm in found["arms"].items()}
        best = min(errors, key=lambda name: errors[name])
        file = _classifier_file(run, best)
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise corrupt_file(run.path / RESULT, "it is not that of a comparison") from error
    if file is None:
        raise InputError(f"{run.path} holds no classifier of the arm {best}: have it written again with --resume")
    return best, file


def has_classifier(run: RunFolder, arm: str) -> bool:
    """Whether the best classifier of that arm is there and sound."""
    try:
        file = _classifier_file(run, arm)
        return file is not None and bool(read_classifier(file))
    except ValueError:  # it is written again
        return False


def _classifier_file(run: RunFolder, arm: str) -> Path | None:
    """None where there is none; ValueError for a name that would lead out of the run."""
    if not re.fullmatch(r"[\w-]+(\([\w=,.+-]*\))?(:\w+)?", arm):
        raise ValueError(f"{arm!r} does not name an arm")
    return min((run.path / folder_name(arm)).glob(f"seed-*/{CLASSIFIER}"), default=None)


def folder_name(arm: str) -> str:
    """The folder of an arm: its name, without the colon where the file system forbids it."""
    return arm.replace(":", "-") if os.name == "nt" else arm
