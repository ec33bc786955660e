"""What a run folder holds for its report."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import Tensor

from dbn.data.splits import Splits
from dbn.errors import InputError
from dbn.finetuning.loading import matched
from dbn.models.dbn import DBN
from dbn.runs.folder import RESULT, RunFolder
from dbn.runs.formats import FIT_RECORD, LAYER_RECORD
from dbn.runs.tensorboard import read_events
from dbn.runs.training_data import splits_of

ROWS = 40
"""Validation rows that are reconstructed, and that samples start from."""


@dataclass(frozen=True)
class Events:
    """Texts, the last images and scalars of TensorBoard's event files, by tag."""

    texts: list[tuple[str, int, str]] = field(default_factory=list)
    images: dict[str, tuple[int, bytes]] = field(default_factory=dict)
    scalars: dict[str, dict[int, float]] = field(default_factory=dict)


@dataclass(frozen=True)
class Source:
    """A run to report on, its options, and its data where they are at hand."""

    run: RunFolder
    options: Mapping[str, Any]
    splits: Splits | None = None

    @property
    def name(self) -> str:
        """What the data are called."""
        return str(self.options.get("dataset") or self.run.path.resolve().name)

    @cached_property
    def metrics(self) -> list[dict[str, Any]]:
        """The records of all epochs."""
        return self.run.metrics(FIT_RECORD if "init" in self.options else LAYER_RECORD)

    @cached_property
    def result(self) -> dict[str, Any] | None:
        """result.json, where there is one."""
        return self.run.read_json(RESULT) if (self.run.path / RESULT).is_file() else None

    @cached_property
    def events(self) -> Events:
        """Of the run's own folder."""
        return events_in(self.run.path)

    def rows(self, stack: DBN) -> tuple[Tensor | None, str]:
        """Validation rows as the stack takes them, (N, V), or None and the reason in a sentence."""
        try:
            splits = self.splits or splits_of(self.run.path, kinds=stack.scaling.kinds)
            splits, scaling = matched(splits, [stack])
        except InputError as error:
            return None, f"The data were not at hand ({error})."
        x = splits.valid.x[:ROWS].cpu()
        return (scaling.cpu()(x), "") if len(x) else (None, "There are no validation rows.")


def events_in(folder: Path) -> Events:
    """What the event files of a folder hold; InputError where one is damaged."""
    found = Events()
    for step, value in read_events(folder):
        kind = value.WhichOneof("value")
        if kind == "image":
            found.images[value.tag] = step, value.image.encoded_image_string
        elif kind == "tensor" and value.tag.endswith("/text_summary") and value.tensor.string_val:
            text = value.tensor.string_val[0].decode(errors="replace")
            found.texts.append((value.tag.removesuffix("/text_summary"), step, text))
        elif kind == "tensor" and len(value.tensor.float_val) == 1:
            found.scalars.setdefault(value.tag, {})[step] = value.tensor.float_val[0]
    return found
