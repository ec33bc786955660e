"""Up-down fine-tuning of a label model: contrastive wake-sleep.

Up-pass: states drawn by the recognition weights teach the generative ones to bring them back. Some Gibbs steps in the
top RBM, which learns from the difference. Down-pass: states drawn by the generative weights, from where these steps
ended, teach the recognition ones.

Hinton, Osindero & Teh (2006), "A fast learning algorithm for deep belief nets", section 5 and appendix B.
"""

import copy
from typing import Any

import torch
from torch import Tensor, nn

from dbn.config.label_model import LabelTraining
from dbn.likelihood.conditional_gradient import set_hidden_gradient, set_visible_gradient
from dbn.likelihood.gradient import Means
from dbn.models.passes import states_down, states_up
from dbn.models.rbm import LARGEST, RBM
from dbn.models.values import mean_of
from dbn.pretraining.divergence import Diverged
from dbn.pretraining.label_trainer import LabelMonitor, LabelTrainer
from dbn.pretraining.layer_data import Unlabeled
from dbn.sampling.contrastive_divergence import DataChains

STAGE = 2
"""Of a label model's run, its layer in the log: the first is the training of the top RBM."""


class Untied:
    """The layers below the top RBM with weights of their own upwards and downwards, equal at first."""

    def __init__(self, below: list[RBM]) -> None:
        """below: frozen RBMs, which stay as they are."""
        self.recognition, self.generative = (copy.deepcopy(below) for _ in range(2))
        for way in (self.recognition, self.generative):
            for rbm in way:
                rbm.requires_grad_(True)

    def features(self, rows: Tensor, n_classes: int) -> Tensor:
        """What the top RBM sees of rows (B, V + C), by means: (B, F + C)."""
        h = rows[:, :-n_classes]
        for rbm in self.recognition:
            h = rbm.up(h)
        return torch.cat([h, rows[:, -n_classes:]], 1)

    def parameters(self) -> list[list[nn.Parameter]]:
        """Those that are learned, by layer and way."""
        up = [[rbm.weight, *rbm.hidden.parameters()] for rbm in self.recognition]
        return up + [[rbm.weight, *rbm.visible.parameters()] for rbm in self.generative]


class UpDownMonitor(LabelMonitor):
    """Measures the top RBM on features by the recognition weights, and how well the layers below fit each other."""

    def __init__(self, *layer: Any, untied: Untied, mean_last: bool, n_classes: int) -> None:
        super().__init__(*layer, n_classes=n_classes, samples=True)
        self.layer = STAGE
        self.untied, self.mean_last = untied, mean_last

    def _examples(self) -> dict[str, Tensor]:
        return {name: self.untied.features(rows, self.n_classes) for name, rows in super()._examples().items()}

    @torch.no_grad()
    def metrics(self, epoch: int) -> dict[str, float]:
        """As of `LabelMonitor`, and of each layer below generative_error and recognition_error.

        Squared errors, summed over units, mean over rows: of a state of the up-pass as the generative weights bring it
        back from the layer above; of a state of the down-pass, a Gibbs step from the rows, as the recognition weights
        bring it back from the layer below.
        """
        rows, weights = self.sets[-1].all(), self.sets[-1].weights
        found = super().metrics(epoch)
        noise, top = self._stream("up and down", epoch), self.stack[-1]
        up = states_up(self.untied.recognition, rows[:, : -self.n_classes], noise)
        complete = torch.cat([up[-1], rows[:, -self.n_classes :]], 1)
        end = top.gibbs(complete, 1, noise)[:, : -self.n_classes]
        down = states_down(self.untied.generative, end, noise, mean_last=self.mean_last)
        prefix = "valid_" if len(self.sets) > 1 else ""
        for number, (recognition, generative) in enumerate(
            zip(self.untied.recognition, self.untied.generative, strict=True)
        ):
            back, again = generative.down(up[number + 1]), recognition.up(down[number])
            for name, x, mean in (("generative", up[number], back), ("recognition", down[number + 1], again)):
                error = mean_of((x - mean).square().sum(1), weights)
                found[f"{prefix}{name}_error_{number + 1}"] = float(error)
        return found


class UpDownTrainer(LabelTrainer):
    """`LabelTrainer` of the whole stack, on rows (N, V + C) of scaled values and one-hot labels."""

    rate_option = "--up-down-rate"

    def __init__(self, rbm: RBM, untied: Untied, data: Unlabeled, config: LabelTraining, n_classes: int) -> None:
        """rbm: the top one, which is trained on; `config` is that of its own training."""
        self.untied, self.n_classes = untied, n_classes
        assert isinstance(data.train, Tensor)
        lowest = untied.generative[0].visible
        self.mean_last = not lowest.in_support(data.train[:, :-n_classes])
        """Whether data are gray levels, not states: down-passes then end in means, which are like them."""
        super().__init__(rbm, data, config.of_up_down(), n_classes, layer=STAGE)
        self.below = [*untied.recognition, *untied.generative]
        self.chains = DataChains(self._gibbs_steps(1), mean_last=False)  # down-passes start from states
        self.captured = self._captured()

    def _initialize(self) -> Tensor:
        """Parameters stay; returns the mean of the features and labels."""
        return mean_of(self._visible(self.data.all()), self.data.weights)

    def _learned(self) -> list[list[nn.Parameter]]:
        return [list(self.rbm.parameters()), *self.untied.parameters()]

    def _visible(self, x: Tensor) -> Tensor:
        return self.untied.features(x, self.n_classes)

    def make_monitor(self, data: Unlabeled) -> LabelMonitor:
        """Of rows with labels."""
        how: dict[str, Any] = {"untied": self.untied, "mean_last": self.mean_last, "n_classes": self.n_classes}
        return UpDownMonitor(self.rbm, [], data, self.config, **how)

    @torch.no_grad()
    def set_gradient(self, x: Tensor, number: int, weights: Tensor | None, known: Tensor | None = None) -> Means:
        """Of the top RBM as of any label model, from states of the up-pass; of the layers below by the delta rule."""
        up = states_up(self.untied.recognition, x[:, : -self.n_classes], self.noise)
        means, negatives = self.set_label_gradient(torch.cat([up[-1], x[:, -self.n_classes :]], 1), weights)
        end = negatives[:, : -self.n_classes]
        down = states_down(self.untied.generative, end, self.noise, mean_last=self.mean_last)
        for rbm, v, h in zip(self.untied.generative, up, up[1:], strict=False):
            set_visible_gradient(rbm, v, h, weights)
        for rbm, v, h in zip(self.untied.recognition, down, down[1:], strict=False):
            set_hidden_gradient(rbm, v, h, weights)
        return means

    def check_sound(self, epoch: int) -> None:
        """As of any layer; and Diverged for the layers below."""
        values = [parameter for layer in self.untied.parameters() for parameter in layer]
        if not torch.stack([(value.abs() < LARGEST).all() for value in values]).all():
            raise Diverged(
                f"up-down fine-tuning diverged in epoch {epoch}, weights are infinite or beyond {LARGEST:g}: lower "
                f"{self.rate_option}"
            )
        super().check_sound(epoch)

    def load_state(self, state: dict[str, Any]) -> None:
        """Restore what `state` returned, layers below included."""
        super().load_state(state)
        for rbm, kept in zip(self.below, state["rbms"][:-1], strict=True):
            rbm.load_state_dict(kept)
