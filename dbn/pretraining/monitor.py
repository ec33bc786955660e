"""Measurements and images during training, on fixed examples and from random streams of their own.

Measuring more often, or never, does not change the weights.
"""

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor

from dbn.config.pretraining import Pretraining
from dbn.likelihood.ais import anneal, temperature_schedule
from dbn.likelihood.estimates import estimate_log_z
from dbn.likelihood.pseudo_likelihood import pseudo_log_likelihood
from dbn.models.annealing import Path, independent_base
from dbn.models.rbm import RBM
from dbn.models.values import mean_of
from dbn.plotting.images import filters, name_rows, originals_and_reconstructions
from dbn.pretraining.layer_data import LayerData, Unlabeled
from dbn.pretraining.metrics import layer_metrics
from dbn.pretraining.samples import samples_from, samples_image, samples_table
from dbn.rng import fixed_subset, stream
from dbn.runs.tensorboard import EventLog

MEASURED, FLIPPED, PICTURED = 2000, 500, 10
"""Training examples for metrics; for the pseudo-likelihood, where each costs as much as V others; and in images."""
AIS_CHAINS = 100
"""Of a quick estimate of log Z."""


class LayerMonitor:
    """Measures the top RBM of a stack on a fixed subset of its training data and on validation data."""

    def __init__(self, rbm: RBM, below: Sequence[RBM], data: Unlabeled, config: Pretraining) -> None:
        self.stack, self.data, self.config = [*below, rbm], data, config
        self.layer = len(self.stack)
        device = data.train.device
        chosen = fixed_subset(len(data.train), MEASURED)
        raw = [data.train[chosen.to(device)]] + ([] if data.valid is None else [data.valid])
        weights = (None if data.weights is None else data.weights[chosen.to(device)], data.valid_weights)
        self.sets = [
            LayerData(
                examples,
                data.scaling,
                below,
                how="fixed" if config.binarize == "sample" else config.binarize,
                features=config.features,
                noise=lambda epoch: self._stream("measured data", epoch),
                weights=own,
                missing=data.missing,
            )
            for examples, own in zip(raw, weights, strict=False)
        ]

    def _stream(self, purpose: str, epoch: int) -> torch.Generator:
        return stream(self.config.seed, purpose, self.layer, epoch, device=self.data.train.device)

    def _examples(self) -> dict[str, Tensor]:
        """Those of training under "" and of validation, where there are any, under "valid_"."""
        for examples in self.sets:
            examples.prepare(0)
        return dict(zip(("", "valid_"), (examples.all() for examples in self.sets), strict=False))

    def metrics(self, epoch: int) -> dict[str, float]:
        """See `layer_metrics`."""
        data = self._examples()
        weights = self.sets[0].weights, self.sets[-1].weights
        noise, holes = self._stream("measuring", epoch), None
        if self.data.missing and self.layer == 1:
            holes = self.data.missing, self.sets[0].all_known(), self.sets[-1].all_known()
        return layer_metrics(self.stack[-1], data[""], data.get("valid_"), noise, weights, holes)

    @torch.no_grad()
    def likelihood(self, epoch: int) -> dict[str, float]:
        """Quick estimates of the log-likelihood, nats, mean over examples; of densities, those of the data as stored.

        log_z: by annealed importance sampling; log_z_sample_size: its effective number of the `AIS_CHAINS` chains,
        optimistic where small. log_likelihood and pseudo_likelihood (of `FLIPPED` examples) of the training subset,
        valid_… of validation data. Nothing for data that are not states of the visible units, such as gray levels, and
        where Z is not finite.
        """
        rbm, data = self.stack[-1], self._examples()
        if not (all(map(rbm.visible.in_support, data.values())) and rbm.has_partition()):
            return {}
        base = independent_base(rbm, *self.sets[0].moments(), len(self.sets[0]))
        found = estimate_log_z(
            anneal(Path(base, rbm), temperature_schedule("quick"), AIS_CHAINS, self._stream("annealing", epoch))
        )
        is_density = self.layer == 1 and rbm.visible.sites() is None
        volume = self.data.scaling.log_abs_det_jacobian(cast(Tensor, self.data.train)) if is_density else 0.0
        values = {"log_z": found.log_z, "log_z_sample_size": found.effective_sample_size}
        for (prefix, x), weights in zip(data.items(), (each.weights for each in self.sets), strict=True):
            values[f"{prefix}log_likelihood"] = -float(mean_of(rbm.free_energy(x), weights)) - found.log_z - volume
            if rbm.visible.sites() is not None:
                some, own = x[:FLIPPED], None if weights is None else weights[:FLIPPED]
                values[f"{prefix}pseudo_likelihood"] = float(mean_of(pseudo_log_likelihood(rbm, some), own))
        return values

    @torch.no_grad()
    def draw(self, recorder: EventLog, epoch: int) -> None:
        """Images, or tables of text, and histograms of this epoch."""
        rbm, shape = self.stack[-1], self.data.image_shape
        shown = self.data.train if self.data.valid is None else self.data.valid
        x = self.data.scaling(shown[:PICTURED])
        if self.data.missing:  # which are black, or at their mean
            x = x.nan_to_num(0.0)
        if shape is not None:
            generator = self._stream("pictures", epoch)
            both = originals_and_reconstructions(self.stack, x, shape, self.data.scaling, generator)
            recorder.images("reconstructions", name_rows(both, ["data", "reconstructions"]), epoch)
            recorder.images("filters", filters(self.stack, shape), epoch)
        self._draw_samples(recorder, x, epoch)
        activity = mean_of(rbm.up(self._examples()[""]), self.sets[0].weights)
        recorder.histogram("weight", rbm.weight, epoch)
        recorder.histogram("visible_bias", rbm.visible.bias, epoch)
        recorder.histogram("hidden_bias", rbm.hidden.bias, epoch)
        recorder.histogram("unit_activity", activity, epoch)  # hidden_activity is a curve's tag

    def _draw_samples(self, recorder: EventLog, x: Tensor, epoch: int) -> None:
        """Of the stack so far, from chains that start from scaled rows x."""
        scaling, shape = self.data.scaling, self.data.image_shape
        found = samples_from(self.stack, x, scaling, self._stream("shown samples", epoch))
        if found is None:
            return
        if shape is None:
            recorder.text("samples", samples_table(found, scaling), epoch)
        else:
            recorder.images("samples", samples_image(found, shape, scaling), epoch)
