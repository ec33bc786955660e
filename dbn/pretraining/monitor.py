"""What is watched while a layer learns: measured on fixed examples, drawn from streams of its own.

Nothing here touches training: measuring more often, or never, leaves every weight as it is.
"""

from collections.abc import Sequence

import torch

from dbn.config.pretraining import Pretraining
from dbn.likelihood.ais import anneal, estimate_log_z, temperature_schedule
from dbn.likelihood.pseudo_likelihood import pseudo_log_likelihood
from dbn.models.annealing import Path, independent_base
from dbn.models.rbm import RBM
from dbn.plotting.images import filters, originals_and_reconstructions
from dbn.pretraining.layer_data import LayerData, Unlabeled
from dbn.pretraining.metrics import layer_metrics
from dbn.pretraining.recorder import LayerRecorder
from dbn.rng import fixed_subset, stream

MEASURED = 2000
"""Training examples that an epoch's metrics are taken on."""


AIS_CHAINS = 100
"""Of a quick estimate of log Z."""


FLIPPED = 500
"""Examples whose pseudo-likelihood is taken: each costs as much as V others."""


PICTURED = 10
"""Examples shown beside their reconstructions."""


class LayerMonitor:
    """Measures the top RBM of a stack on a fixed subset of its training data and on validation data."""

    def __init__(self, rbm: RBM, below: Sequence[RBM], data: Unlabeled, config: Pretraining) -> None:
        self.stack, self.data, self.config = [*below, rbm], data, config
        self.layer = len(self.stack)
        device = data.train.device
        chosen = fixed_subset(len(data.train), MEASURED)
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

        log_z: by annealed importance sampling, with log_z_sample_size chains that carry the weight (of `AIS_CHAINS`);
        log_likelihood and, of their first 500 examples, pseudo_likelihood of the training subset, valid_… of
        validation data. Optimistic where the sample size is small. Nothing for data that are no states of the
        visible units, such as grey levels.
        """
        rbm = self.stack[-1]
        sets = dict(zip(("", "valid_"), self.sets, strict=False))
        for examples in sets.values():
            examples.prepare(0)
        data = {prefix: examples.all() for prefix, examples in sets.items()}
        if not all(map(rbm.visible.in_support, data.values())):
            return {}
        base = independent_base(rbm, *self.sets[0].moments(), len(self.sets[0]))
        found = estimate_log_z(
            anneal(Path(base, rbm), temperature_schedule("quick"), AIS_CHAINS, self._stream("annealing", epoch))
        )
        is_density = self.layer == 1 and rbm.visible.support() is None
        volume = self.data.scaling.log_abs_det_jacobian(self.data.train) if is_density else 0.0
        values = {"log_z": found.log_z, "log_z_sample_size": found.effective_sample_size}
        for prefix, x in data.items():
            values[f"{prefix}log_likelihood"] = -float(rbm.free_energy(x).mean()) - found.log_z - volume
            if rbm.visible.support() is not None:
                values[f"{prefix}pseudo_likelihood"] = float(pseudo_log_likelihood(rbm, x[:FLIPPED]).mean())
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
