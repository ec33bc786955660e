"""Training of an RBM of features and labels."""

from typing import Any

import torch
from torch import Tensor

from dbn.config.label_model import LabelTraining
from dbn.likelihood.gradient import Means
from dbn.likelihood.label_gradient import Weights, set_label_gradient
from dbn.models.label_model import class_fields, class_scores
from dbn.models.rbm import RBM
from dbn.models.values import mean_of
from dbn.pretraining.layer_data import Unlabeled
from dbn.pretraining.monitor import LayerMonitor
from dbn.pretraining.trainer import LayerTrainer
from dbn.runs.tensorboard import EventLog


class LabelMonitor(LayerMonitor):
    """Measures an RBM of features and labels, on rows with labels."""

    def __init__(self, *layer: Any, n_classes: int, samples: bool) -> None:
        super().__init__(*layer)
        self.n_classes, self.samples = n_classes, samples

    @torch.no_grad()
    def metrics(self, epoch: int) -> dict[str, float]:
        """error (%), log_loss (nats), valid_error and valid_log_loss; and `layer_metrics` of a model that samples."""
        found = super().metrics(epoch) if self.samples else {}
        values: dict[str, Tensor] = {}
        for (prefix, rows), weights in zip(self._examples().items(), (each.weights for each in self.sets), strict=True):
            scores = [label_scores(self.stack[-1], part, self.n_classes) for part in rows.split(500)]
            error, loss = (mean_of(torch.cat(each), weights) for each in zip(*scores, strict=True))
            values |= {f"{prefix}error": 100 * error, f"{prefix}log_loss": loss}
        return found | dict(zip(values, torch.stack(list(values.values())).tolist(), strict=True))

    def _draw_samples(self, recorder: EventLog, x: Tensor, epoch: int) -> None:
        """None: rows are features and labels together."""


def label_scores(rbm: RBM, rows: Tensor, n_classes: int) -> tuple[Tensor, Tensor]:
    """Whether each row (B, F + C), with a one-hot label, is classified wrongly, and −log p(y | x), both (B,)."""
    y = rows[:, -n_classes:].argmax(1)
    log_p = class_scores(rbm, class_fields(rbm, rows[:, :-n_classes], n_classes)).log_softmax(1)
    return (log_p.argmax(1) != y).to(log_p), -log_p.gather(1, y[:, None])[:, 0]


class LabelTrainer(LayerTrainer):
    """`LayerTrainer` of one RBM on rows (N, F + C) of features and one-hot labels, 0 where there is no label."""

    def __init__(
        self, rbm: RBM, data: Unlabeled, config: LabelTraining, n_classes: int, layer: int | None = None
    ) -> None:
        super().__init__(rbm, [], data, config, layer)
        assert isinstance(data.train, Tensor)
        self.n_classes, self.weights = n_classes, Weights(*config.weights)
        has_label = data.train[:, -n_classes:].any(1)
        self.is_plain = not self.weights.discriminative and bool(has_label.all())
        """Whether the gradient is that of any RBM."""
        weights = None if data.weights is None else data.weights[has_label]
        self.monitor = self.make_monitor(data._replace(train=data.train[has_label], weights=weights))

    def make_monitor(self, data: Unlabeled) -> LabelMonitor:
        """Of rows with labels."""
        samples = self.weights.generative > 0
        return LabelMonitor(self.kept, [], data, self.config, n_classes=self.n_classes, samples=samples)

    def set_gradient(self, x: Tensor, number: int, weights: Tensor | None, known: Tensor | None = None) -> Means:
        """See `dbn.likelihood.label_gradient`; chains start at rows with a label drawn where there is none."""
        if self.is_plain:
            return super().set_gradient(x, number, weights)
        return self.set_label_gradient(x, weights)[0]

    def set_label_gradient(self, x: Tensor, weights: Tensor | None) -> tuple[Means, Tensor]:
        """Write the gradient for rows (B, F + C) into `.grad`; the means of the data, and the negative samples."""
        negatives = x[:0]
        if self.weights.generative:
            complete = self._with_labels(x)
            field = self.rbm.hidden_field(complete)
            negatives = self.chains.negatives(self.rbm, complete, field, self.noise).states
        means = set_label_gradient(
            self.rbm, x, self.n_classes, negatives, self.weights, self.offsets, weights, paired=self.paired
        )
        return means, negatives

    def _with_labels(self, x: Tensor) -> Tensor:
        """The rows with a label y ~ p(y | x) where they have none: chains start at complete states."""
        given = x[:, -self.n_classes :]
        scores = class_scores(self.rbm, class_fields(self.rbm, x[:, : -self.n_classes], self.n_classes))
        p = scores.softmax(1)
        # The draw of torch.multinomial, which looks at the values first, for which the host waits.
        drawn = (p / torch.empty_like(p).exponential_(generator=self.noise)).argmax(1, keepdim=True)
        one_hot = torch.zeros_like(given).scatter_(1, drawn, 1.0)
        y = torch.where(given.sum(1, keepdim=True) > 0, given, one_hot)
        return torch.cat([x[:, : -self.n_classes], y], 1)
