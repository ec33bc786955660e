"""What is watched while a layer learns: measured on fixed examples, drawn from streams of its own.

Nothing here touches training: measuring more often, or never, leaves every weight as it is.
"""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Self

import torch

from dbn.annealing import Path, independent
from dbn.evaluation import layer_metrics
from dbn.events import EventLog
from dbn.hyperparameters import Pretraining
from dbn.importance import ais, schedule, summarise
from dbn.layer_data import LayerData, Unlabelled
from dbn.likelihood import pseudo_likelihood
from dbn.pictures import filters, originals_and_reconstructions
from dbn.randomness import always_the_same, stream
from dbn.rbm import RBM
from dbn.runs import RunFolder

MEASURED = 2000
"""Training examples that an epoch's metrics are taken on."""
CHAINS = 100
"""Of a quick estimate of log Z."""
FLIPPED = 500
"""Examples whose pseudo-likelihood is taken: each costs as much as V others."""
PICTURED = 10
"""Examples shown beside their reconstructions."""


class LayerMonitor:
    """Measures the top RBM of a stack on a fixed subset of its training data and on validation data."""

    def __init__(self, rbm: RBM, below: Sequence[RBM], data: Unlabelled, config: Pretraining) -> None:
        self.stack, self.data, self.config = [*below, rbm], data, config
        self.layer = len(self.stack)
        device = data.train.device
        chosen = always_the_same(len(data.train), MEASURED)
        raw = [data.train[chosen.to(device)]] + ([] if data.valid is None else [data.valid])
        self.sets = [
            LayerData(
                examples,
                data.scaling,
                below,
                how="fixed" if config.binarize == "sample" else config.binarize,
                features=config.features,
                noise=lambda epoch: self._stream("measured data", epoch),
            )
            for examples in raw
        ]

    def _stream(self, purpose: str, epoch: int) -> torch.Generator:
        return stream(self.config.seed, purpose, self.layer, epoch, device=self.data.train.device)

    def metrics(self, epoch: int) -> dict[str, float]:
        """See `layer_metrics`."""
        for examples in self.sets:
            examples.prepare(0)
        train, valid = self.sets[0].all(), self.sets[1].all() if len(self.sets) > 1 else None
        return layer_metrics(self.stack[-1], train, valid, self._stream("measuring", epoch))

    @torch.no_grad()
    def likelihood(self, epoch: int) -> dict[str, float]:
        """A quick look at the log-likelihood of the measured sets, in nats, mean over examples.

        Densities are of the data as they are stored, not of standardised values, as scripts/evaluate.py has them.

        log_z: by annealed importance sampling, with log_z_sample_size chains that carry the weight (of `CHAINS`);
        log_likelihood and, of their first 500 examples, pseudo_likelihood of the training subset, valid_… of
        validation data. Optimistic where the sample size is small. Nothing for data that are no states of the
        visible units, such as grey levels.
        """
        rbm = self.stack[-1]
        sets = dict(zip(("", "valid_"), self.sets, strict=False))
        for examples in sets.values():
            examples.prepare(0)
        data = {prefix: examples.all() for prefix, examples in sets.items()}
        if not all(map(rbm.visible.takes, data.values())):
            return {}
        base = independent(rbm, *self.sets[0].moments(), len(self.sets[0]))
        found = summarise(ais(Path(base, rbm), schedule("quick"), CHAINS, self._stream("annealing", epoch)))
        is_density = self.layer == 1 and rbm.visible.domain() is None
        volume = self.data.scaling.log_volume(self.data.train) if is_density else 0.0
        values = {"log_z": found.log_z, "log_z_sample_size": found.effective_sample_size}
        for prefix, x in data.items():
            values[f"{prefix}log_likelihood"] = -float(rbm.free_energy(x).mean()) - found.log_z - volume
            if rbm.visible.domain() is not None:
                values[f"{prefix}pseudo_likelihood"] = float(pseudo_likelihood(rbm, x[:FLIPPED]).mean())
        return values

    @torch.no_grad()
    def draw(self, recorder: "LayerRecorder", epoch: int) -> None:
        """Pictures and histograms of this epoch."""
        rbm, shape = self.stack[-1], self.data.image_shape
        if shape is not None:
            shown = self.data.train if self.data.valid is None else self.data.valid
            x = self.data.scaling(shown[:PICTURED])
            generator = self._stream("pictures", epoch)
            recorder.image(
                "reconstructions",
                originals_and_reconstructions(self.stack, x, shape, self.data.scaling, generator),
                epoch,
            )
            recorder.image("filters", filters(self.stack, shape), epoch)
        self.sets[0].prepare(0)
        recorder.histograms(
            {
                "weight": rbm.weight,
                "visible_bias": rbm.visible.bias,
                "hidden_bias": rbm.hidden.bias,
                "unit_activity": rbm.up(self.sets[0].all()).mean(0),  # hidden_activity is a curve's tag
            },
            epoch,
        )


def forget_after(run: RunFolder, layer: int, epoch: int) -> None:
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
