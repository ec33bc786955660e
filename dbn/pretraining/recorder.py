"""Metrics, images and warnings of a layer, written to the run folder."""

from collections.abc import Mapping
from pathlib import Path

from dbn.runs.folder import RunFolder
from dbn.runs.formats import LAYER_RECORD
from dbn.runs.tensorboard import EventLog


def rewind_logs(run: RunFolder, layer: int, epoch: int) -> None:
    """Drop metrics and events after that epoch of that layer, which is repeated."""

    def is_done(of_layer: int, of_epoch: int) -> bool:
        return (of_layer, of_epoch) <= (layer, epoch)

    run.keep_metrics(lambda record: is_done(record["layer"], record["epoch"]), LAYER_RECORD)
    EventLog.keep(run.path, lambda tag, step: is_done(_layer_of(tag), step))


class LayerRecorder(EventLog):
    """The numbers and images of one layer, in metrics.jsonl and TensorBoard."""

    def __init__(self, run: RunFolder, layer: int) -> None:
        super().__init__(run.path, f"layer{layer}/")
        self.run = run
        self.chart(charts(layer))

    @property
    def files(self) -> list[Path]:
        """Files that must be on the disk before a checkpoint is."""
        return [self.file] if self.file else []

    def log(self, record: Mapping[str, float]) -> None:
        """One epoch, alike in both."""
        self.run.log(record)
        values = {name: value for name, value in record.items() if name not in ("layer", "epoch")}
        self.scalars(values, step=int(record["epoch"]))
        self.flush()


def charts(layers: int) -> dict[str, dict[str, list[object]]]:
    """TensorBoard's custom charts: reconstruction error and KL together, for every layer up to this one."""
    names = ("reconstruction_error", "kl", "valid_reconstruction_error", "valid_kl")
    shown = {layer: [f"layer{layer}/{name}" for name in names] for layer in range(1, layers + 1)}
    return {f"layer {layer}": {"reconstruction error and KL": ["Multiline", tags]} for layer, tags in shown.items()}


def shown_in_bar(record: Mapping[str, float]) -> dict[str, str]:
    """The numbers beside a progress bar."""
    names = {"reconstruction_error": "error", "valid_kl": "valid KL", "free_energy_gap": "gap"}
    return {short: f"{record[name]:.2f}" for name, short in names.items() if name in record}


def _layer_of(tag: str) -> int:
    """The layer of a tag such as layer2/kl; 0 for a tag of the whole run."""
    head = tag.partition("/")[0].removeprefix("layer")
    return int(head) if head.isdigit() else 0
