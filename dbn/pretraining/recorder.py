"""What is written to the run folder while a layer learns."""

import pathlib
from collections.abc import Mapping
from typing import Self

import torch

from dbn.runs.folder import RunFolder
from dbn.runs.tensorboard import EventLog


def rewind_logs(run: RunFolder, layer: int, epoch: int) -> None:
    """Drop from metrics and events what came after that epoch of that layer, before those epochs come again."""

    def is_done(of_layer: int, of_epoch: int) -> bool:
        return (of_layer, of_epoch) <= (layer, epoch)

    run.keep_metrics(lambda record: is_done(record["layer"], record["epoch"]))
    EventLog.keep(run.path, lambda tag, step: is_done(_layer_of(tag), step))


class LayerRecorder:
    """Writes one layer's numbers and pictures into a run folder."""

    def __init__(self, run: RunFolder, layer: int) -> None:
        self.run, self.prefix = run, f"layer{layer}"
        self.events = EventLog(run.path)
        self.events.chart(charts(layer))

    @property
    def files(self) -> list[pathlib.Path]:
        """What the disk must have before a checkpoint counts what is logged as done."""
        return [self.events.file] if self.events.file else []

    def log(self, record: Mapping[str, float]) -> None:
        """One epoch, the same numbers in metrics.jsonl and TensorBoard."""
        self.run.log(record)
        values = {name: value for name, value in record.items() if name not in ("layer", "epoch")}
        self.events.scalars(values, prefix=self.prefix, step=int(record["epoch"]))
        self.events.flush()

    def text(self, name: str, text: str, epoch: int) -> None:
        """A sentence for the TEXT tab."""
        self.events.text(f"{self.prefix}/{name}", text, epoch)

    def image(self, name: str, picture: torch.Tensor, epoch: int) -> None:
        """A picture (C, H, W) in [0, 1]."""
        self.events.images(f"{self.prefix}/{name}", picture, epoch)

    def histograms(self, values: Mapping[str, torch.Tensor], epoch: int) -> None:
        """A histogram for each name."""
        for name, tensor in values.items():
            self.events.histogram(f"{self.prefix}/{name}", tensor, epoch)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        """Write what is still held back, also when training failed: events come from a thread of their own."""
        self.events.close()


def charts(layers: int) -> dict[str, dict[str, list[object]]]:
    """TensorBoard's custom charts: reconstruction error beside KL, for every layer up to this one."""
    names = ("reconstruction_error", "kl", "valid_reconstruction_error", "valid_kl")
    return {
        f"layer {layer}": {
            "reconstruction error and KL": ["Multiline", [f"layer{layer}/{name}" for name in names]],
        }
        for layer in range(1, layers + 1)
    }


def shown_in_bar(record: Mapping[str, float]) -> dict[str, str]:
    """The few numbers that fit beside a progress bar."""
    names = {"reconstruction_error": "error", "valid_kl": "valid KL", "free_energy_gap": "gap"}
    return {short: f"{record[name]:.2f}" for name, short in names.items() if name in record}


def _layer_of(tag: str) -> int:
    """The layer that a tag such as layer2/kl speaks of; 0 for what belongs to the whole run."""
    head = tag.partition("/")[0].removeprefix("layer")
    return int(head) if head.isdigit() else 0
