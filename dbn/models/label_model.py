"""Labels in the model: softmax label units beside the features that the top RBM of a stack sees.

    p(y, x) ∝ Σ_h exp(−E([x, e_y], h)),    log p(y | x) = −F(x, y) + const

Without layers below it is the classification RBM. Hinton, Osindero & Teh (2006), "A fast learning algorithm for deep
belief nets"; Larochelle & Bengio (2008), "Classification using discriminative restricted Boltzmann machines".
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dbn.arrays import AnyRows, Array, as_tensor, columns_of
from dbn.errors import InputError, check_types, listed, naming_arguments
from dbn.models.matching import Match, column_order, match
from dbn.models.passes import states_down
from dbn.models.rbm import RBM
from dbn.models.scaling import Scaling
from dbn.models.units.base import Units
from dbn.models.units.categorical import Categorical
from dbn.models.units.mixed import Mixed
from dbn.models.units.naming import make_units, units_of
from dbn.registry import split_sum
from dbn.rng import stream

ROWS_AT_ONCE = 500
"""Whose hidden units are computed for every class together."""


def label_rbm(kind: str, size: int, hidden: Units, n_classes: int) -> RBM:
    """An RBM, its parameters 0, of `size` features of a unit type and a softmax group of the classes after them.

    >>> from dbn.models import Bernoulli
    >>> label_rbm("bernoulli", 20, Bernoulli(5), 3)
    RBM(Mixed(23, parts=20 bernoulli + 3 categorical(states=3)), Bernoulli(5))
    """
    features = kind if split_sum(kind) else f"{size} {kind}"
    visible = make_units(f"{features} + {n_classes} categorical(states={n_classes})", size + n_classes)
    return RBM(visible, hidden)


def label_units(rbm: RBM) -> int:
    """The number of label units of an RBM that `label_rbm` made; InputError for another."""
    labels = list(rbm.visible.each())[-1][0] if isinstance(rbm.visible, Mixed) else rbm.visible
    if not isinstance(labels, Categorical) or labels is rbm.visible:
        raise InputError(f"{rbm.visible.spec} visible units end with no labels: make the RBM with label_rbm")
    return labels.size


def class_fields(rbm: RBM, x: Tensor, n_classes: int) -> Tensor:
    """The input of the hidden units with each class, (B, C, H), by one product of the features x (B, F)."""
    return rbm.hidden_field(F.pad(x, (0, n_classes)))[:, None] + rbm.weight[:, -n_classes:].T


def class_scores(rbm: RBM, fields: Tensor) -> Tensor:
    """−F(x, y) for every class but for what all share, (B, C), in nats, from the `class_fields`.

    Their softmax is p(y | x).
    """
    scores: Tensor = rbm.visible.bias[-fields.shape[1] :] + rbm.hidden.log_partition(fields)
    return scores


class LabelModel(nn.Module):
    """A joint model of rows and labels, trained by `dbn.train_label_model`: it classifies, and samples by class.

    rbm: its visible units are those of the features, then a softmax group of the `classes`. below: the RBMs of a stack
    that make the features; none where the features are the scaled rows themselves. generative_rbms: RBMs of the same
    layers whose weights lead down, where up-down fine-tuning has untied them from those that recognize; by default
    those of `below`. Rows are taken as they are stored, bytes or floats.

    >>> from dbn.models import Bernoulli
    >>> model = LabelModel(label_rbm("bernoulli", 20, Bernoulli(5), 2), ["cat", "dog"])
    >>> model.predict_proba(torch.zeros(1, 20)), model.sample(3, label="dog", steps=2).shape
    (tensor([[0.5000, 0.5000]]), torch.Size([3, 20]))
    """

    def __init__(
        self,
        rbm: RBM,
        classes: Sequence[str],
        below: Iterable[RBM] = (),
        scaling: Scaling | None = None,
        image_shape: tuple[int, int, int] | None = None,
        *,
        generative: bool = True,
        generative_rbms: Iterable[RBM] = (),
    ) -> None:
        super().__init__()
        self.rbms = nn.ModuleList([*below, rbm])
        self.generative_rbms = nn.ModuleList(generative_rbms)
        self.classes = tuple(str(name) for name in classes)
        """Names, in the order of the label units."""
        self.scaling = Scaling(1.0) if scaling is None else scaling
        self.image_shape = image_shape
        """(channels, height, width) where rows are the pixels of an image."""
        self.generative = generative
        """Whether p(x) was learned; the discriminative gradient alone learns p(y | x)."""
        self.history: list[dict[str, Any]] = []
        """Of training: the lines of metrics.jsonl; not saved with the weights."""
        features = rbm.visible.size - len(self.classes)
        group = f"{len(self.classes)} categorical(states={len(self.classes)})"
        if len(self.classes) < 2 or features < 1 or not rbm.visible.spec.endswith(f" + {group}"):
            raise InputError(
                f"{rbm.visible.spec} visible units are no features beside {len(self.classes)} classes: make the RBM "
                "with label_rbm"
            )
        for lower, upper in pairwise(self.layers):
            if lower.hidden.size != (features if upper is rbm else upper.visible.size):
                raise InputError(
                    f"{lower.hidden.size} hidden units cannot feed {upper.visible.spec} ones: make them alike"
                )
        made, wanted = ([str(each) for each in rbms] for rbms in (self.downwards, self.layers[:-1]))
        if made != wanted:
            raise InputError(f"{listed(made)} cannot lead down where {listed(wanted)} lead up: make them alike")

    @property
    def layers(self) -> list[RBM]:
        """The RBMs from the data upwards; the last is that with the labels."""
        return [rbm for rbm in self.rbms if isinstance(rbm, RBM)]

    @property
    def downwards(self) -> list[RBM]:
        """The RBMs below the top whose weights generate, from the data upwards."""
        return [rbm for rbm in self.generative_rbms if isinstance(rbm, RBM)] or self.layers[:-1]

    @property
    def rbm(self) -> RBM:
        """The RBM of features and labels."""
        return self.layers[-1]

    @property
    def n_features(self) -> int:
        """The number of visible units of the top RBM that are no label units."""
        return self.rbm.visible.size - len(self.classes)

    @property
    def width(self) -> int:
        """The number of values of a row of data."""
        values = self.layers[0].visible.size if len(self.layers) > 1 else self.n_features
        return self.scaling.stored_width(values)

    def extra_repr(self) -> str:
        """The width of the rows, and the classes."""
        return f"width={self.width}, classes=[{listed(self.classes)}]"

    def match(self, x: AnyRows, name: str = "x", **known: Any) -> Match:
        """How rows become what the model takes: `dbn.models.matching.match` with the model's scaling."""
        usual: dict[str, Any] = {"width": self.width, "bounded": self.scaling.shift is None}
        return match(self.scaling, x, name, **usual | known)

    def _features(self, rows: AnyRows, found: Match) -> Iterator[Tensor]:
        """What the top RBM sees of matched rows (N, V), a part at a time: means of the layer below, or scaled values.

        (B, F) each.
        """
        device = self.rbm.weight.device
        scaling = found.scaling.to(device)
        for part in rows.split(ROWS_AT_ONCE):
            h: Tensor = scaling(found.rows(part).to(device))
            for rbm in self.layers[:-1]:
                h = rbm.up(h)
            yield h

    def _matched(self, x: Array, divisor: float | None) -> tuple[Tensor, Match]:
        """Rows or images of any library, (N, V), and how they are brought to the model."""
        with naming_arguments():
            order = column_order(self.scaling, columns_of(x), "x", "the model")
            if self.scaling.table:
                rows = self.scaling.coded(x, order)
                return rows, self.match(rows, divisor=divisor, by_row=True)
        rows = as_tensor(x)
        rows = rows.flatten(1) if rows.ndim in (3, 4) else rows
        if rows.ndim != 2 or rows.shape[1] != self.width:
            raise InputError(f"x has shape {tuple(rows.shape)}, but the model takes rows of {self.width} values")
        with naming_arguments():
            return rows, self.match(rows, divisor=divisor, columns=columns_of(x), by_row=True)

    @torch.no_grad()
    def logits(self, rows: AnyRows, found: Match) -> Tensor:
        """log p(y | x) of matched rows (N, V), exact, by free energies: (N, C) on the CPU, in nats."""
        parts = [self.rbm.weight.new_zeros(0, len(self.classes))]
        for features in self._features(rows, found):
            fields = class_fields(self.rbm, features, len(self.classes))
            parts.append(class_scores(self.rbm, fields).log_softmax(1))
        return torch.cat(parts).cpu()

    def log_proba(self, x: Array, *, divisor: float | None = None) -> Tensor:
        """log p(y | x), (N, C) on the CPU, in nats; arguments and InputError as for `predict_proba`."""
        return self.logits(*self._matched(x, divisor))

    def predict_proba(self, x: Array, *, divisor: float | None = None) -> Tensor:
        """Class probabilities p(y | x), (N, C) on the CPU, of rows (N, V), or images (N, H, W) or (N, C, H, W).

        Values of another scale than that of training are brought to it where it is certain what they are; `divisor`
        says it. InputError for rows of another width, and as for `dbn.models.matching.match`.
        """
        return self.log_proba(x, divisor=divisor).exp()

    def predict(self, x: Array, *, divisor: float | None = None) -> list[str]:
        """The most probable class of every row, by name. InputError as for `predict_proba`."""
        return [self.classes[place] for place in self.log_proba(x, divisor=divisor).argmax(1).tolist()]

    def place_of(self, label: object) -> int:
        """The place of a class, named as text or number; InputError where there is none of that name."""
        if str(label) not in self.classes:
            raise InputError(f"there is no class {str(label)!r}, only {listed(self.classes)}: name one of them")
        return self.classes.index(str(label))

    @check_types
    @torch.no_grad()
    def sample(
        self,
        n: int,
        label: str | int | None = None,
        *,
        steps: int = 1000,
        start: Array | None = None,
        generator: torch.Generator | None = None,
        draws: bool = False,
    ) -> Tensor:
        """`n` draws of rows: `steps` Gibbs steps in the top RBM, then down by means; the visible means, (n, V).

        With `label`, the name of a class, the label units stay at it: hidden units of the top are draws from p(h | y).
        The features are their means E[f | h], and so are the layers below, as they were on the way up in training.

        draws: states in place of means in all layers, the visible units included: draws from p(x | y). So are always
        those of categories, as codes. States of features that are far from 0 and 1 lose what the means keep.

        start: rows (n, V), as they are stored, that the chains start from; by default the visible biases of the top
        RBM. generator: on the model's device; by default of seed 0. InputError for a class that there is not, for no
        step, for another number of starting points, and for a model that is not `generative`.
        """
        if not self.generative:
            raise InputError(
                "the model has no distribution of rows to sample, as the discriminative gradient alone learns classes: "
                "train it with the hybrid or the generative gradient"
            )
        if steps < 1:
            raise InputError(f"sampling needs at least one Gibbs step, not {steps}")
        if n < 0:
            raise InputError(f"a number of samples is at least 0, not {n}")
        top = self.rbm
        clamped = None
        if label is not None:
            clamped = F.one_hot(torch.tensor(self.place_of(label)), len(self.classes)).to(top.weight)
        top.check_partition("top RBM")
        generator = stream(0, "sample", device=top.weight.device) if generator is None else generator
        v = top.visible.sample(top.weight.new_zeros(n, top.visible.size), generator)
        if start is not None:
            if len(start) != n:
                raise InputError(f"{n} samples need {n} starting points, not {len(start)}")
            v[:, : self.n_features] = torch.cat(list(self._features(*self._matched(start, None))))
        for _ in range(steps - 1):
            v = top.sample_visible(top.sample_hidden(self._clamp(v, clamped), generator), generator)
        field = top.visible_field(top.sample_hidden(self._clamp(v, clamped), generator))
        if draws or self.scaling.codes is not None:
            h = top.visible.sample(field, generator)[:, : self.n_features]
            h = states_down(self.downwards, h, generator)[0]
            return h if self.scaling.codes is None else self.scaling.inverse(h)
        h = top.visible.mean(field)[:, : self.n_features]
        for rbm in reversed(self.downwards):
            h = rbm.down(h)
        return h

    def cells(self, x: Tensor) -> dict[str, list[Any]]:
        """The columns by name, with the names of categories, of samples (n, V) of a table: see `DBN.cells`."""
        return self.scaling.cells(x)

    def _clamp(self, v: Tensor, label: Tensor | None) -> Tensor:
        """The states v (B, F + C), which are changed, with the label units at the one-hot `label` (C,)."""
        if label is not None:
            v[:, self.n_features :] = label
        return v

    def description(self) -> dict[str, Any]:
        """Everything but the weights, as JSON data."""
        return {
            "layers": [[rbm.visible.description(), rbm.hidden.description()] for rbm in self.layers],
            "classes": list(self.classes),
            "image_shape": list(self.image_shape) if self.image_shape else None,
            **({} if self.generative else {"generative": False}),
            **({"up_down": True} if len(self.generative_rbms) else {}),
            **self.scaling.description(),
        }

    @classmethod
    def from_description(cls, description: Mapping[str, Any]) -> "LabelModel":
        """A model with zero weights, for `load_state_dict`; the inverse of `description`."""
        *below, rbm = _rbms(description["layers"])
        shape = description["image_shape"]
        return cls(
            rbm,
            description["classes"],
            below,
            Scaling.from_description(description),
            tuple(shape) if shape else None,
            generative=bool(description.get("generative", True)),
            generative_rbms=_rbms(description["layers"][:-1]) if description.get("up_down") else (),
        )


def _rbms(layers: Iterable[Sequence[Mapping[str, Any]]]) -> list[RBM]:
    """With zero weights, from the descriptions of visible and hidden units."""
    return [RBM(units_of(visible), units_of(hidden)) for visible, hidden in layers]
