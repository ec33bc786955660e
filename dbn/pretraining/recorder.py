"""Metrics, images and warnings of a layer, written to the run folder."""

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch

from dbn.config.common import to_dict
from dbn.config.label_model import LabelTraining
from dbn.config.pretraining import Pretraining
from dbn.models.dbn import DBN
from dbn.plotting.images import as_images
from dbn.pretraining.layer_data import Unlabeled
from dbn.runs.curves import PRETRAINING, TIMING, card
from dbn.runs.folder import RunFolder
from dbn.runs.formats import LAYER_RECORD
from dbn.runs.projector import points_of, write_projector
from dbn.runs.tensorboard import EventLog

VALIDATION = "validation"
"""The TensorBoard run of validation data, a folder of its own: TensorBoard gives a color to a run, not to a curve."""

CHARTS = {
    "kl": "KL of the data from their reconstruction (nats)",
    "reconstruction_error": "reconstruction error",
    "free_energy_gap": "free-energy gap (nats)",
    "error": "error of classes (%)",
    "log_loss": "log-loss of classes (nats)",
    "log_likelihood": "log-likelihood (nats)",
}
"""Custom charts of a layer: the curve, and the title."""

SCHEDULES = ("learning_rate", "gibbs_steps", "momentum", "up_down_rate", "up_down_steps")
"""Options that may be a number or a text."""
LIKELIHOODS = ("log_z", "log_z_sample_size", "log_likelihood", "pseudo_likelihood")
UP_DOWN = ("generative_error", "recognition_error")
"""Curves of --likelihood-every, and of up-down fine-tuning."""


def begin_logs(run: RunFolder, config: Pretraining, layer: int, epoch: int) -> None:
    """Drop metrics and events after that epoch of that layer, which is repeated; say what the curves mean."""

    def is_done(of_layer: int, of_epoch: int) -> bool:
        return (of_layer, of_epoch) <= (layer, epoch)

    run.keep_metrics(lambda record: is_done(record["layer"], record["epoch"]), LAYER_RECORD)
    for folder in (run.path, run.path / VALIDATION):
        EventLog.keep(folder, lambda tag, step: (at := _layer_of(tag)) > 0 and is_done(at, step))
    names = shown(config)
    with EventLog(run.path) as events:
        stages = len(config.hidden) + (isinstance(config, LabelTraining) and config.up_down > 0)
        events.chart(charts(stages, names))
        events.text("about", about(config, names), 0)


def end_logs(run: RunFolder, config: Pretraining, data: Unlabeled, stack: DBN | None = None) -> None:
    """The run's row among the hyperparameters, and the codes of validation rows for the projector."""
    with EventLog(run.path) as events:
        events.hparams(columns(config))
    if stack is None or data.valid is None:
        return
    points = points_of(stack.sizes[-1])
    x = data.scaling(data.valid[:points])
    if data.missing:
        x = x.nan_to_num(0.0)
    with torch.no_grad():
        codes, shape = stack.up(x), data.image_shape
    images = None if shape is None else as_images(x, shape, data.scaling)
    if codes.isfinite().all():
        write_projector(run.path, codes.float(), None if data.labels is None else data.labels[:points], images)


def columns(config: Pretraining) -> dict[str, Any]:
    """The row of a run among the hyperparameters, its options apart from those of fine-tuning.

    What may be a schedule or a list is text in every run: TensorBoard hides rows whose type is not that of the column.
    """
    options = to_dict(config)
    kind = "label-model" if isinstance(config, LabelTraining) else "pretrain"
    row: dict[str, Any] = {"command": kind, "hidden": str(options.pop("hidden")), "seed": options.pop("seed")}
    for name, value in options.items():
        if isinstance(value, list):
            value = " ".join(map(str, value))
        row[f"pretrain/{name}"] = str(value) if value is not None and name in SCHEDULES else value
    return row


class LayerRecorder(EventLog):
    """The numbers and images of one layer, in metrics.jsonl and TensorBoard."""

    def __init__(self, run: RunFolder, layer: int) -> None:
        super().__init__(run.path, f"layer{layer}/")
        self.run = run
        self.validation = EventLog(run.path / VALIDATION, self.prefix)

    @property
    def files(self) -> list[Path]:
        """Files that must be on the disk before a checkpoint is."""
        return [file for file in (self.file, self.validation.file) if file]

    def log(self, record: Mapping[str, float]) -> None:
        """One epoch, alike in both; values of validation data in their own run too, under the names of training."""
        self.run.log(record)
        step = int(record["epoch"])
        values = {name: value for name, value in record.items() if name not in ("layer", "epoch")}
        self.scalars(values, step=step)
        valid = {name.removeprefix("valid_"): value for name, value in values.items() if name.startswith("valid_")}
        self.validation.scalars(valid, step=step)
        self.flush()
        self.validation.flush()

    def close(self) -> None:
        """As of `EventLog`, both files."""
        with ExitStack() as both:
            both.callback(self.validation.close)
            super().close()


def shown(config: Pretraining) -> list[str]:
    """The curves that a run with these options may have."""
    left_out = set() if config.likelihood_every else {*LIKELIHOODS}
    if config.estimator == "cd":
        left_out |= {"chain_autocorrelation", "swap_rate", "swap_rate_lowest"}
    if not isinstance(config, LabelTraining):
        left_out |= {"error", "log_loss", *UP_DOWN}
    else:
        left_out |= set() if config.up_down else {*UP_DOWN}
        left_out |= (
            set() if config.weights[1] else {*PRETRAINING} - {"error", "log_loss", "update_ratio", "learning_rate"}
        )
    return [name for name in PRETRAINING if name not in left_out]


def charts(layers: int, names: list[str]) -> dict[str, dict[str, list[object]]]:
    """TensorBoard's custom charts: a curve each, of training and of validation data."""
    titles = {name: title for name, title in CHARTS.items() if name in names}
    return {
        f"layer {layer}": {title: ["Multiline", [f"layer{layer}/{name}$"]] for name, title in titles.items()}
        for layer in range(1, layers + 1)
    }


def about(config: Pretraining, names: list[str]) -> str:
    """The card of a run: what was trained, and what its curves mean."""
    sizes = " – ".join(map(str, config.hidden))
    look = (
        "*Custom Scalars* has the curves to look at first: training data in the color of this run, validation data in "
        f"that of {VALIDATION}. *HParams* has the options of all runs."
    )
    if isinstance(config, LabelTraining):
        what = f"A label model with {sizes} hidden units."
        stages = "Curves of the RBM are under `layer1/`, those of up-down fine-tuning under `layer2/`"
    else:
        what = f"A stack of RBMs with {sizes} hidden units, trained layer by layer."
        look += (
            " *Images* shows filters, reconstructions and samples; where rows are no images, samples are below. The "
            "*Projector* has the codes of validation rows, at the end."
        )
        stages = "Curves are under `layer1/`, `layer2/`, …, from the data upwards"
    return "\n\n".join(
        [
            what,
            look,
            f"{stages}; the step is the epoch.",
            card(PRETRAINING, names),
            "`valid_…` is the same on validation data. Neither the reconstruction error nor the KL is what contrastive "
            "divergence minimizes: read the free-energy gap with them, and a likelihood where that is affordable "
            "(`--likelihood-every`).",
            card(TIMING),
        ]
    )


def shown_in_bar(record: Mapping[str, float]) -> dict[str, str]:
    """The numbers beside a progress bar."""
    names = {"reconstruction_error": "error", "valid_kl": "valid KL", "free_energy_gap": "gap"}
    return {short: f"{record[name]:.2f}" for name, short in names.items() if name in record}


def _layer_of(tag: str) -> int:
    """The layer of a tag such as layer2/kl; 0 for a tag of the whole run."""
    head = tag.partition("/")[0].removeprefix("layer")
    return int(head) if head.isdigit() else 0
